"""LSM's renderings as view prior learning packs them, ``{class}_{set}.pkl``, and how it varies pictures in training."""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from shapewright.data.kato_renders import Split
from shapewright.data.lsm import LsmView, lsm_cameras
from shapewright.data.picture_scaling import resize_bytes
from shapewright.data.prepared_pictures import Allocate, ClassArrays, in_memory
from shapewright.errors import UserError
from shapewright.geometry.orbit import LSM_HALF_ANGLE_DEG
from shapewright.geometry.solid_voxels import world_axes
from shapewright.io.pickles import read_pickle

logger = logging.getLogger(__name__)

# Objects whose pictures or voxels are bad.
SKIPPED_IDS = (
    "187f32df6f393d18490ad276cd2af3a4",
    "391fa4da294c70d0a4e97ce1d10a5ae6",
    "50cdaa9e33fc853ecb2a965e75be701c",
)
# Alpha above a tenth is the object.
LEAST_ALPHA = 0.1 * 255
KEYS = ("images", "viewpoints", "voxels")


def vpl_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes of a split, sorted; empty if the folder has no such files."""
    ending = f"_{split}.pkl"
    return sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}"))


def read_vpl_class(folder: Path, name: str, split: Split, size: int, allocate: Allocate = in_memory) -> ClassArrays:
    """Return all views of the objects of a class; three objects known to be bad are left out.

    Args:
        folder: Where ``{class}_{set}.pkl`` lies.
        name: The class, as the file is named.
        split: Which set.
        size: Pixels along each side of what is returned.
        allocate: Return the array that the pictures go to.

    Raises:
        UserError: if the file is missing or damaged, asks for anything but arrays, or lacks a picture.
    """
    path = folder / f"{name}_{split}.pkl"
    pack = read_pickle(path)
    if not isinstance(pack, dict) or not all(isinstance(pack.get(key), dict) for key in KEYS):
        raise UserError(f"{path} does not hold {', '.join(KEYS)}.", "Download the data set again from its authors.")
    views = _views_by_object(path, pack["images"])
    ids = sorted(views)
    count = len(views[ids[0]])
    images = allocate((len(ids), count, 4, size, size))
    for number, object_id in enumerate(ids):
        for view in range(count):
            key = f"{object_id}_{views[object_id][view]}"
            images[number, view] = decode_picture(pack["images"][key], f"{path}: {key}", size)
    rows = [[_viewpoint(path, pack["viewpoints"], f"{word}_{view}") for view in views[word]] for word in ids]
    grids = np.stack([_voxels(path, pack["voxels"], object_id) for object_id in ids])
    return ClassArrays(
        images,
        lsm_cameras(rows),
        LSM_HALF_ANGLE_DEG,
        tuple(object_id.split("_", 1)[-1] for object_id in ids),
        np.array([[(row.azimuth_deg, row.elevation_deg) for row in object_rows] for object_rows in rows]),
        voxels=world_axes(grids, "vpl"),
    )


def decode_picture(data: Any, where: str, size: int) -> UInt8[np.ndarray, "4 size size"]:
    """Return a picture: RGB times mask, then the mask, which is where alpha exceeds a tenth.

    Args:
        data: Of a PNG file; Python 2 leaves it as text in latin1.
        where: For messages.
        size: Pixels along each side.

    Raises:
        UserError: if it is no picture, has no alpha or is not square.
    """
    try:
        with Image.open(io.BytesIO(data.encode("latin1") if isinstance(data, str) else bytes(data))) as image:
            mode, rgba = image.mode, np.array(image.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as problem:
        raise UserError(f"{where} is no picture: {problem}.", "Download the data set again.") from None
    if mode != "RGBA" or rgba.shape[0] != rgba.shape[1]:
        raise UserError(
            f"{where} is {mode} {rgba.shape[1]}x{rgba.shape[0]}, but must be square and have alpha.",
            "Download the data set again.",
        )
    mask = rgba[..., 3:] > LEAST_ALPHA
    picture = np.concatenate([rgba[..., :3] * mask, 255 * mask], axis=2).astype(np.uint8).transpose(2, 0, 1)
    return picture if picture.shape[1] == size else resize_bytes(picture, size)


def _views_by_object(path: Path, images: Mapping[str, Any]) -> dict[str, list[int]]:
    """Return the views of each object, ``class_id``, without the bad ones."""
    views: dict[str, list[int]] = defaultdict(list)
    for key in images:
        object_id, _, view = str(key).rpartition("_")
        if not object_id or not view.isdigit():
            raise UserError(f"{path} has a picture {key!r}, not class_id_view.", "Download the data set again.")
        if object_id.split("_", 1)[-1] not in SKIPPED_IDS:
            views[object_id].append(int(view))
    if not views:
        raise UserError(f"{path} is empty: it holds no picture.", "Download the data set again.")
    count = max(len(found) for found in views.values())
    for object_id, found in views.items():
        if len(found) < count:
            raise UserError(f"{path} has {len(found)} views of {object_id}, not {count}.", "Download it again.")
    return {object_id: sorted(found) for object_id, found in views.items()}


def _viewpoint(path: Path, viewpoints: Mapping[str, Any], key: str) -> LsmView:
    try:
        distance, elevation, azimuth = (float(number) for number in viewpoints[key])
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{path} has no viewpoint (distance, elevation, azimuth) of {key}.", "Download it again."
        ) from None
    if not (np.isfinite([distance, elevation, azimuth]).all() and distance > 0):
        raise UserError(f"{path} has a viewpoint of {key} that is none: {viewpoints[key]}.", "Download it again.")
    return LsmView(azimuth, elevation, distance)


def _voxels(path: Path, voxels: Mapping[str, Any], object_id: str) -> Bool[np.ndarray, "32 32 32"]:
    grid = np.asarray(voxels.get(object_id))
    if grid.shape != (32, 32, 32) or grid.dtype.kind not in "buif":
        raise UserError(f"{path} has no voxels, 32 cells a side, of {object_id}.", "Download it again.")
    return grid > 0
