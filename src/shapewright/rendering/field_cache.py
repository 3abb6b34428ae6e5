"""A signed distance function remembered on a grid, so that empty space costs no network."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from shapewright.rendering.traced_rays import CountedField, Rays

COARSE_CELLS = 16
# How fast the field may change per unit of length before a surface can hide in a cell.
STEEPEST = 1.3
# Cells around the least entry that are searched for the least value in between.
WINDOW = 4


class FieldCache:
    """Remember signed distances at cell centres, and in which cells a surface may lie.

    A cell may hold a surface when ``|f| < 1.3 x half its diagonal`` at its
    centre; such cells are marked with their neighbours. A refresh goes from
    16 cells an axis to ``resolution``, and asks the network only inside
    cells that may hold a surface; elsewhere coarse values are interpolated.
    A new cache is outdated, and skips nothing.

    Args:
        resolution: Cells per axis, 16 times a power of two.
        bound: Half the side of the cube that the grid covers.
        device: Where the grid lives.

    Raises:
        ValueError: if ``resolution`` is no such number.
    """

    def __init__(self, resolution: int, bound: float, device: torch.device | str = "cpu") -> None:
        doublings = math.log2(resolution / COARSE_CELLS) if resolution > 0 else -1.0
        if doublings < 0 or doublings != int(doublings):
            raise ValueError(f"resolution must be 16 times a power of two, got {resolution}.")
        self.resolution = resolution
        self.bound = bound
        shape = (resolution,) * 3
        self.values = torch.zeros(shape, device=device)
        self.occupied = torch.ones(shape, dtype=torch.bool, device=device)
        self.is_outdated = True

    @property
    def cell(self) -> float:
        """Side of a cell."""
        return 2.0 * self.bound / self.resolution

    @torch.no_grad()
    def refresh(self, field: CountedField) -> None:
        """Ask the field again, from coarse to fine."""
        size = COARSE_CELLS
        device = self.values.device
        wanted = torch.ones((size,) * 3, dtype=torch.bool, device=device)
        values = torch.zeros((size,) * 3, device=device)
        while True:
            rows = wanted.nonzero()
            centers = (rows + 0.5) * (2.0 * self.bound / size) - self.bound
            found = field(centers)
            index = rows.unbind(-1)
            values[index] = found.float()
            half_diagonal = math.sqrt(3.0) * self.bound / size
            wanted[index] = found.abs() < STEEPEST * half_diagonal
            if size == self.resolution:
                break
            size *= 2
            values, wanted = _interpolated(values), _doubled(wanted)
        self.values = values
        self.occupied = _dilated(wanted)
        self.is_outdated = False

    def compare(self, points: Float[Tensor, "n 3"], sdf: Float[Tensor, " n"]) -> None:
        """Notice from known values whether the surface has moved since the refresh.

        The cache is outdated when more than 5 % of the points near the
        surface, the present or the remembered one, have moved by a cell.
        A little further, surfaces leave the marked cells.
        """
        remembered = self._interpolate(points)
        is_near = torch.minimum(sdf.abs(), remembered.abs()) < 2.0 * self.cell
        has_moved = (sdf - remembered).abs() > self.cell
        self.is_outdated |= bool((is_near & has_moved).sum() > 0.05 * is_near.sum())

    def state_dict(self) -> dict[str, Tensor]:
        """Return what ``load_state_dict`` needs."""
        return {"values": self.values, "occupied": self.occupied, "is_outdated": torch.tensor(self.is_outdated)}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        self.values = tensors["values"].to(self.values.device)
        self.occupied = tensors["occupied"].to(self.values.device)
        self.is_outdated = bool(tensors["is_outdated"])

    def path(self, rays: Rays) -> CachedPath:
        """Return which stretches of the rays a surface may cross."""
        occupied = self._along(rays, self.occupied)
        samples = torch.arange(occupied.shape[1], device=occupied.device)
        ahead = torch.where(occupied, samples, occupied.shape[1]).flip(1)
        return CachedPath(rays.near, self.cell, ahead.cummin(1).values.flip(1).to(torch.int16))

    def closest(self, rays: Rays) -> Float[Tensor, " rays"]:
        """Return the distances at which the remembered field is least, to half a cell."""
        values = self._along(rays, self.values)
        steps = torch.arange(values.shape[1], device=values.device)
        is_beyond = rays.near[:, None] + steps * self.cell > rays.far[:, None]
        rough = rays.near + values.masked_fill(is_beyond, torch.inf).argmin(1) * self.cell
        window = torch.arange(-WINDOW, WINDOW + 0.5, 0.5, device=values.device) * self.cell
        t = torch.maximum(torch.minimum(rough[:, None] + window, rays.far[:, None]), rays.near[:, None])
        least = self._interpolate(rays.points(t)).argmin(1, keepdim=True)
        return t.gather(1, least).squeeze(1)

    def _interpolate(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Return the remembered field between the cells' centres."""
        # The last axis of the grid is z: grid_sample counts its coordinates from there.
        place = (points / self.bound).flip(-1).view(1, 1, 1, -1, 3)
        values = nn.functional.grid_sample(self.values[None, None], place, padding_mode="border", align_corners=False)
        return values.view(points.shape[:-1])

    def _along(self, rays: Rays, grid: Tensor) -> Tensor:
        """Return the grid's entries at steps of one cell from each ray's near end."""
        longest = float((rays.far - rays.near).clamp(min=0.0).max()) if len(rays) else 0.0
        steps = torch.arange(int(longest / self.cell) + 2, device=rays.near.device)
        # Positions in cells, one affine map an axis: the flat index is built without a copy of the points.
        start = (rays.origins + rays.near[:, None] * rays.directions + self.bound) / self.cell
        flat = torch.zeros(len(rays), len(steps), dtype=torch.int32, device=rays.near.device)
        for axis in range(3):
            position = start[:, axis, None] + steps * rays.directions[:, axis, None]
            cell = position.clamp_(0, self.resolution - 1).int()
            flat.mul_(self.resolution).add_(cell)
        return grid.view(-1)[flat]


