"""Hash grid in plain torch: the definition, and the oracle of every back end.

With ``p = s x + h``, ``i = floor(p)`` and ``r = p - i``, corner ``o`` in {0,1}^3 of the cell has the weight

    w = B_x B_y B_z,   B_d = phi(r_d) if o_d = 1 else 1 - phi(r_d),   phi(r) = r or r^2 (3 - 2 r) (smoothstep)

and features are ``sum_c w_c t[row_c]`` for each level (Instant NGP, arXiv:2201.05989, eq. 4 and section 3). As a linear
map of the table, ``y = W(x) t``; the kernels are ``W t`` (forward), ``J^T g`` with ``J = dy/dx`` (pull) and ``W^T g``
(scatter). With a direction ``v`` each returns its derivative by ``x`` along ``v``, for which only the weights change:

    forward  sum_d v_d D_d w     pull  [e] sum_d v_d D_de w     scatter  sum_d v_d D_d w
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.kernels.levels import HashGrid

PRIMES = (1, 2654435761, 805459861)


def forward(
    x: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    grid: HashGrid,
    v: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "n width"]:
    """Return ``W(x) t``, or ``J v`` if ``v`` is given; differentiable any number of times."""
    features = [x.new_zeros(len(x), grid.levels.features) for _ in range(grid.levels.num_levels)]
    for corner in _corners(x, grid):
        weight = corner.weight() if v is None else _along(v, corner.slope())
        features[corner.level] = features[corner.level] + weight[:, None] * table[corner.rows]
    return torch.cat(features, dim=-1)


def pull(
    x: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    g: Float[Tensor, "n width"],
    grid: HashGrid,
    v: Float[Tensor, "n 3"] | None = None,
) -> Float[Tensor, "n 3"]:
    """Return ``J^T g``, or its derivative by ``x`` contracted with ``v``; differentiable any number of times."""
    by_level = g.reshape(len(x), grid.levels.num_levels, grid.levels.features)
    out = torch.zeros_like(x)
    for corner in _corners(x, grid):
        slope = corner.slope() if v is None else [_along(v, corner.slope(axis)) for axis in range(3)]
        product = (table[corner.rows] * by_level[:, corner.level]).sum(dim=-1, keepdim=True)
        out = out + torch.stack(slope, dim=-1) * product
    return out


def scatter(
    x: Float[Tensor, "n 3"], g: Float[Tensor, "n width"], grid: HashGrid, v: Float[Tensor, "n 3"] | None = None
) -> Float[Tensor, "rows features"]:
    """Return ``W(x)^T g``, or ``(dW.v)^T g`` if ``v`` is given; differentiable any number of times."""
    by_level = g.reshape(len(x), grid.levels.num_levels, grid.levels.features)
    out = x.new_zeros(grid.levels.rows, grid.levels.features)
    for corner in _corners(x, grid):
        weight = corner.weight() if v is None else _along(v, corner.slope())
        out = out.index_add(0, corner.rows, weight[:, None] * by_level[:, corner.level])
    return out


@dataclass(frozen=True)
class _Corner:
    """One corner of the cells of all points: its rows, and for each axis the weight and its two derivatives."""

    level: int
    rows: Int64[Tensor, " n"]
    factors: tuple[tuple[Tensor, Tensor, Tensor], ...]

    def weight(self) -> Float[Tensor, " n"]:
        """Return ``w``."""
        return self._derivative(0, 0, 0)

    def slope(self, axis: int | None = None) -> list[Float[Tensor, " n"]]:
        """Return ``D_d w`` for the three ``d``, or ``D_de w`` for ``e = axis``."""
        orders = torch.eye(3, dtype=torch.int64).tolist()
        if axis is not None:
            for order in orders:
                order[axis] += 1
        return [self._derivative(*order) for order in orders]

    def _derivative(self, x: int, y: int, z: int) -> Float[Tensor, " n"]:
        return self.factors[0][x] * self.factors[1][y] * self.factors[2][z]


def _along(v: Float[Tensor, "n 3"], slope: list[Float[Tensor, " n"]]) -> Float[Tensor, " n"]:
    return v[:, 0] * slope[0] + v[:, 1] * slope[1] + v[:, 2] * slope[2]


def _corners(x: Float[Tensor, "n 3"], grid: HashGrid) -> Iterator[_Corner]:
    for level in range(grid.active):
        cell, r = _locate(x, grid, level)
        upper = _upper_factors(r, grid.levels.scales[level], grid.smoothstep)
        lower = (1 - upper[0], -upper[1], -upper[2])
        for corner in range(8):
            offset = torch.tensor([corner >> axis & 1 for axis in range(3)], device=x.device)
            chosen = (upper if corner >> axis & 1 else lower for axis in range(3))
            factors = tuple(
                (weight[:, axis], first[:, axis], second[:, axis])
                for axis, (weight, first, second) in enumerate(chosen)
            )
            yield _Corner(level, _row(cell + offset, grid, level), factors)


def _locate(x: Float[Tensor, "n 3"], grid: HashGrid, level: int) -> tuple[Int64[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    p = grid.levels.scales[level] * x + grid.levels.offset
    cell = p.detach().nan_to_num(0.0, 0.0, 0.0).floor().long()
    if grid.levels.dense[level]:
        cell = cell.clamp(0, grid.levels.resolutions[level] - 2)
    return cell, p - cell.to(x.dtype)


def _upper_factors(r: Tensor, scale: float, smoothstep: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight of the upper corner along each axis, and its first and second derivative by position."""
    if smoothstep:
        return r * r * (3 - 2 * r), scale * 6 * r * (1 - r), scale**2 * (6 - 12 * r)
    return r, torch.full_like(r, scale), torch.zeros_like(r)


def _row(vertex: Int64[Tensor, "n 3"], grid: HashGrid, level: int) -> Int64[Tensor, " n"]:
    start, resolution = grid.levels.starts[level], grid.levels.resolutions[level]
    if grid.levels.dense[level]:
        return start + vertex[:, 0] + resolution * (vertex[:, 1] + resolution * vertex[:, 2])
    x, y, z = (vertex[:, axis] * prime for axis, prime in enumerate(PRIMES))
    return start + ((x ^ y ^ z) & (grid.levels.sizes[level] - 1))
