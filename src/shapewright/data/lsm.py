"""The renderings of LSM: 20 random views of each object in ``renders/{class}/{id}``, split by ``splits.json``."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy.io import loadmat

from shapewright.data.capture import listed
from shapewright.data.kato_renders import Split, read_optional
from shapewright.data.picture_scaling import resize_bytes
from shapewright.data.prepared_pictures import Allocate, ClassArrays, in_memory
from shapewright.errors import UserError
from shapewright.geometry.orbit import LSM_HALF_ANGLE_DEG, cameras_around
from shapewright.geometry.published_frames import eye_of_view
from shapewright.geometry.solid_voxels import world_axes
from shapewright.io.files import read_json
from shapewright.io.images import has_alpha, read_image, read_mask, read_rgba

logger = logging.getLogger(__name__)

# Depth pictures, as 8 bits: what is as far as this is background.
FARTHEST_DEPTH = 250
SPLIT_FILE = "splits.json"
PARTS = ("renders", "voxels/modelVoxels32")

LsmAxes = Literal["x y z", "original"]


@dataclass(frozen=True)
class LsmView:
    """Hold one row of ``view.txt``.

    Args:
        azimuth_deg: From +x of the world towards -z.
        elevation_deg: Above the horizon.
        distance: Of the camera from the origin.
    """

    azimuth_deg: float
    elevation_deg: float
    distance: float


def lsm_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes that have objects in a split, sorted; empty if the folder has another format."""
    if not (folder / SPLIT_FILE).is_file() or not (folder / "renders").is_dir():
        return []
    sets = read_json(folder / SPLIT_FILE)
    return sorted(name for name in sets if _present(folder, name, _named(folder, sets, name, split)))


def read_lsm_class(
    folder: Path,
    name: str,
    split: Split,
    size: int,
    axes: LsmAxes = "x y z",
    allocate: Allocate = in_memory,
) -> ClassArrays:
    """Return all views of the objects of a class.

    The mask is where the depth, as 8 bits, is below 250; alpha, where there is one, only composites colours on black.

    Args:
        folder: With ``renders``, ``splits.json`` and, for judging, ``voxels/modelVoxels32``.
        name: The class, as the folders are named.
        split: Which set.
        size: Pixels along each side of what is returned.
        axes: Of the stored voxels.
        allocate: Return the array that the pictures go to.

    Raises:
        UserError: if a file is missing or damaged, or objects differ in the number of views.
    """
    every = _named(folder, read_json(folder / SPLIT_FILE), name, split)
    ids = _present(folder, name, every)
    missing = len(every) - len(ids)
    if not ids:
        raise UserError(
            f"None of the objects that {SPLIT_FILE} names for {name} in {split} has a folder in {folder / 'renders'}.",
            "Unpack the class's archive below renders.",
        )
    if missing:
        logger.warning("%d objects of %s in %s have no pictures in %s: left out.", missing, name, split, folder)
    views = [read_views(folder / "renders" / name / object_id / "view.txt") for object_id in ids]
    count = len(views[0])
    for object_id, rows in zip(ids, views, strict=True):
        if len(rows) != count:
            raise UserError(
                f"{name}/{object_id} has {len(rows)} views, but {ids[0]} has {count}.", "Copy the object again."
            )
    images = allocate((len(ids), count, 4, size, size))
    for number, object_id in enumerate(ids):
        where = folder / "renders" / name / object_id
        images[number] = np.stack([read_picture(where, view, size) for view in range(count)])
    points = read_optional(folder / f"{name}_{split}_points.npz", len(every))
    angles = np.array([[(row.azimuth_deg, row.elevation_deg) for row in rows] for rows in views])
    return ClassArrays(
        images,
        lsm_cameras(views),
        LSM_HALF_ANGLE_DEG,
        tuple(ids),
        angles,
        voxels=_read_voxels(folder, name, ids, axes),
        points=None if points is None else points[[every.index(object_id) for object_id in ids]],
    )


def read_views(path: Path) -> list[LsmView]:
    """Return the rows of ``view.txt``: azimuth, elevation, something unused, distance.

    Raises:
        UserError: if the file is missing, or a row has no four finite numbers or no distance.
    """
    try:
        rows = np.loadtxt(path, dtype=np.float64, ndmin=2)
    except (OSError, ValueError) as problem:
        raise UserError(f"{path} cannot be read: {problem}.", "Copy the object again.") from None
    if rows.shape[0] == 0 or rows.shape[1] < 4 or not np.isfinite(rows[:, :4]).all() or (rows[:, 3] <= 0).any():
        raise UserError(
            f"{path} holds no views: each row needs azimuth, elevation, a number that is not used, and a distance.",
            "Copy the object again.",
        )
    return [LsmView(float(row[0]), float(row[1]), float(row[3])) for row in rows]


