"""Space carving: which voxels of a box lie inside the silhouettes of all views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from torch import Tensor

from shapewright.geometry.cameras import Cameras

CHUNK = 1 << 18


def voxel_centers(lower: Float[Tensor, "3"], upper: Float[Tensor, "3"], resolution: int) -> Float[Tensor, "cells 3"]:
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
    points: Float[Tensor, "n 3"], cameras: Cameras, masks: Sequence[Bool[Tensor, "_ _"]]
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
    masks: Sequence[Bool[Tensor, "_ _"]],
    resolution: int = 128,
    dilate_px: int = 6,
    inside_radius: float = 1.05,
    min_seen_share: float = 0.5,
) -> Bool[Tensor, "g g g"]:
    """Return the voxels of the cube [-1, 1]^3 that no silhouette rules out.

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

    Returns:
        Occupancy, indexed by x, y, z.
    """
    cameras = cameras.to(dtype=torch.float32)
    grown = [dilate(torch.as_tensor(mask), dilate_px) for mask in masks]
    # Views far apart come first: together they rule out most voxels early.
    order = sorted(range(len(grown)), key=lambda view: (view % 8, view))
    corner = torch.ones(3, device=cameras.intrinsics.device)
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
    masks: Sequence[Bool[Tensor, "_ _"]],
    lower: Float[Tensor, "3"],
    upper: Float[Tensor, "3"],
    resolution: int = 64,
    agreement: float = 0.9,
) -> Bool[Tensor, "g g g"]:
    """Return the voxels of a box that lie inside most of the masks of the views that see them.

    Unlike :func:`visual_hull` one wrong mask does not carve everything away:
    ``max(2, ceil(agreement * seeing))`` masks are enough. At least half of the
    views must see a voxel, and at least 80 % some voxel of each connected
    piece: that keeps out the corners into which few views look.

    Args:
        cameras: Cameras of the space that the box is in.
        masks: One silhouette a view, of that view's size.
        lower: Lowest corner of the box.
        upper: Highest corner of the box.
        resolution: Voxels along each edge.
        agreement: Share of the seeing views whose mask must hold the voxel.

    Returns:
        Occupancy, indexed by x, y, z.
    """
    center, radius = (lower + upper) / 2, float((upper - lower).max()) / 2
    # Around the box float32 is exact enough, whatever the world's units are.
    local = cameras.transformed(radius, center).to(dtype=torch.float32)
    low, high = (lower - center) / radius, (upper - center) / radius
    points = voxel_centers(low.float(), high.float(), resolution)
    seen, inside = count_votes(points, local, masks)
    enough = torch.ceil(agreement * seen).clamp(min=2)
    kept = (seen >= max(2, len(masks) / 2)) & (inside >= enough)
    shape = (resolution, resolution, resolution)
    return _pieces_with(kept.reshape(shape), (seen >= 0.8 * len(masks)).reshape(shape))


def _pieces_with(hull: Bool[Tensor, "g g g"], anchors: Bool[Tensor, "g g g"]) -> Bool[Tensor, "g g g"]:
    """Return the pieces of a hull (corners connect) that hold an anchor; all of them if none does."""
    labels, _ = ndimage.label(hull.cpu().numpy(), structure=np.ones((3, 3, 3)))
    wanted = np.unique(labels[(hull & anchors).cpu().numpy()])
    return torch.from_numpy(np.isin(labels, wanted)).to(hull.device) if len(wanted) else hull


def box_around(
    hull: Bool[Tensor, "g g g"], lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "3"], Float[Tensor, "3"]]:
    """Return the box of the voxels of a hull (not empty), one voxel wider on each side."""
    spacing = (upper - lower) / hull.shape[0]
    indices = hull.nonzero()
    return lower + (indices.amin(0) - 1) * spacing, lower + (indices.amax(0) + 2) * spacing


def surface_voxels(hull: Bool[Tensor, "g g g"]) -> Int[Tensor, "n 3"]:
    """Return the indices of the voxels with an empty face neighbour; outside the grid is empty."""
    padded = torch.nn.functional.pad(hull, (1, 1, 1, 1, 1, 1))
    buried = hull.clone()
    for axis in range(3):
        for shift in (-1, 1):
            buried &= padded.roll(shift, axis)[1:-1, 1:-1, 1:-1]
    return (hull & ~buried).nonzero()


def surface_samples(
    hull: Bool[Tensor, "g g g"], lower: Float[Tensor, "3"], upper: Float[Tensor, "3"]
) -> tuple[Float[Tensor, "n 3"], float]:
    """Return 3x3x3 points in each surface voxel of a hull, and their largest spacing."""
    voxel = (upper - lower) / torch.tensor(hull.shape).to(lower)
    offsets = torch.tensor([-1.0, 0.0, 1.0]).to(lower) / 3
    block = torch.cartesian_prod(offsets, offsets, offsets) + 0.5
    indices = surface_voxels(hull).to(lower)
    return lower + ((indices[:, None] + block) * voxel).flatten(0, 1), float(voxel.max()) / 3


def hull_silhouette(samples: Float[Tensor, "n 3"], spacing: float, cameras: Cameras, view: int) -> Bool[Tensor, "h w"]:
    """Return the outline of a hull in one view, in an image small enough to leave no holes.

    Args:
        samples: The points of :func:`surface_samples`.
        spacing: Their spacing.
        cameras: Cameras of the same space.
        view: Which camera.
    """
    depth = cameras.project(samples, view)[1]
    nearest = float(depth[depth > 0].min()) if bool((depth > 0).any()) else 1.0
    focal = float(cameras.intrinsics[view, :2, :2].diagonal().max())
    shrink = min(1.0, max(nearest / (focal * spacing), 0.02))
    small = cameras[view].scaled(shrink)
    width, height = small.sizes[0].tolist()
    full = torch.ones(height, width, dtype=torch.bool, device=samples.device)
    sees, _ = look_up_masks(samples, small, 0, full)
    uv = small.project(samples[sees], 0)[0].long()
    outline = torch.zeros_like(full)
    outline[uv[:, 1], uv[:, 0]] = True
    return outline


def resize_mask(mask: Bool[Tensor, "h w"], width: int, height: int) -> Bool[Tensor, "height width"]:
    """Return a mask at another size: the value at each new pixel's centre."""
    rows = ((torch.arange(height) + 0.5) * mask.shape[0] / height).long()
    columns = ((torch.arange(width) + 0.5) * mask.shape[1] / width).long()
    return mask[rows[:, None], columns[None, :]]


