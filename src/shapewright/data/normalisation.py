"""Where the object is and how large: the sphere that normalised space is built on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras, nearest_point_to_axes
from shapewright.geometry.voxels import carve_box, voxel_centers

MARGIN = 1.05


@dataclass(frozen=True)
class NormalisationReport:
    """Say how the object's sphere was found.

    Args:
        method: ``file``, ``masks``, ``points``, ``lookat`` or ``camera``.
        scale: Radius of the sphere, in world units.
        translation: Centre of the sphere, in world units.
        details: Sentences about how it was found.
    """

    method: str
    scale: float
    translation: Float[np.ndarray, "3"]
    details: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as sentences."""
        x, y, z = self.translation
        return [
            f"normalised by {self.method}: sphere of radius {self.scale:.6g} around ({x:.6g}, {y:.6g}, {z:.6g})",
            *self.details,
        ]


def normalise_by_masks(
    cameras: Cameras, masks: Sequence[Bool[np.ndarray, "h w"]], resolution: int = 64
) -> NormalisationReport:
    """Carve the object from its silhouettes and return the sphere around it.

    The first box is centred where the optical axes meet and reaches half the
    median camera distance; two more passes carve the box of what is left.

    Args:
        cameras: Cameras in world units.
        masks: One silhouette a camera.
        resolution: Voxels along the edge of each box.

    Raises:
        UserError: if nothing is left or the hull touches the first box.
    """
    silhouettes = [torch.from_numpy(mask) for mask in masks]
    center = nearest_point_to_axes(cameras)
    reach = 0.5 * (cameras.centers - center).norm(dim=1).median()
    lower, upper = center - reach, center + reach
    details = [f"first box: half edge {float(reach):.6g} around {_point(center)}"]
    for carving in range(3):
        hull = carve_box(cameras, silhouettes, lower, upper, resolution)
        count = int(hull.sum())
        if count == 0:
            raise UserError(
                "The masks and cameras leave no room for an object: no voxel lies inside 90 % of the masks.",
                "Check that masks and cameras are in the same order, and that masks are white on the object.",
            )
        indices = hull.nonzero()
        if carving == 0 and (int(indices.min()) == 0 or int(indices.max()) == resolution - 1):
            raise UserError(
                "The silhouettes leave an object that reaches the border of the box between the cameras "
                f"({_point(lower)} to {_point(upper)}).",
                "Check that masks are white on the object and black elsewhere, and that the views surround it.",
            )
        kept = voxel_centers(lower, upper, resolution)[hull.flatten()]
        spacing = (upper - lower) / resolution
        lower, upper = kept.amin(0) - 1.5 * spacing, kept.amax(0) + 1.5 * spacing
        details.append(f"carving {carving + 1}: {count} of {resolution**3} voxels kept")
    center = (kept.amin(0) + kept.amax(0)) / 2
    scale = MARGIN * float((kept - center).norm(dim=1).max())
    return NormalisationReport("masks", scale, center.numpy(), tuple(details))


def _point(values: torch.Tensor) -> str:
    """Write a point for people."""
    return "(" + ", ".join(f"{value:.4g}" for value in values.tolist()) + ")"