@dataclass(frozen=True)
class CachedPath:
    """Hold, for steps of one cell along each ray, the next step at which a surface may lie.

    Attributes:
        near: Distance of step 0.
        cell: Length of a step.
        next_step: Index of the first marked step from each step on; their number where none is.
    """

    near: Float[Tensor, " rays"]
    cell: float
    next_step: Int[Tensor, "rays steps"]

    def skip(
        self, rows: Int[Tensor, " n"], distances: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
        """Move the points of some rays out of empty space.

        A step whose cell is not marked is followed by no surface for a whole
        cell, because marked regions are one cell thicker than the surface's.

        Returns:
            distances: Distances that a surface may follow, infinite where none does.
            moved: Whether a point was moved.
        """
        steps = ((distances - self.near[rows]) / self.cell).long()
        count = self.next_step.shape[1]
        following = self.next_step[rows, steps.clamp(0, count - 1)].long()
        moved = following > steps
        target = self.near[rows] + following * self.cell
        target = torch.where(following < count, target, torch.inf)
        return torch.where(moved, target, distances), moved


def _interpolated(grid: Float[Tensor, "g g g"]) -> Float[Tensor, "g2 g2 g2"]:
    """Split each cell in eight and interpolate between the centres."""
    return nn.functional.interpolate(grid[None, None], scale_factor=2, mode="trilinear")[0, 0]


def _doubled(grid: Bool[Tensor, "g g g"]) -> Bool[Tensor, "g2 g2 g2"]:
    """Split each cell in eight."""
    for axis in range(3):
        grid = grid.repeat_interleave(2, axis)
    return grid


def _dilated(grid: Bool[Tensor, "g g g"]) -> Bool[Tensor, "g g g"]:
    """Mark the 26 neighbours of marked cells."""
    for axis in range(3):
        grown = grid.clone()
        size = grid.shape[axis] - 1
        grown.narrow(axis, 0, size).logical_or_(grid.narrow(axis, 1, size))
        grown.narrow(axis, 1, size).logical_or_(grid.narrow(axis, 0, size))
        grid = grown
    return grid
