"""Whether stored voxels lie as their data set declares: they are compared with hulls that masks carve."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from shapewright.data.picture_sets import PictureSet
from shapewright.geometry.solid_voxels import VoxelRule

# How voxels are turned over, of axes x, y, z.
VARIANTS = ("declared", "x flipped", "y flipped", "z flipped", "x, z swapped")
LEAST_MASK = 0.02
# Objects whose agreement differs by less look the same either way.
LEAST_DIFFERENCE = 0.01
MOST_OBJECTS = 400


@dataclass(frozen=True)
class AxesScores:
    """Hold how well hulls and voxels agree.

    Args:
        iou: Intersection over union, one row an object, one column a variant.
    """

    iou: Float64[np.ndarray, "objects 5"]

    def joined(self, other: AxesScores) -> AxesScores:
        """Return the scores of both."""
        return AxesScores(np.concatenate([self.iou, other.iou]))

    def telling(self, variant: int) -> Bool[np.ndarray, " objects"]:
        """Return the objects on which a variant differs from what is declared."""
        return abs(self.iou[:, variant] - self.iou[:, 0]) > LEAST_DIFFERENCE

    def better_than_declared(self) -> list[str]:
        """Return the variants that agree better with the hulls, on the objects on which they differ."""
        better = []
        for variant, name in enumerate(VARIANTS[1:], start=1):
            told = self.telling(variant)
            if told.any() and self.iou[told, variant].mean() > self.iou[told, 0].mean():
                better.append(name)
        return better

    def verdict(self) -> str:
        """Return in words which axes are right, and which cannot be told from their mirror image."""
        better = self.better_than_declared()
        if better:
            return f"better {' and '.join(better)}"
        ties = [name for variant, name in enumerate(VARIANTS[1:], 1) if not self.telling(variant).any()]
        rare = [
            f"{name}: {int(self.telling(variant).sum())} of {len(self.iou)} objects tell"
            for variant, name in enumerate(VARIANTS[1:], 1)
            if 0 < self.telling(variant).mean() < 0.5
        ]
        notes = [*(f"{name} is a tie" for name in ties), *rare]
        return "as declared" + (f" ({', '.join(notes)})" if notes else "")


def score_axes(pictures: PictureSet, rule: VoxelRule) -> AxesScores:
    """Return how well the voxels agree with the hulls of the masks, as they are and turned over.

    A cell is in the hull if its centre falls on a mask above 0.02, grown by a pixel, in every view. Hulls are larger
    than what they enclose, so that the values themselves are low; how they compare tells the axes.

    Args:
        pictures: With voxels, and several views; of more than 400 objects some are taken, evenly.
        rule: How the voxels were made; it says where cells lie.

    Raises:
        ValueError: if there are no voxels.
    """
    if pictures.voxels is None:
        raise ValueError("pictures need voxels.")
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), MOST_OBJECTS)).round().astype(int))
    rows = []
    pixels: tuple[Int64[Tensor, "views cells"], Bool[Tensor, "views cells"]] | None = None
    for number in chosen.tolist():
        if pixels is None or not pictures.views.is_shared:
            pixels = _cell_pixels(pictures, number, rule)
        hull = _hull(pictures, number, *pixels)
        grid = np.asarray(pictures.voxels[number])
        variants = (grid, grid[::-1], grid[:, ::-1], grid[:, :, ::-1], grid.transpose(2, 1, 0))
        rows.append([float((one & hull).sum() / max((one | hull).sum(), 1)) for one in variants])
    return AxesScores(np.array(rows))


def cell_centers(rule: VoxelRule) -> Float[Tensor, "cells 3"]:
    """Return where the centres of a rule's cells lie, the last axis fastest."""
    steps = (torch.arange(rule.resolution) + 0.5 - rule.resolution / 2) / rule.scale
    return torch.cartesian_prod(steps, steps, steps)


def _cell_pixels(
    pictures: PictureSet, number: int, rule: VoxelRule
) -> tuple[Int64[Tensor, "views cells"], Bool[Tensor, "views cells"]]:
    """Return the pixel that each cell's centre falls on in each view of an object, and if there is one."""
    size = pictures.size if pictures.targets is None else pictures.targets.shape[-1]
    views = torch.arange(pictures.num_views)
    cells = cell_centers(rule).expand(len(views), -1, -1)
    screen = pictures.views.project(cells, torch.full_like(views, number), views, size)[..., :2].floor().long()
    inside = ((screen >= 0) & (screen < size)).all(-1)
    x, y = screen.clamp(0, size - 1).unbind(-1)
    return y * size + x, inside


def _hull(
    pictures: PictureSet, number: int, pixels: Int64[Tensor, "views cells"], inside: Bool[Tensor, "views cells"]
) -> Bool[np.ndarray, "g g g"]:
    """Return the cells of an object that no view rules out."""
    views = torch.arange(pictures.num_views)
    masks = pictures.masks(torch.full_like(views, number), views) > LEAST_MASK
    grown = torch.nn.functional.max_pool2d(masks[:, None].float(), 3, stride=1, padding=1)[:, 0] > 0
    hull = (grown.flatten(1).gather(1, pixels) & inside).all(0)
    side = round(len(hull) ** (1 / 3))
    return hull.reshape(side, side, side).numpy()
