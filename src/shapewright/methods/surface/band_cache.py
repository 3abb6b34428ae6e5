"""A cached grid of the SDF in the box around the object: where rays look before they ask the network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.voxels import visual_hull, voxel_centers

_BAND = 0.06
_REFRESHED_SHARE = 6


@dataclass(frozen=True)
class Box:
    """A cube in normalised space: ``x = lower + side * u`` with u in [0, 1]^3."""

    lower: Float[Tensor, "3"]
    side: float

    def to_unit(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return positions in the cube's own coordinates."""
        return (points - self.lower.to(points.device)) / self.side


def carve(cameras: Cameras, masks: list[Tensor], resolution: int) -> tuple[Box, Bool[Tensor, "g g g"]]:
    """Return a cube around the visual hull of (widened) masks with some room, and the hull carved again inside it.

    Raises:
        UserError: if no voxel lies inside all masks.
    """
    hull = visual_hull(cameras, masks, 96, dilate_px=0)
    if not hull.any():
        raise UserError(
            "No part of the unit sphere lies inside the masks of all views: masks, cameras or normalisation disagree.",
            "Run `shapewright data check` on the scene, or normalise again with `--normalise masks`.",
        )
    index = hull.nonzero().float()
    low, high = index.amin(0) / 48 - 1, (index.amax(0) + 1) / 48 - 1
    side = float((high - low).max()) * 1.06
    center = (low + high) / 2
    local = cameras.transformed(side / 2, center.double())
    fine = visual_hull(local, masks, resolution, dilate_px=0, inside_radius=2.0)
    return Box(center - side / 2, side), fine


def signed_distance_of_voxels(hull: Bool[Tensor, "g g g"], cell: float) -> Float[Tensor, "g g g"]:
    """Return the signed Euclidean distance to the border of a set of voxels, negative inside."""
    inside = hull.numpy()
    outer = distance_transform_edt(~inside)
    inner = distance_transform_edt(inside)
    return torch.from_numpy(((outer - inner) * cell).astype(np.float32))


class BandCache:
    """Hold the SDF at the centres of a cube's cells and refresh it from the network.

    Outside the hull the distance to the hull stays, so no ray is ever sampled there.
    """

    def __init__(self, box: Box, hull: Bool[Tensor, "g g g"]) -> None:
        resolution = hull.shape[0]
        self.box = box
        self.cell = box.side / resolution
        self.hull = hull
        self._hull_distance = signed_distance_of_voxels(hull, self.cell)
        self.values = self._hull_distance.clone()
        self.hull_cells: Int[Tensor, " n"] = hull.reshape(-1).nonzero().squeeze(1)
        self._turn = 0
        unit = torch.ones(3)
        self._centers = voxel_centers(0 * unit, unit, resolution).T.contiguous()

    def refresh(self, evaluate: Callable[[Tensor], Tensor], share: int = _REFRESHED_SHARE) -> None:
        """Evaluate the cells near the surface and every ``share``-th other cell of the hull, in turn.

        Args:
            evaluate: SDF at positions ``[3, n]`` of the unit cube.
            share: Each call takes every so many-th cell, the next ones at the next call.
        """
        flat = self.values.view(-1)
        old = flat[self.hull_cells]
        place = torch.arange(len(self.hull_cells))
        chosen = (old.abs() < _BAND) | (place % share == self._turn % share)
        self._turn += 1
        cells = self.hull_cells[chosen]
        flat[cells] = evaluate(self._centers[:, cells].contiguous())

    def hull_distance(self, points: Float[Tensor, "3 n"]) -> Float[Tensor, " n"]:
        """Return the signed distance to the border of the hull at positions of the unit cube, in world units."""
        # grid_sample names its axes from the last to the first.
        where = (2.0 * points.T.flip(1) - 1.0).view(1, -1, 1, 1, 3)
        grid = self._hull_distance[None, None]
        return torch.nn.functional.grid_sample(grid, where, padding_mode="border", align_corners=False).view(-1)

    def random_points(self, count: int, generator: torch.Generator) -> Float[Tensor, "3 n"]:
        """Return positions of the unit cube, uniform in the hull."""
        cells = self.hull_cells[torch.randint(len(self.hull_cells), (count,), generator=generator)]
        noise = torch.rand(3, count, generator=generator) - 0.5
        return self._centers[:, cells] + noise / self.hull.shape[0]

    def state_dict(self) -> dict[str, Tensor]:
        """Return what an exact continuation needs."""
        return {"values": self.values, "hull": self.hull, "turn": torch.tensor(self._turn)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take over the values and the place in the rotation."""
        self.values.copy_(state["values"])
        self._turn = int(state["turn"])
