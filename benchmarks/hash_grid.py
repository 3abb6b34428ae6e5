"""Hash encoding against the plain way to write it: features, both gradients, and an eikonal step.

    python benchmarks/hash_grid.py [--quick] [--threads 1 2] [--json FILE]

The reference is a loop over levels and corners in eager torch under autograd, as original code bases have it, with the
same tables and the same results.
"""

from __future__ import annotations

from timing import Row, measure, parse_arguments, report  # isort: skip - before torch is loaded
import torch
from torch import Tensor

from shapewright import kernels
from shapewright.kernels import ops

NUM_LEVELS, BASE, FINEST = 16, 16, 2048
# The ratios of the specification: features, with both gradients, eikonal step.
BARS = {15: (32.0, 24.0, 14.5), 19: (7.0, 7.9, 5.0)}
PRIMES = (1, 2654435761, 805459861)


class PlainHashGrid:
    """A hash grid with one table a level, in eager torch."""

    def __init__(self, levels: ops.HashLevels, table: Tensor) -> None:
        self.scales, self.resolutions, self.dense = levels.scales, levels.resolutions, levels.dense
        self.tables = [part.clone().requires_grad_() for part in table.detach().split(list(levels.sizes))]

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features of all levels."""
        return torch.cat([self._level(level, x) for level in range(len(self.scales))], dim=1)

    def _level(self, level: int, x: Tensor) -> Tensor:
        place = self.scales[level] * x + 0.5
        cell = place.detach().floor()
        fraction = place - cell
        cell = cell.long()
        features = 0
        for corner in range(8):
            offset = torch.tensor([corner & 1, corner >> 1 & 1, corner >> 2])
            weight = torch.where(offset.bool(), fraction, 1 - fraction).prod(dim=1, keepdim=True)
            features = features + weight * self.tables[level][self._rows(level, cell + offset)]
        return features

    def _rows(self, level: int, vertex: Tensor) -> Tensor:
        if self.dense[level]:
            resolution = self.resolutions[level]
            return vertex[:, 0] + resolution * (vertex[:, 1] + resolution * vertex[:, 2])
        x, y, z = (vertex[:, axis] * prime for axis, prime in enumerate(PRIMES))
        return (x ^ y ^ z) & (len(self.tables[level]) - 1)


class Jobs:
    """The three jobs of both sides on the same points and tables."""

    def __init__(self, log2_table_size: int, num_points: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.levels = ops.hash_levels(NUM_LEVELS, log2_table_size, BASE, FINEST)
        self.x = torch.rand(num_points, 3, generator=generator)
        self.g = torch.randn(num_points, self.levels.width, generator=generator)
        self.table = (2e-4 * torch.rand(self.levels.rows, 2, generator=generator) - 1e-4).requires_grad_()
        self.plain = PlainHashGrid(self.levels, self.table)

    def features(self) -> Tensor:
        """Encode without gradients."""
        with torch.no_grad():
            return ops.encode(self.x, self.table, self.levels)

    def plain_features(self) -> Tensor:
        """Encode without gradients."""
        with torch.no_grad():
            return self.plain(self.x)

    def gradients(self) -> tuple[Tensor, ...]:
        """Encode, and return the gradients by points and table."""
        x = self.x.clone().requires_grad_()
        return torch.autograd.grad(ops.encode(x, self.table, self.levels), (x, self.table), self.g)

    def plain_gradients(self) -> tuple[Tensor, ...]:
        """Encode, and return the gradients by points and tables."""
        x = self.x.clone().requires_grad_()
        return torch.autograd.grad(self.plain(x), (x, *self.plain.tables), self.g)

    def eikonal(self) -> tuple[Tensor, ...]:
        """Return the gradient by the table of the eikonal loss of the sum of all features."""
        _, normal = ops.value_and_normal(lambda _, y: y.sum(dim=1, keepdim=True), self.x, self.table, self.levels)
        return torch.autograd.grad(_eikonal_loss(normal), self.table)

    def plain_eikonal(self) -> tuple[Tensor, ...]:
        """Return the gradient by the tables of the same loss."""
        x = self.x.clone().requires_grad_()
        (normal,) = torch.autograd.grad(self.plain(x).sum(), x, create_graph=True)
        return torch.autograd.grad(_eikonal_loss(normal), self.plain.tables)

    def check(self) -> None:
        """Raise unless both sides agree; single points may fall into another cell by rounding."""
        assert _typical_error(self.features(), self.plain_features()) < 1e-5
        by_x, by_table = self.gradients()
        plain_by_x, *plain_by_tables = self.plain_gradients()
        assert _typical_error(by_x, plain_by_x) < 1e-4
        assert _typical_error(by_table, torch.cat(plain_by_tables)) < 1e-4
        assert _typical_error(self.eikonal()[0], torch.cat(self.plain_eikonal())) < 1e-4


def _eikonal_loss(normal: Tensor) -> Tensor:
    return ((normal.norm(dim=1) - 1) ** 2).mean()


def _typical_error(result: Tensor, expected: Tensor) -> float:
    return float((result - expected).abs().mean() / expected.abs().mean())


def main() -> None:
    """Measure, print the table, and write the rows."""
    options = parse_arguments(__doc__.splitlines()[0], threads=(1, 2))
    torch.set_flush_denormal(True)
    exponent, repeats = (13, 3) if options.quick else (16, 7)
    rows: list[Row] = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        print(kernels.describe())
        for log2_table_size, bars in BARS.items():
            jobs = Jobs(log2_table_size, 2**exponent)
            jobs.check()
            size = f"2^{exponent} points, T 2^{log2_table_size}"
            pairs = (
                ("forward", jobs.features, jobs.plain_features),
                ("forward + backward", jobs.gradients, jobs.plain_gradients),
                ("eikonal step", jobs.eikonal, jobs.plain_eikonal),
            )
            for (name, ours, reference), bar in zip(pairs, bars, strict=True):
                rows.append(measure(name, size, ours, reference, repeats, bar))
    report(rows, options.json)


if __name__ == "__main__":
    main()
