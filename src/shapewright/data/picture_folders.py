"""Opening a folder of pictures for single-view methods, whichever of the known formats it has."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from shapewright.checks import check_range
from shapewright.data.capture import listed
from shapewright.data.free_pictures import free_classes, read_free_class
from shapewright.data.joined_arrays import JoinedArrays
from shapewright.data.kato_renders import SPLITS, Split, kato_classes, read_kato_class
from shapewright.data.lsm import lsm_classes, read_lsm_class
from shapewright.data.picture_scaling import OBJECTS_AT_ONCE, resize_bytes
from shapewright.data.picture_sets import PictureSet, PictureViews
from shapewright.data.prepared_pictures import BinWidths, prepared_classes, prepared_voxel_rule, read_prepared_class
from shapewright.data.shapenet import SYNSETS
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable

logger = logging.getLogger(__name__)

# What the thirteen classes are called in papers, where ShapeNet says otherwise.
OTHER_NAMES = {
    "aeroplane": "airplane",
    "dresser": "cabinet",
    "speaker": "loudspeaker",
    "phone": "telephone",
    "vessel": "watercraft",
}


@dataclass(frozen=True, kw_only=True)
class PictureOptions:
    """Choose what to learn from a folder of pictures.

    Args:
        image_size: Pixels along each side; pictures of another size are resized with anti-aliasing.
        classes: Which ones, as files, synsets or words name them; none: all.
        views_per_object: Train on this many pictures of each object, the same for the whole run; none: on all.
        views: Which ones: random by the seed, or the first.
        azimuth_bin_deg: Width of the bins of poses, where a data set has no views of its own.
        elevation_bin_deg: Their height.
        invert_colours: Turn bright to dark and back inside the mask: pictures that were packed on white need it.
        lsm_axes: How raw LSM voxels are read: x, y, z of the world, or mirrored as the original has them.
    """

    image_size: int = 64
    classes: tuple[str, ...] = ()
    views_per_object: int | None = None
    views: Literal["random", "first"] = "random"
    azimuth_bin_deg: float = 15.0
    elevation_bin_deg: float = 20.0
    invert_colours: bool = False
    lsm_axes: Literal["x y z", "original"] = "x y z"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_range("image_size", self.image_size, 1)
        check_range("azimuth_bin_deg", self.azimuth_bin_deg, 0.1, 360)
        check_range("elevation_bin_deg", self.elevation_bin_deg, 0.1, 180)


@dataclass(frozen=True)
class PictureFormat:
    """Say how one format is read.

    Args:
        name: What it is called.
        classes: Return the classes that a folder has in a set; none: the folder has another format.
        read: Return the pictures of one class, the bins of their poses numbered by a table, or as the folder has them.
    """

    name: str
    classes: Callable[[Path, Split], list[str]]
    read: Callable[[Path, str, Split, PictureOptions, BinTable | None], PictureSet]


def _read_kato(folder: Path, name: str, split: Split, _: PictureOptions, __: BinTable | None) -> PictureSet:
    return read_kato_class(folder, name, split)


def _read_lsm(folder: Path, name: str, split: Split, options: PictureOptions, table: BinTable | None) -> PictureSet:
    arrays = read_lsm_class(folder, name, split, options.image_size, options.lsm_axes)
    return arrays.picture_set(name, _widths(options), table)


def _read_free(folder: Path, name: str, split: Split, options: PictureOptions, table: BinTable | None) -> PictureSet:
    return read_free_class(folder, name, split, options.image_size).picture_set(name, _widths(options), table)


def _read_prepared(
    folder: Path, name: str, split: Split, options: PictureOptions, table: BinTable | None
) -> PictureSet:
    pictures = read_prepared_class(folder, name, split).picture_set(name, _widths(options), table)
    return replace(pictures, voxel_rule=prepared_voxel_rule(folder))


def _widths(options: PictureOptions) -> BinWidths:
    return BinWidths(options.azimuth_bin_deg, options.elevation_bin_deg)


FORMATS = (
    PictureFormat("prepared", prepared_classes, _read_prepared),
    PictureFormat("kato", kato_classes, _read_kato),
    PictureFormat("lsm", lsm_classes, _read_lsm),
    PictureFormat("free", free_classes, _read_free),
)


def picture_format(folder: Path) -> PictureFormat | None:
    """Return the format of a folder of pictures; None if it is none that can be trained on."""
    return next((form for form in FORMATS if any(form.classes(folder, split) for split in SPLITS)), None)


def has_split(folder: Path, split: Split, options: PictureOptions) -> bool:
    """Tell if a folder has pictures of a set, of all classes that are wanted; they may still be damaged."""
    form = picture_format(folder)
    there = form.classes(folder, split) if form is not None else []
    return bool(there) and {*map(_plain_name, options.classes)} <= {*map(_plain_name, there)}


def open_pictures(
    folder: Path, split: Split, options: PictureOptions, seed: int = 0, table: BinTable | None = None
) -> PictureSet:
    """Return the pictures of one split, classes in the order of ``options.classes``, or sorted.

    Masks without an object, which ``empty_masks`` lists, and pictures that are enlarged are reported in the log.

    Args:
        folder: In any of the known formats.
        split: Which set.
        options: Which classes and pictures, and how large.
        seed: Chooses the pictures to keep, where ``views_per_object`` says so; that holds for training only.
        table: What a run numbers the bins of poses by; none: as the folder has them.

    Raises:
        UserError: if the folder is missing, of no known format, damaged, or lacks the split or a class.
    """
    if not folder.is_dir():
        raise UserError(f"The folder {folder} does not exist.", "Check the path of the pictures.")
    form = picture_format(folder)
    if form is None:
        raise UserError(
            f"{folder} holds no pictures in a format that can be trained on.",
            "Render meshes with `shapewright data render`, or convert a download with `shapewright data prepare`.",
        )
    names = chosen_classes(folder, split, form.classes(folder, split), options.classes)
    parts = [_prepared(form.read(folder, name, split, options, table), name, split, options, seed) for name in names]
    pictures = concatenated(parts)
    empty = empty_masks(pictures)
    if empty:
        shown = [f"{pictures.ids[number]} view {view}" for number, view in empty]
        logger.warning("%d masks of %s in %s are empty: %s.", len(empty), split, folder, listed(shown))
    return pictures


def chosen_classes(folder: Path, split: Split, there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Return the classes to open, as the files name them.

    Args:
        folder: For the messages.
        split: For the messages.
        there: The classes that the folder has in this split.
        wanted: As a person says them: ``02958343``, ``car``, or as in the files; none: all that are there.

    Raises:
        UserError: if there is none, or one that is wanted is missing.
    """
    if not there:
        raise UserError(f"{folder} has no pictures of the set {split}.", "Check the folder, or render that set too.")
    named = {_plain_name(name): name for name in there}
    missing = [name for name in wanted if _plain_name(name) not in named]
    if missing:
        raise UserError(
            f"{folder} has no class {listed(missing)} in the set {split}.", f"Classes that are there: {listed(there)}."
        )
    return list(dict.fromkeys(named[_plain_name(name)] for name in wanted)) or list(there)


