"""Depth maps from files: NumPy archives, and 16-bit pictures with a camera in JSON beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.free_space import DepthView, PartialScan
from shapewright.io.arrays import read_npz
from shapewright.io.depth_images import read_depth_image
from shapewright.io.files import read_json
from shapewright.io.images import read_mask

DEPTH_SUFFIXES = (".npz", ".png")
CAMERA_HINT = (
    "A depth map needs K (3 x 3, pixels, centres at +0.5) and world_from_camera (3 x 4 or 4 x 4; x right, y down, "
    "z forward): as arrays in the .npz, or in a .json of the same name beside the .png."
)


@dataclass(frozen=True)
class DepthMap:
    """Hold one depth picture as its file states it.

    Args:
        depth: Distance along the optical axis, in world units; 0 or not finite where nothing was measured.
        K: Intrinsics in pixels, pixel centres at +0.5.
        world_from_camera: Pose with OpenCV's axes.
        mask: True on the object; what lies outside is background, seen to be empty. ``None``: pixels without depth
            are unknown.
    """

    depth: Float[np.ndarray, "h w"]
    K: Float[np.ndarray, "3 3"]
    world_from_camera: Float[np.ndarray, "3 4"]
    mask: Bool[np.ndarray, "h w"] | None = None


def read_depth_map(path: Path) -> DepthMap:
    """Return the depth map in a file.

    ``.npz``: arrays ``depth``, ``K``, ``world_from_camera`` and perhaps ``mask``. ``.png``: 16-bit grey, 0 where
    nothing was measured, with ``NAME.json`` holding ``K``, ``world_from_camera``, perhaps ``depth_scale`` (world units
    of one step, 0.001 unless stated) and ``mask`` (name of a picture beside it).

    Raises:
        UserError: if a file is missing or damaged, a size differs, the camera is impossible, or no pixel has a depth.
    """
    suffix = path.suffix.lower()
    if suffix not in DEPTH_SUFFIXES:
        raise UserError(f"{path}: '{path.suffix}' is no depth map.", f"Known: {', '.join(DEPTH_SUFFIXES)}.")
    fields = _from_archive(path) if suffix == ".npz" else _from_picture(path)
    for name in ("depth", "K", "world_from_camera"):
        if name not in fields:
            raise UserError(f"{path} has no {name}.", CAMERA_HINT)
    return _checked(path, fields)


def _from_archive(path: Path) -> dict[str, Any]:
    return dict(read_npz(path))


def _from_picture(path: Path) -> dict[str, Any]:
    """Return the fields of a picture and of the JSON file beside it."""
    steps = read_depth_image(path)
    camera = path.with_suffix(".json")
    if not camera.is_file():
        raise UserError(f"There is no camera {camera.name} beside {path}.", CAMERA_HINT)
    fields = read_json(camera)
    scale = fields.get("depth_scale", 0.001)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
        raise UserError(f"{camera}: depth_scale is {scale!r}.", "It must be positive: world units of one step.")
    fields["depth"] = steps * float(scale)
    if "mask" in fields:
        fields["mask"] = read_mask(path.with_name(str(fields["mask"])), upright=False) > 127
    return fields


def _checked(path: Path, fields: dict[str, Any]) -> DepthMap:
    """Return the fields as a depth map."""
    depth = _numbers(path, "depth", fields["depth"])
    K, pose = (_numbers(path, name, fields[name]) for name in ("K", "world_from_camera"))
    if depth.ndim != 2 or K.shape != (3, 3) or pose.shape not in ((3, 4), (4, 4)):
        sizes = {"depth": depth.shape, "K": K.shape, "world_from_camera": pose.shape}
        raise UserError(f"{path}: the arrays have the shapes {sizes}.", CAMERA_HINT)
    rotation = pose[:3, :3]
    if not (np.isfinite(K).all() and np.isfinite(pose).all() and min(K[0, 0], K[1, 1]) > 0):
        raise UserError(f"{path}: K or world_from_camera is not finite, or a focal length not positive.", CAMERA_HINT)
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
        raise UserError(f"{path}: the rotation of world_from_camera is skewed, scaled or mirrored.", CAMERA_HINT)
    mask = fields.get("mask")
    if mask is not None:
        mask = np.asarray(mask).astype(bool)
        if mask.shape != depth.shape:
            raise UserError(f"{path}: the mask has shape {mask.shape}, the depth {depth.shape}.", "Make them equal.")
    depth = np.where(np.isfinite(depth) & (depth > 0), depth, 0.0)
    on_object = depth > 0 if mask is None else (depth > 0) & mask
    if not on_object.any():
        raise UserError(f"{path}: no pixel of the object has a depth.", "Check the units, and the mask's polarity.")
    return DepthMap(depth, K, pose[:3], mask)


def _numbers(path: Path, name: str, value: Any) -> Float[np.ndarray, "*shape"]:
    try:
        return np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{path}: {name} does not hold rows of numbers.", CAMERA_HINT) from None


def scan_from_depth_map(depth_map: DepthMap, max_points: int = 20_000, seed: int = 0) -> PartialScan:
    """Return the oriented points of a depth map, and what its rays say about space.

    A normal is the cross product of the steps to the neighbours in the row and in the column, on the side where the
    depth changes least, so that it does not reach over a jump; pixels without such neighbours give no point.

    Args:
        depth_map: The picture.
        max_points: Points beyond this number are left out at random.
        seed: Of that choice.

    Raises:
        UserError: if no normal can be found.
    """
    height, width = depth_map.depth.shape
    camera = Cameras(
        torch.from_numpy(depth_map.world_from_camera).float()[None],
        torch.from_numpy(depth_map.K).float()[None],
        torch.tensor([[width, height]]),
    )
    depth = torch.from_numpy(depth_map.depth).float()
    mask = torch.ones_like(depth, dtype=torch.bool) if depth_map.mask is None else torch.from_numpy(depth_map.mask)
    on_object = (depth > 0) & mask
    origins, directions = camera.image_rays(0)
    stretch = (1.0 / (directions @ camera.forward[0])).reshape(height, width)
    lengths = torch.where(on_object, depth * stretch, 0.0)
    lengths = torch.where(mask, lengths, math.inf)
    positions = (origins + torch.where(on_object, lengths, 0.0).reshape(-1, 1) * directions).reshape(height, width, 3)
    normals = _grid_normals(positions, torch.where(on_object, depth, 0.0))
    facing = (normals * directions.reshape(height, width, 3)).sum(-1, keepdim=True)
    normals = torch.where(facing > 0, -normals, normals)
    good = normals.norm(dim=-1) > 0.5
    if not good.any():
        raise UserError("No pixel of the depth map has neighbours with a depth.", "The map is too sparse; fill it.")
    chosen = good.reshape(-1).nonzero()[:, 0]
    order = torch.randperm(len(chosen), generator=torch.Generator().manual_seed(seed))[:max_points]
    chosen = chosen[order.sort().values]
    points, normals = positions.reshape(-1, 3)[chosen], normals.reshape(-1, 3)[chosen]
    return PartialScan(points, normals, camera.centers[0], DepthView(camera, lengths))


def _grid_normals(positions: Float[Tensor, "h w 3"], depth: Float[Tensor, "h w"]) -> Float[Tensor, "h w 3"]:
    """Return unit normals of either sign, zero where a direction has no neighbour."""
    across, along = _smaller_step(positions, depth, 1), _smaller_step(positions, depth, 0)
    return torch.nn.functional.normalize(torch.linalg.cross(across, along), dim=-1, eps=1e-12)


def _smaller_step(positions: Float[Tensor, "h w 3"], depth: Float[Tensor, "h w"], axis: int) -> Float[Tensor, "h w 3"]:
    """Return the step to the next pixel along an axis or from the one before, whichever changes the depth less."""
    step, change = torch.zeros_like(positions), torch.full_like(depth, math.inf)
    size = depth.shape[axis]
    low, high = depth.narrow(axis, 0, size - 1), depth.narrow(axis, 1, size - 1)
    difference = torch.where((low > 0) & (high > 0), (high - low).abs(), math.inf)
    forward = positions.narrow(axis, 1, size - 1) - positions.narrow(axis, 0, size - 1)
    for first in (0, 1):
        own_step, own_change = step.narrow(axis, first, size - 1), change.narrow(axis, first, size - 1)
        better = difference < own_change
        own_step[better] = forward[better]
        own_change[better] = difference[better]
    return step