def silhouette_agreement(
    hull: Bool[Tensor, "g g g"],
    lower: Float[Tensor, "3"],
    upper: Float[Tensor, "3"],
    cameras: Cameras,
    masks: Sequence[Bool[Tensor, "_ _"]],
) -> list[float]:
    """Return the intersection over union of hull and mask in each view (1 where both are empty)."""
    center = (lower + upper) / 2
    local = cameras.transformed(1.0, center).to(dtype=torch.float32)
    samples, spacing = surface_samples(hull, (lower - center).float(), (upper - center).float())
    scores = []
    for view, mask in enumerate(masks):
        outline = hull_silhouette(samples, spacing, local, view)
        small = resize_mask(torch.as_tensor(mask), outline.shape[1], outline.shape[0])
        union = int((outline | small).sum())
        scores.append(int((outline & small).sum()) / union if union else 1.0)
    return scores


def dilate(mask: Bool[Tensor, "h w"], radius_px: int) -> Bool[Tensor, "h w"]:
    """Return the mask grown by ``radius_px`` in the maximum norm (a square window)."""
    if radius_px == 0:
        return mask
    size, grown = 2 * radius_px + 1, mask[None, None].float()
    for kernel, padding in (((1, size), (0, radius_px)), ((size, 1), (radius_px, 0))):
        grown = torch.nn.functional.max_pool2d(grown, kernel, stride=1, padding=padding)
    return grown[0, 0] > 0
