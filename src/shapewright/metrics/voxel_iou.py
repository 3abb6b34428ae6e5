"""How much of their volume two shapes share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.checks import check_range

Inside = Callable[[Float[Tensor, "points 3"]], Bool[Tensor, " points"]]


def volume_iou(
    inside_a: Inside,
    inside_b: Inside,
    lower: Float[Tensor, " 3"],
    upper: Float[Tensor, " 3"],
    num_points: int = 100_000,
    seed: int = 0,
) -> float:
    """Return the volume inside both shapes over the volume inside either, by asking at points of a box.

    The points are a scrambled Sobol sequence, which fills the box more evenly than independent ones.

    Args:
        inside_a: Says of points whether they lie inside, as a winding number above one half or a negative distance.
        inside_b: The same of the other shape.
        lower: Lowest corner of a box that holds both shapes.
        upper: Highest corner.
        num_points: Points asked; the error of a shape that fills 5 % of the box is about 0.002 with 100,000.
        seed: Decides the points.

    Raises:
        ValueError: if the box has no volume, or no point lies inside either shape.
    """
    check_range("num_points", num_points, 1)
    if not bool((upper > lower).all()):
        raise ValueError(f"The box needs a volume, got {lower.tolist()} to {upper.tolist()}.")
    draws = torch.quasirandom.SobolEngine(3, scramble=True, seed=seed).draw(num_points, dtype=torch.float64)
    points = lower + draws.to(lower) * (upper - lower)
    in_a, in_b = inside_a(points), inside_b(points)
    either = int((in_a | in_b).sum())
    if not either:
        raise ValueError(f"None of {num_points} points lies inside either shape: there is no volume to compare.")
    return int((in_a & in_b).sum()) / either
