"""Where the object is and how large: the sphere that normalised space is built on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras, nearest_point_to_axes
from shapewright.geometry.voxels import box_around, carve_box, silhouette_agreement, voxel_centers

MARGIN = 1.05
FIRST_REACHES = (0.5, 0.75, 1.0)


@dataclass(frozen=True)
class NormalisationReport:
    """Say how the object's sphere was found.

    Args:
        method: ``file``, ``masks``, ``points``, ``lookat`` or ``camera``.
        scale: Radius of the sphere, in world units.
        translation: Centre of the sphere, in world units.
        details: Sentences about how it was found.
        agreement: Intersection over union of carved hull and mask for each view used.
    """

    method: str
    scale: float
    translation: Float[np.ndarray, "3"]
    details: tuple[str, ...] = ()
    agreement: tuple[float, ...] = ()

    def lines(self) -> list[str]:
        """Return the report as sentences."""
        place = _point(torch.from_numpy(self.translation))
        return [f"normalised by {self.method}: sphere of radius {self.scale:.5g} around {place}", *self.details]


def normalise_by_masks(
    cameras: Cameras,
    masks: Sequence[Bool[np.ndarray, "_ _"]],
    names: Sequence[str],
    resolution: int = 64,
) -> NormalisationReport:
    """Carve the object from its silhouettes and return the sphere around it.

    The first box is centred where the optical axes meet and reaches half the
    median camera distance (more if the hull touches its border); two more
    passes carve the box of what is left. The sphere is 1.05 times the hull's.

    Args:
        cameras: Cameras in world units.
        masks: One silhouette a camera.
        names: What reports call the views.
        resolution: Voxels along the edge of each box.

    Raises:
        UserError: if nothing is left or the hull touches every first box.
    """
    silhouettes = [torch.from_numpy(mask) for mask in masks]
    center = nearest_point_to_axes(cameras)
    distance = (cameras.centers - center).norm(dim=1).median()
    for share in FIRST_REACHES:
        lower, upper = center - share * distance, center + share * distance
        hull = carve_box(cameras, silhouettes, lower, upper, resolution)
        if not _touches_border(hull):
            break
    if not bool(hull.any()) or _touches_border(hull):
        raise _carving_error(cameras, silhouettes, names, (lower, upper), bool(hull.any()))
    details = [f"first box reaches {share:g} of the median camera distance around {_point(center)}"]
    for _ in range(2):
        lower, upper = box_around(hull, lower, upper)
        hull = carve_box(cameras, silhouettes, lower, upper, resolution)
    details.append(f"the hull fills {int(hull.sum())} of {resolution}^3 voxels of its box")
    agreement = silhouette_agreement(hull, lower, upper, cameras, silhouettes)
    details.append(_agreement_sentence(agreement, names))
    kept = voxel_centers(lower, upper, resolution)[hull.flatten()]
    center = (kept.amin(0) + kept.amax(0)) / 2
    scale = MARGIN * float((kept - center).norm(dim=1).max())
    return NormalisationReport("masks", scale, center.numpy(), tuple(details), tuple(agreement))


def normalise_by_points(points: Float[np.ndarray, "n 3"]) -> NormalisationReport:
    """Return the sphere of a sparse cloud: 95 % of the kept points lie within 0.9 of its radius.

    A point is kept if each coordinate lies within 1.5 interquartile ranges of the quartiles.

    Raises:
        UserError: if fewer than 10 points are left.
    """
    low, high = np.quantile(points, [0.25, 0.75], axis=0) if len(points) else np.zeros((2, 3))
    fence = 1.5 * (high - low)
    kept = points[((points >= low - fence) & (points <= high + fence)).all(axis=1)]
    if len(kept) < 10:
        raise UserError(
            f"Only {len(kept)} of {len(points)} sparse points can be used to find the object; 10 are needed.",
            "Normalise with `--normalise lookat`, or give masks.",
        )
    center = kept.mean(axis=0)
    scale = float(np.quantile(np.linalg.norm(kept - center, axis=1), 0.95)) / 0.9
    return NormalisationReport("points", scale, center, (f"{len(kept)} of {len(points)} sparse points kept",))


def normalise_by_cameras(cameras: Cameras, method: str) -> NormalisationReport:
    """Return a sphere of half the median camera distance.

    Args:
        cameras: Cameras in world units.
        method: ``lookat`` centres it where the optical axes meet, ``camera`` between the cameras.
    """
    center = nearest_point_to_axes(cameras) if method == "lookat" else cameras.centers.mean(0)
    scale = 0.5 * float((cameras.centers - center).norm(dim=1).median())
    return NormalisationReport(method, scale, center.numpy())


def _touches_border(hull: Bool[Tensor, "g g g"]) -> bool:
    """Return whether a voxel on the border of the box is kept."""
    return any(bool(hull.select(axis, side).any()) for axis in range(3) for side in (0, -1))


def _carving_error(
    cameras: Cameras,
    masks: Sequence[Bool[Tensor, "_ _"]],
    names: Sequence[str],
    box: tuple[Float[Tensor, "3"], Float[Tensor, "3"]],
    any_left: bool,
) -> UserError:
    """Return the error that says why carving failed, and which views disagree."""
    rough = carve_box(cameras, masks, *box, agreement=0.5)
    sentence = _agreement_sentence(silhouette_agreement(rough, *box, cameras, masks), names)
    if any_left:
        return UserError(
            f"The masks leave an object that reaches the border of the box between the cameras; {sentence}.",
            "Check that masks are white on the object and black elsewhere (not inverted), and that all views show it.",
        )
    return UserError(
        f"The masks and cameras leave no room for an object: no voxel lies inside 90 % of the masks; {sentence}.",
        "Check that cameras, pictures and masks are in the same order, and that masks are not inverted.",
    )


def _agreement_sentence(agreement: Sequence[float], names: Sequence[str]) -> str:
    """Say how well hull and masks agree, and where they agree least."""
    worst = np.argsort(agreement)[:3]
    listed = ", ".join(f"{names[i]} {agreement[i]:.2f}" for i in worst)
    return f"hull and masks agree with a median IoU of {np.median(agreement):.2f} (lowest: {listed})"


def _point(values: Tensor) -> str:
    """Write a point for people."""
    return "(" + ", ".join(f"{value:.5g}" for value in values.tolist()) + ")"
