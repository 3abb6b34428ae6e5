"""Pictures from cameras of any kind, as `data render --protocol free` writes them: ``images`` and ``cameras.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from shapewright.data.kato_renders import MANIFEST, Split, named_objects, read_optional
from shapewright.data.picture_scaling import resize_bytes
from shapewright.data.prepared_pictures import ClassArrays, check_half_angle
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable
from shapewright.io.files import read_json
from shapewright.io.images import has_alpha, read_rgba

CAMERAS = "cameras.json"
WHOLE_SPHERE_DEG = (-90.0, 90.0)
HINT = "Render the folder again."
# A camera looks at the origin from at least so far away.
_LEAST_DISTANCE = 1e-6


def free_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes that have objects in a split, sorted; empty if the folder has another format."""
    if not (folder / CAMERAS).is_file() or not (folder / MANIFEST).is_file() or not (folder / "images").is_dir():
        return []
    return sorted(name for name, sets in named_objects(folder).items() if sets.get(split))


def read_free_class(folder: Path, name: str, split: Split, size: int) -> ClassArrays:
    """Return the pictures of a class.

    Where all objects of the folder are seen from the same places, the view is the bin of the pose; else poses are
    binned by angle.

    Args:
        folder: With ``images``, ``cameras.json``, ``dataset.json`` and, for judging, ``voxels.npz``.
        name: The class.
        split: Which set.
        size: Pixels along each side of what is returned.

    Raises:
        UserError: if a file is missing, damaged or without a mask.
    """
    cameras = _read_cameras(folder / CAMERAS)
    ids = named_objects(folder).get(name, {}).get(split, [])
    if not ids:
        raise UserError(f"{folder} has no object of {name} in {split}.", "Check the class and the set.")
    missing = [object_id for object_id in ids if object_id not in cameras["objects"]]
    if missing:
        raise UserError(f"{folder / CAMERAS} has no cameras of {missing[0]}.", HINT)
    poses = {word: _poses(folder / CAMERAS, entry) for word, entry in cameras["objects"].items()}
    if len({len(rows) for rows in poses.values()}) > 1:
        raise UserError(f"Objects in {folder} differ in the number of views.", HINT)
    stacked = np.stack([poses[object_id] for object_id in ids])
    images = np.stack([_read_pictures(folder / "images", object_id, stacked.shape[1], size) for object_id in ids])
    every = list(poses)
    voxels = read_optional(folder / "voxels.npz", len(every))
    points_path = folder / f"{name}_{split}_points.npz"
    points = read_optional(points_path, len(ids))
    if voxels is not None and voxels.shape[1:] != (32, 32, 32):
        raise UserError(f"{folder / 'voxels.npz'} is {list(voxels.shape)}, not [objects, 32, 32, 32].", HINT)
    if points is not None and (points.ndim != 3 or points.shape[2] != 3):
        raise UserError(f"{points_path} is {list(points.shape)}, not [objects, points, 3].", HINT)
    are_shared = all((rows == stacked[0]).all() for rows in poses.values())
    views = np.arange(stacked.shape[1])
    return ClassArrays(
        images,
        stacked[:1] if are_shared else stacked,
        float(cameras["half_angle_deg"]),
        tuple(ids),
        None if are_shared else view_angles_deg(stacked),
        np.broadcast_to(views, stacked.shape[:2]).copy() if are_shared else None,
        len(views) if are_shared else 0,
        BinTable(elevations_deg=WHOLE_SPHERE_DEG),
        None if voxels is None else voxels[[every.index(object_id) for object_id in ids]].astype(bool),
        points,
    )


def view_angles_deg(cameras: Float[np.ndarray, "*n 3 4"]) -> Float[np.ndarray, "*n 2"]:
    """Return the azimuth, from +x towards -z, and the elevation of where cameras stand."""
    x, y, z = np.moveaxis(cameras[..., 3].astype(np.float64), -1, 0)
    return np.degrees(np.stack([np.arctan2(-z, x), np.arctan2(y, np.hypot(x, z))], axis=-1))


def read_free_picture(path: Path, size: int) -> UInt8[np.ndarray, "4 size size"]:
    """Return a picture with its alpha as mask: RGB times mask, then the mask.

    Raises:
        UserError: if the file is missing, damaged, not square, or has no alpha.
    """
    if not has_alpha(path):
        raise UserError(
            f"{path} has no alpha channel, so that the object cannot be told from the background.",
            "Save it as PNG with a transparent background.",
        )
    rgba = read_rgba(path, upright=False).astype(np.uint16)
    if rgba.shape[0] != rgba.shape[1]:
        raise UserError(f"{path} is {rgba.shape[1]}x{rgba.shape[0]}, but must be square.", "Crop or pad the picture.")
    rgba[..., :3] = (rgba[..., :3] * rgba[..., 3:] + 127) // 255
    picture = rgba.astype(np.uint8).transpose(2, 0, 1)
    return picture if len(picture[0]) == size else resize_bytes(picture, size)


def _read_cameras(path: Path) -> dict[str, Any]:
    cameras = read_json(path)
    if not isinstance(cameras.get("objects"), dict) or "half_angle_deg" not in cameras:
        raise UserError(f"{path} has no objects or no half_angle_deg.", HINT)
    check_half_angle(path, cameras["half_angle_deg"])
    return cameras


def _poses(path: Path, entry: Any) -> Float[np.ndarray, "views 3 4"]:
    try:
        poses = np.array(entry["world_from_camera"], dtype=np.float32)
    except (KeyError, TypeError, ValueError):
        poses = np.zeros(0, np.float32)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses) or not np.isfinite(poses).all():
        raise UserError(f"{path} has cameras that are no 4x4 matrices.", HINT)
    if not np.linalg.norm(poses[:, :3, 3], axis=1).min() > _LEAST_DISTANCE:
        raise UserError(f"{path} has a camera within the object, at the origin.", HINT)
    return poses[:, :3]


def _read_pictures(folder: Path, name: str, views: int, size: int) -> UInt8[np.ndarray, "views 4 size size"]:
    return np.stack([read_free_picture(folder / f"{name}_{view}.png", size) for view in range(views)])