def keep_views(pictures: PictureSet, count: int, how: Literal["random", "first"], seed: int) -> PictureSet:
    """Return a set with ``count`` pictures of each object, which are never exchanged for others.

    Args:
        pictures: All of them.
        count: At least 1.
        how: Random ones, or the first.
        seed: Chooses the random ones.

    Raises:
        UserError: if ``count`` is less than 1, or more than there are of each object.
    """
    if not 1 <= count <= pictures.num_views:
        raise UserError(
            f"views_per_object is {count}, but there are 1 to {pictures.num_views} pictures of each object to keep.",
            "Choose a number in that range, or leave the option out to train on all.",
        )
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand((len(pictures), pictures.num_views), generator=generator, dtype=torch.float64)
    views = draws.argsort(dim=1)[:, :count].sort(dim=1).values
    if how == "first":
        views = torch.arange(count).expand(len(pictures), count)
    objects = torch.arange(len(pictures))[:, None].expand_as(views)
    poses = pictures.views.poses(objects, views)
    index = (objects.numpy(), views.numpy())
    return replace(
        pictures,
        images=pictures.images[index],
        views=PictureViews(poses, pictures.views.half_angle_deg),
        pose_bins=pictures.pose_bins.gather(1, views),
        mirrored_bins=None if pictures.mirrored_bins is None else pictures.mirrored_bins.gather(1, views),
        targets=None if pictures.targets is None else pictures.targets[index],
    )


def resized(pictures: PictureSet, size: int) -> PictureSet:
    """Return a set whose pictures have ``size`` pixels a side, with anti-aliasing; the same set if they have.

    Args:
        pictures: Square ones.
        size: Pixels along each side, of the masks to be learned too.
    """
    targets = pictures.targets
    if targets is not None and targets.shape[-1] != size:
        targets = resize_bytes(np.asarray(targets), size)
    images = pictures.images if pictures.size == size else resize_bytes(np.asarray(pictures.images), size)
    return replace(pictures, images=images, targets=targets)


