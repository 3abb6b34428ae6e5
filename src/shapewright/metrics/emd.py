"""The cost of moving one set of points onto another."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_finite, check_shape


def earth_movers_distance(first: Float[Tensor, "points 3"], second: Float[Tensor, "points 3"]) -> float:
    """Return the mean distance of the pairs of the cheapest one-to-one assignment between two sets of points.

    Unlike a Chamfer distance it sees how densely the points lie (Fan et al., arXiv:1612.00603, section 4.2). Exact
    (scipy's assignment): the time grows with the cube of the number of points, 0.3 CPU-s for 1024.

    Raises:
        ValueError: if the sets differ in size or are empty, or a point is not finite.
    """
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    for name, points in (("first", first), ("second", second)):
        check_shape(name, points, (None, 3))
        check_finite(name, points)
    if len(first) != len(second) or not len(first):
        raise ValueError(f"Both sets need the same number of points, got {len(first)} and {len(second)}.")
    costs = cdist(*(points.detach().double().cpu().numpy() for points in (first, second)))
    rows, columns = linear_sum_assignment(costs)
    return float(costs[rows, columns].mean())
