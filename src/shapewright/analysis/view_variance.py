"""How much a predicted shape changes with the view that it was predicted from."""

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
        over_views: Root mean square distance of vertices from their mean over the views of an object, in its units.
        between_objects: Root mean square distance of these means from their mean over the objects.
    """

    over_views: float
    between_objects: float

    @property
    def entanglement(self) -> float:
        """Return the first over the second: 0 if shapes do not depend on the view; NaN if all objects are alike."""
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
    return ViewVariance(math.sqrt(sum(within) / len(within)), float(between.sqrt()))
