"""What is known about a shape: bounds of its signed distance at points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_shape

# Farther than anything in the unit sphere, and finite, so that a scale can be fitted to it.
UNBOUNDED = 100.0


@dataclass(frozen=True)
class Bounds:
    """Hold points at which the signed distance is known to lie between two values.

    A sample has ``low = high``; a point of free space in front of a scan has ``low = 0`` and an unknown ``high``.

    Args:
        points: Positions in the unit sphere.
        low: Least distance; ``-UNBOUNDED``: unknown.
        high: Greatest distance; ``UNBOUNDED``: unknown.
        share: Share of this group in every draw, relative to the other groups.
        weight: Weight in the loss.
    """

    points: Float[Tensor, "n 3"]
    low: Float[Tensor, " n"]
    high: Float[Tensor, " n"]
    share: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_shape("points", self.points, (None, 3))
        for name in ("low", "high"):
            check_shape(name, getattr(self, name), (len(self.points),))
        if not len(self.points):
            raise ValueError("A group of bounds needs at least one point.")


@dataclass(frozen=True)
class Drawn:
    """Hold a draw from the bounds of several shapes.

    Args:
        points: Positions.
        low: Least distances.
        high: Greatest distances.
        weight: Weights in the loss.
    """

    points: Float[Tensor, "shapes n 3"]
    low: Float[Tensor, "shapes n"]
    high: Float[Tensor, "shapes n"]
    weight: Float[Tensor, "shapes n"]

    def only(self, shape: int) -> Drawn:
        """Return the draw of one of the shapes."""
        return Drawn(*(part[shape : shape + 1] for part in (self.points, self.low, self.high, self.weight)))

    def repeated(self, count: int) -> Drawn:
        """Return the draw with each shape ``count`` times in a row."""
        parts = (self.points, self.low, self.high, self.weight)
        return Drawn(*(part.repeat_interleave(count, dim=0) for part in parts))

    def loss(self, predicted: Float[Tensor, "shapes n"], clamp: float) -> Float[Tensor, " shapes"]:
        """Return for each shape the weighted mean of how far the clamped prediction lies outside its bounds.

        With ``low = high`` it is DeepSDF's clamped L1 (arXiv:1901.05103, eq. 4).
        """
        inside = predicted.clamp(-clamp, clamp)
        low, high = self.low.clamp(-clamp, clamp), self.high.clamp(-clamp, clamp)
        violation = (low - inside).relu() + (inside - high).relu()
        return (self.weight * violation).sum(dim=1) / self.weight.sum(dim=1)


def exact(points: Float[Tensor, "n 3"], sdf: Float[Tensor, " n"], share: float = 1.0, weight: float = 1.0) -> Bounds:
    """Return bounds that both equal a known distance."""
    return Bounds(points, sdf, sdf, share, weight)


def from_samples(samples: Float[Tensor, "n 4"]) -> list[Bounds]:
    """Return the bounds of SDF samples, those outside and those inside drawn equally often."""
    groups = []
    for side in (samples[samples[:, 3] > 0], samples[samples[:, 3] <= 0]):
        if len(side):
            groups.append(exact(side[:, :3].contiguous(), side[:, 3].contiguous()))
    return groups


def draw(shapes: Sequence[Sequence[Bounds]], count: int, generator: torch.Generator) -> Drawn:
    """Return ``count`` random points of each shape, its groups in the ratio of their shares."""
    rows = [_draw_shape(groups, count, generator) for groups in shapes]
    return Drawn(*(torch.stack(part) for part in zip(*rows, strict=True)))


def _draw_shape(
    groups: Sequence[Bounds], count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shares = torch.tensor([group.share for group in groups], dtype=torch.float64)
    ends = (shares.cumsum(0) / shares.sum() * count).round().long().tolist()
    parts = []
    for group, start, end in zip(groups, [0, *ends[:-1]], ends, strict=True):
        chosen = torch.randint(len(group.points), (end - start,), generator=generator).to(group.points.device)
        weight = torch.full((end - start,), group.weight, device=group.points.device)
        parts.append((group.points[chosen], group.low[chosen], group.high[chosen], weight))
    return tuple(torch.cat(part) for part in zip(*parts, strict=True))  # type: ignore[return-value]
