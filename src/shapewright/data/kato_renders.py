"""Kato's ShapeNet renderings: ``{class}_{set}_images.npz``, ``_voxels.npz`` and ``_points.npz``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from shapewright.data.capture import listed
from shapewright.data.picture_sets import PictureSet, PictureViews
from shapewright.errors import UserError
from shapewright.geometry.orbit import KATO_HALF_ANGLE_DEG, KATO_VIEWS, kato_ring
from shapewright.geometry.solid_voxels import world_axes
from shapewright.io.arrays import read_npz
from shapewright.io.files import read_json

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MANIFEST = "dataset.json"


def kato_file(folder: Path, name: str, split: Split, kind: Literal["images", "voxels", "masks", "points"]) -> Path:
    """Return where the arrays of a class lie."""
    return folder / f"{name}_{split}_{kind}.npz"


def kato_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes of a split, sorted, those that ``dataset.json`` names but whose file is gone as well.

    Empty if the folder has no files of the format.
    """
    ending = f"_{split}_images.npz"
    there = {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}
    if not there and not any(folder.glob("*_images.npz")):
        return []
    return sorted(there | {name for name, sets in named_objects(folder).items() if sets.get(split)})


def kato_views() -> PictureViews:
    """Return the ring of 24 cameras that all objects share, in float32."""
    return PictureViews(kato_ring().world_from_camera[None].float(), KATO_HALF_ANGLE_DEG)


def read_kato_class(folder: Path, name: str, split: Split) -> PictureSet:
    """Return the pictures of one class: 24 views an object, the view is the bin of its pose.

    Args:
        folder: Where the files lie.
        name: The class as the files are named.
        split: Which set.

    Raises:
        UserError: if a file is missing, damaged, empty or of another format, or their numbers of objects differ.
    """
    path = kato_file(folder, name, split, "images")
    if not path.exists():
        there = [other for other in kato_classes(folder, split) if kato_file(folder, other, split, "images").exists()]
        raise UserError(
            f"{path.name} is missing: {folder} has no class {name} to {split} on.",
            f"Copy it again, or choose from the classes that are there: {listed(there)}."
            if there
            else "Check the folder and the set.",
        )
    images = _checked_images(path, read_first_array(path))
    count = len(images)
    voxels = read_optional(kato_file(folder, name, split, "voxels"), count)
    points = read_optional(kato_file(folder, name, split, "points"), count)
    views = torch.arange(KATO_VIEWS).expand(count, KATO_VIEWS)
    return PictureSet(
        images,
        kato_views(),
        views,
        KATO_VIEWS,
        kato_ids(folder, name, split, count),
        (name,) * count,
        None if voxels is None else _checked_voxels(kato_file(folder, name, split, "voxels"), voxels),
        None if points is None else _checked_points(kato_file(folder, name, split, "points"), points),
        mirrored_bins=-views % KATO_VIEWS,
    )


def kato_ids(folder: Path, name: str, split: Split, count: int) -> tuple[str, ...]:
    """Return the objects' names, in the order of the arrays: from ``dataset.json``, or else numbers.

    Raises:
        UserError: if ``dataset.json`` names another number of objects.
    """
    named = named_objects(folder).get(name, {}).get(split)
    if named is None:
        return tuple(f"{name}_{split}_{number:05d}" for number in range(count))
    if len(named) != count:
        raise UserError(
            f"{folder / MANIFEST} names {len(named)} objects of {name} in {split}, but the arrays hold {count}.",
            "Render or prepare the folder again.",
        )
    return tuple(named)


def named_objects(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Return the objects that ``dataset.json`` names, by class and set; none if there is no such file.

    Raises:
        UserError: if the file is damaged or has another form.
    """
    path = folder / MANIFEST
    objects = read_json(path).get("objects", {}) if path.is_file() else {}
    try:
        return {
            str(name): {str(split): [str(word) for word in words] for split, words in sets.items()}
            for name, sets in objects.items()
        }
    except (AttributeError, TypeError):
        raise UserError(
            f"{path} does not list objects by class and set.", "Render or prepare the folder again."
        ) from None


def read_first_array(path: Path) -> np.ndarray:
    """Return the first array of an ``.npz``, whatever its key.

    Raises:
        UserError: if the file is missing, damaged, or holds no array.
    """
    arrays = read_npz(path)
    if not arrays:
        raise UserError(f"{path} holds no array.", "Copy the file again.")
    return next(iter(arrays.values()))


def read_optional(path: Path, count: int) -> np.ndarray | None:
    """Return the first array of a file that need not be there, one entry an object.

    Raises:
        UserError: if it has another number of objects than there are.
    """
    if not path.exists():
        return None
    array = read_first_array(path)
    if not array.ndim or len(array) != count:
        found = len(array) if array.ndim else 0
        raise UserError(
            f"{path} holds {found} objects, but the pictures beside it show {count}.",
            "Take both files from the same download or rendering.",
        )
    return array


def _checked_images(path: Path, images: np.ndarray) -> UInt8[np.ndarray, "objects 24 4 size size"]:
    hint = f"Kato's pictures are uint8 [objects, {KATO_VIEWS}, 4, size, size]: RGB on black, then the mask."
    shape = list(images.shape)
    if images.dtype != np.uint8 or images.ndim != 5 or shape[3] != shape[4] or not shape[4]:
        raise UserError(f"{path} holds {images.dtype} {shape}, which are no such pictures.", hint)
    if not len(images):
        raise UserError(f"{path} is empty: it holds no object.", "Leave the class out, or copy the file again.")
    if shape[2] != 4:
        raise UserError(f"{path} has pictures of {shape[2]} channels: the mask is missing.", hint)
    if shape[1] != KATO_VIEWS:
        raise UserError(f"{path} has {shape[1]} pictures of each object, and not {KATO_VIEWS}.", hint)
    return images


def _checked_voxels(path: Path, stored: np.ndarray) -> Bool[np.ndarray, "objects 32 32 32"]:
    if stored.dtype not in (np.bool_, np.uint8) or stored.shape[1:] != (32, 32, 32):
        raise UserError(
            f"{path} holds {stored.dtype} {list(stored.shape)}, which are no grids of 32 cells a side.",
            "Kato's voxels are bool [objects, 32, 32, 32].",
        )
    return np.ascontiguousarray(world_axes(stored.astype(bool), "kato"))


def _checked_points(path: Path, points: np.ndarray) -> Float[np.ndarray, "objects n 3"]:
    is_cloud = points.ndim == 3 and points.shape[2] == 3 and points.shape[1] > 0
    if not is_cloud or not np.issubdtype(points.dtype, np.floating) or not np.isfinite(points).all():
        raise UserError(
            f"{path} holds {points.dtype} {list(points.shape)}, which are no clouds of finite points.",
            "Points are float32 [objects, n, 3] in the world; remove the file if you do not need it.",
        )
    return points.astype(np.float32, copy=False)