def inverted(pictures: PictureSet) -> PictureSet:
    """Return a set with inverted colours: RGB times mask becomes (1 - RGB) times mask."""
    images = np.array(pictures.images)
    if images.shape[2] == 3:
        return replace(pictures, images=255 - images)
    for start in range(0, len(images), OBJECTS_AT_ONCE):
        some = images[start : start + OBJECTS_AT_ONCE]
        np.subtract(some[:, :, 3:], np.minimum(some[:, :, :3], some[:, :, 3:]), out=some[:, :, :3])
    return replace(pictures, images=images)


def concatenated(parts: Sequence[PictureSet]) -> PictureSet:
    """Return the pictures of several classes as one set.

    Voxels and points are kept if all parts have them, and cameras stay shared if they are the same.

    Raises:
        UserError: if the parts differ in the number of views, in channels or in the field of view.
    """
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    for part in parts[1:]:
        same = part.images.shape[1:] == first.images.shape[1:] and part.num_bins == first.num_bins
        same = same and part.bin_table == first.bin_table
        if not same or part.views.half_angle_deg != first.views.half_angle_deg:
            raise UserError(
                f"The classes {first.categories[0]} and {part.categories[0]} differ in views, bins or field of view: "
                f"{list(first.images.shape[1:])} and {list(part.images.shape[1:])}.",
                "Train on classes of one data set together.",
            )
    mirrored = [part.mirrored_bins for part in parts if part.mirrored_bins is not None]
    targets = [part.targets for part in parts if part.targets is not None]
    return PictureSet(
        JoinedArrays([part.images for part in parts]),
        _joined_views(parts),
        torch.cat([part.pose_bins for part in parts]),
        first.num_bins,
        tuple(name for part in parts for name in part.ids),
        tuple(name for part in parts for name in part.categories),
        _joined([part.voxels for part in parts]),
        _joined([part.points for part in parts]),
        JoinedArrays(targets) if len(targets) == len(parts) else None,
        first.voxel_rule,
        torch.cat(mirrored) if len(mirrored) == len(parts) else None,
        first.bin_table,
    )


def empty_masks(pictures: PictureSet) -> list[tuple[int, int]]:
    """Return the object and the view of each picture whose mask to be learned shows nothing: training skips these."""
    found = []
    for start in range(0, len(pictures), OBJECTS_AT_ONCE):
        shows = pictures.learned_masks(slice(start, start + OBJECTS_AT_ONCE)).any(axis=(2, 3))
        found += [(start + int(number), int(view)) for number, view in np.argwhere(~shows)]
    return found


def _prepared(pictures: PictureSet, name: str, split: Split, options: PictureOptions, seed: int) -> PictureSet:
    """Return one class as the options want it; each class draws its own views."""
    if options.views_per_object is not None and split == "train":
        own_seed = seed ^ zlib.crc32(name.encode())
        pictures = keep_views(pictures, options.views_per_object, options.views, own_seed)
    if options.invert_colours:
        pictures = inverted(pictures)
    if pictures.size < options.image_size:
        logger.warning(
            "The pictures of %s in %s have %d px and are enlarged to %d.",
            name,
            split,
            pictures.size,
            options.image_size,
        )
    return resized(pictures, options.image_size)


def _joined_views(parts: Sequence[PictureSet]) -> PictureViews:
    poses = [part.views.world_from_camera for part in parts]
    if all(part.views.is_shared and torch.equal(part.views.world_from_camera, poses[0]) for part in parts):
        return parts[0].views
    rows = [pose.expand(len(part), -1, -1, -1) for pose, part in zip(poses, parts, strict=True)]
    return PictureViews(torch.cat(rows), parts[0].views.half_angle_deg)


def _joined(arrays: Sequence[np.ndarray | None]) -> np.ndarray | None:
    """Return arrays one after the other; None if one is missing or they have other shapes."""
    there = [array for array in arrays if array is not None]
    if len(there) < len(arrays) or len({array.shape[1:] for array in there}) > 1:
        return None
    return np.concatenate(there)


def _plain_name(name: str) -> str:
    """Return the word for a class, so that a synset, a file's name and a paper's name meet."""
    word = SYNSETS.get(name, name).lower()
    return OTHER_NAMES.get(word, word)
