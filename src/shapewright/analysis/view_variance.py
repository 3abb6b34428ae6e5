"""How much a predicted shape, and the code that it came from, change with the view of the picture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range, check_shape


@dataclass(frozen=True)
class ViewVariance:
    """Hold how far vertices stray with the view, and how far they do from object to object.

    Args:
        over_views: Root mean square distance of vertices from their mean over the views of an object, in its units;
            NaN if there is one view.
        between_objects: Root mean square distance of these means from their mean over the objects.
    """

    over_views: float
    between_objects: float

    @property
    def entanglement(self) -> float:
        """Return the first over the second: 0 if shapes do not depend on the view; NaN if that cannot be told."""
        return self.over_views / self.between_objects if self.between_objects > 0 else math.nan


def view_variance(vertices: Float[Tensor, "objects views vertices 3"]) -> ViewVariance:
    """Return how much shapes vary over the views of an object, and between objects.

    Args:
        vertices: Of the meshes predicted from every view, in the object's frame, the same vertex in the same place.

    Raises:
        ValueError: if there is no object, view or vertex.
    """
    check_shape("vertices", vertices, (None, None, None, 3))
    for name, count in zip(("objects", "views", "vertices"), vertices.shape, strict=False):
        check_range(name, count, 1)
    vertices = vertices.detach()
    means = vertices.double().mean(dim=1)
    # One object at a time: the positions of all in double precision may not fit.
    within = [
        float((of_object.double() - mean).square().sum(-1).mean())
        for of_object, mean in zip(vertices, means, strict=True)
    ]
    between = (means - means.mean(dim=0)).square().sum(-1).mean()
    over_views = math.sqrt(sum(within) / len(within)) if vertices.shape[1] > 1 else math.nan
    return ViewVariance(over_views, float(between.sqrt()))


@dataclass(frozen=True)
class CodeShares:
    """Hold what the variance of codes is made of; the shares add up to 1.

    Args:
        objects: Of the objects' mean codes: what an object is, whatever side it is seen from.
        views: Of the views' mean codes: what a side does to the codes of all objects alike.
        interaction: The rest: what a side does to the codes of one object.
    """

    objects: float
    views: float
    interaction: float


def code_shares(codes: Float[Tensor, "objects views code"]) -> CodeShares:
    """Return the analysis of variance of codes by object and view, two ways without replication.

    Args:
        codes: Of the same objects, seen from the same views.

    Returns:
        The shares; NaN if all codes are equal.

    Raises:
        ValueError: if there is no object or view.
    """
    check_shape("codes", codes, (None, None, None))
    for name, count in zip(("objects", "views"), codes.shape, strict=False):
        check_range(name, count, 1)
    centered = codes.detach().double()
    centered = centered - centered.mean(dim=(0, 1))
    whole = centered.square().sum(-1).mean()
    if float(whole) == 0:
        return CodeShares(math.nan, math.nan, math.nan)
    objects, views = (float(centered.mean(dim=axis).square().sum(-1).mean() / whole) for axis in (1, 0))
    return CodeShares(objects, views, max(0.0, 1 - objects - views))