def lsm_cameras(views: list[list[LsmView]]) -> Float[np.ndarray, "objects views 3 4"]:
    """Return ``world_from_camera`` of the views of objects, which all have the same number of them."""
    rows = torch.tensor(
        [(row.distance, row.elevation_deg, row.azimuth_deg) for rows in views for row in rows], dtype=torch.float64
    )
    # Poses do not depend on the pictures' size.
    cameras = cameras_around(eye_of_view(*rows.unbind(1)), 64, LSM_HALF_ANGLE_DEG)
    return cameras.world_from_camera.float().reshape(len(views), -1, 3, 4).numpy()


def read_picture(folder: Path, view: int, size: int) -> UInt8[np.ndarray, "4 size size"]:
    """Return one picture: RGB on black, then the mask of its depth.

    Raises:
        UserError: if a file is missing, damaged or not square, or the two differ in size.
    """
    path, depth_path = folder / f"render_{view}.png", folder / f"depth_{view}.png"
    mask = read_mask(depth_path, upright=False) < FARTHEST_DEPTH
    if has_alpha(path):
        rgba = read_rgba(path, upright=False).astype(np.uint16)
        rgb = (rgba[..., :3] * rgba[..., 3:] + 127) // 255
    else:
        rgb = read_image(path, upright=False).astype(np.uint16)
    if rgb.shape[:2] != mask.shape:
        raise UserError(f"{path} and {depth_path.name} differ in size.", "Copy the object again.")
    if mask.shape[0] != mask.shape[1]:
        raise UserError(f"{path} is {mask.shape[1]}x{mask.shape[0]}, but must be square.", "Copy the object again.")
    planes = np.concatenate([rgb * mask[..., None], 255 * mask[..., None]], axis=2).astype(np.uint8)
    picture = planes.transpose(2, 0, 1)
    return picture if picture.shape[1:] == (size, size) else resize_bytes(picture, size)


def read_volume(path: Path, axes: LsmAxes) -> Bool[np.ndarray, "32 32 32"]:
    """Return the voxels in a ``.mat`` file, indexed by x, y, z of the world.

    Raises:
        UserError: if the file is damaged or has no ``Volume`` of 32 cells a side.
    """
    try:
        volume = loadmat(path)["Volume"]
    except KeyError:
        raise UserError(f"{path} has no array Volume.", "Copy the file again.") from None
    except Exception as problem:  # SciPy raises whatever its parser meets.
        raise UserError(f"{path} cannot be read: {problem}.", "Copy the file again.") from None
    if volume.shape != (32, 32, 32) or volume.dtype.kind not in "buif":
        raise UserError(f"Volume in {path} is {list(volume.shape)}, not 32 cells a side.", "Copy the file again.")
    return world_axes(volume > 0, "lsm_original" if axes == "original" else "lsm")


def _read_voxels(folder: Path, name: str, ids: list[str], axes: LsmAxes) -> Bool[np.ndarray, "n 32 32 32"] | None:
    paths = [folder / PARTS[1] / name / f"{object_id}.mat" for object_id in ids]
    without = [path.stem for path in paths if not path.exists()]
    if without:
        logger.warning("%d objects of %s have no voxels (%s): none are used.", len(without), name, listed(without, 3))
        return None
    return np.stack([read_volume(path, axes) for path in paths])


def _present(folder: Path, name: str, ids: list[str]) -> list[str]:
    """Return the objects that have a folder."""
    return [object_id for object_id in ids if (folder / "renders" / name / object_id).is_dir()]


def _named(folder: Path, splits: dict[str, Any], name: str, split: Split) -> list[str]:
    """Return the objects of a split.

    Raises:
        UserError: if ``splits.json`` has another form.
    """
    sets = splits.get(name)
    ids = sets.get(split, []) if isinstance(sets, dict) else None
    if not isinstance(ids, list):
        raise UserError(
            f"{folder / SPLIT_FILE} does not list the objects of {name}.",
            'It should read {"class": {"name": ..., "train": [...], "val": [...], "test": [...]}}.',
        )
    return [str(object_id) for object_id in ids]
