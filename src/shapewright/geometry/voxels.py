"""Space carving: which voxels of a box lie inside the silhouettes of all views."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapewright.geometry.cameras import Cameras

CHUNK = 1 << 18


def voxel_centers(
    lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], resolution: int
) -> Float[Tensor, "cells 3"]:
    """Return the centres of the ``resolution^3`` voxels of a box, the last axis fastest."""
    steps = (torch.arange(resolution).to(lower) + 0.5) / resolution
    axes = [lower[i] + (upper[i] - lower[i]) * steps for i in range(3)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).reshape(-1, 3)


def look_up_masks(
    points: Float[Tensor, "n 3"], cameras: Cameras, view: int, mask: Bool[Tensor, "h w"]
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Return which points one view sees (in front, inside the image), and which lie in its mask."""
    height, width = mask.shape
    uv, depth = cameras.project(points, view)
    column, row = uv[:, 0], uv[:, 1]
    sees = (depth > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    zero = torch.zeros((), dtype=torch.long, device=points.device)
    index = torch.where(sees, row.long() * width + column.long(), zero)
    return sees, sees & mask.reshape(-1)[index]


def count_votes(
    points: Float[Tensor, "n 3"], cameras: Cameras, masks: Sequence[Bool[Tensor, "h w"]]
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Return, for each point, by how many views it is seen and in how many masks it lies."""
    seen = torch.zeros(len(points), dtype=torch.int32, device=points.device)
    inside = torch.zeros_like(seen)
    for view, mask in enumerate(masks):
        sees, hit = look_up_masks(points, cameras, view, torch.as_tensor(mask))
        seen += sees
        inside += hit
    return seen, inside


def visual_hull(
    cameras: Cameras,
    masks: Sequence[Bool[Tensor, "h w"]],
    resolution: int = 128,
    dilate_px: int = 6,
    inside_radius: float = 1.05,
    min_seen_share: float = 0.5,
    bounds: float = 1.0,
) -> Bool[Tensor, "g g g"]:
    """Return the voxels of the cube [-bounds, bounds]^3 that no silhouette rules out.

    A voxel is kept if its centre lies within ``inside_radius`` of the origin,
    is seen by at least ``min_seen_share`` of the views, and falls into the
    dilated mask of every view that sees it.

    Args:
        cameras: Cameras of the space that the cube is in.
        masks: One silhouette a view, of that view's size.
        resolution: Voxels along an edge of the cube.
        dilate_px: By how many pixels the masks grow first (a square window).
        inside_radius: Radius of the ball outside which nothing is kept.
        min_seen_share: Share of the views that must see a voxel, in [0, 1].
        bounds: Half the edge of the cube.

    Returns:
        Occupancy, indexed by x, y, z.
    """
    cameras = cameras.to(dtype=torch.float32)
    grown = [dilate(torch.as_tensor(mask), dilate_px) for mask in masks]
    # Views far apart come first: together they rule out most voxels early.
    order = sorted(range(len(grown)), key=lambda view: (view % 8, view))
    corner = torch.full((3,), float(bounds), device=cameras.intrinsics.device)
    points = voxel_centers(-corner, corner, resolution)
    candidates = (points.norm(dim=1) <= inside_radius).nonzero().squeeze(1)
    hull = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    for alive in candidates.split(CHUNK):
        seen = torch.zeros(len(alive), dtype=torch.int32, device=points.device)
        for view in order:
            sees, hit = look_up_masks(points[alive], cameras, view, grown[view])
            keep = ~sees | hit
            alive, seen = alive[keep], (seen + sees)[keep]
        hull[alive[seen >= min_seen_share * len(grown)]] = True
    return hull.reshape(resolution, resolution, resolution)


def carve_box(
    cameras: Cameras,
    masks: Sequence[Bool[Tensor, "h w"]],
    lower: Float[Tensor, "3"],
    upper: Float[Tensor, "3"],
    resolution: int = 64,
    agreement: float = 0.9,
    min_seen_share: float = 0.3,
) -> Bool[Tensor, "g g g"]:
    """Return the voxels of a box that lie inside most of the masks of the views that see them.

    Unlike :func:`visual_hull` one wrong mask does not carve everything away:
    ``max(2, ceil(agreement * seeing))`` masks are enough.

    Args:
        cameras: Cameras of the space that the box is in.
        masks: One silhouette a view, of that view's size.
        lower: Lowest corner of the box.
        upper: Highest corner of the box.
        resolution: Voxels along each edge.
        agreement: Share of the seeing views whose mask must hold the voxel.
        min_seen_share: Share of all views that must see the voxel; it keeps out
            the space before single cameras that no other view looks at.
    """
    center, radius = (lower + upper) / 2, float((upper - lower).max()) / 2
    local = cameras.transformed(radius, center).to(dtype=torch.float32)
    low, high = (lower - center) / radius, (upper - center) / radius
    points = voxel_centers(low.float(), high.float(), resolution)
    seen, inside = count_votes(points, local, masks)
    least_seen = max(2, math.ceil(min_seen_share * len(masks)))
    kept = (seen >= least_seen) & (inside >= torch.ceil(agreement * seen).clamp(min=2))
    return kept.reshape(resolution, resolution, resolution)


def dilate(mask: Bool[Tensor, "h w"], radius_px: int) -> Bool[Tensor, "h w"]:
    """Return the mask grown by ``radius_px`` in the maximum norm (a square window)."""
    if radius_px == 0:
        return mask
    grown = mask[None, None].float()
    for kernel, padding in (((1, 2 * radius_px + 1), (0, radius_px)), ((2 * radius_px + 1, 1), (radius_px, 0))):
        grown = torch.nn.functional.max_pool2d(grown, kernel, stride=1, padding=padding)
    return grown[0, 0] > 0
