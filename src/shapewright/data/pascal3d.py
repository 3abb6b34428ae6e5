"""Photographs of Pascal3D+ with masks and rotations, as view prior learning packs them, and how training varies them.

``{aeroplane|car|chair}_{train|imagenet|val}.npz``: one view an object, ``train`` and ``imagenet`` to train on. A
picture is the object's box with 15 % of its size added on each side, stretched to a square, without a mask channel: the
mask to be learned is that of another crop, ``images_ref``, and the rotation and the orthographic camera belong to it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image
from torch import Tensor

from shapewright.data.capture import listed
from shapewright.data.kato_renders import Split
from shapewright.data.picture_scaling import crop_and_resize, resize_bytes
from shapewright.data.prepared_pictures import ClassArrays, mapped
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable, bin_table, euler_bins, flipped_rotation, renumbered
from shapewright.geometry.published_frames import orthographic_pose
from shapewright.geometry.solid_voxels import world_axes
from shapewright.io.pickles import read_object_npz

logger = logging.getLogger(__name__)

FILES: dict[Split, tuple[str, ...]] = {"train": ("train", "imagenet"), "val": ("val",), "test": ("val",)}
KEYS = ("images", "images_ref", "bounding_boxes", "rotation_matrices", "voxels")
# Shares of a box's size: what is added on each side, and how far training moves each side in or out.
PADDING, JITTER = 0.15, 0.15
# Stored crops reach as far as a moved side can.
MARGIN = PADDING + JITTER


@dataclass(frozen=True)
class PascalCrops:
    """Hold the wide crops that training cuts its pictures from, in the order of the class's objects.

    Args:
        pictures: Each is the box and 30 % of its size on each side, clipped to the photograph, stretched to a square.
        boxes: Left, top, right and bottom of the object's box, without padding, as shares of the crop.
        flipped_bins: The bin of each flipped picture's pose; -1: training has no such bin.
        colours: Times the mask, of the crops that are to be learned; None: not asked for.
    """

    pictures: UInt8[np.ndarray, "n 3 size size"]
    boxes: Float[np.ndarray, "n 4"]
    flipped_bins: Int64[np.ndarray, " n"]
    colours: UInt8[np.ndarray, "n 3 size size"] | None = None


def pascal_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes of a split, sorted; empty if the folder has no such files."""
    found = set()
    for kind in FILES[split]:
        ending = f"_{kind}.npz"
        found |= {path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")}
    return sorted(name for name in found if (folder / f"{name}_{FILES[split][0]}.npz").is_file())


def pascal_table(folder: Path, name: str) -> Int64[Tensor, " bins"]:
    """Return the bins of poses that occur in training, in increasing order; for the life of a run these are the bins.

    Raises:
        UserError: if a file is damaged.
    """
    packs = [_read(folder / f"{name}_{kind}.npz") for kind in _kinds(folder, name, "train")]
    return bin_table(torch.cat([euler_bins(_rotations(pack)) for pack in packs]))


def read_pascal_class(folder: Path, name: str, split: Split, size: int, table: Int64[Tensor, " bins"]) -> ClassArrays:
    """Return the pictures, masks and rotations of a class; objects without a box are left out.

    Args:
        folder: Where the files lie.
        name: The class, as they are named.
        split: Which set; validation and test are the same.
        size: Pixels along each side of pictures and masks.
        table: Of ``pascal_table``, to number the bins by; poses that are not in it have the bin -1.

    Raises:
        UserError: if a file is missing, damaged, asks for anything but arrays, or its arrays do not fit together.
    """
    parts = [_read_file(folder / f"{name}_{kind}.npz", f"{name}_{kind}", size) for kind in _kinds(folder, name, split)]
    crops, boxes, targets, rotations, voxels = (np.concatenate([part[i] for part in parts]) for i in range(5))
    ids = tuple(word for part in parts for word in part[5])
    if not ids:
        raise UserError(f"{folder} has no object of {name} with a box in {split}.", "Download the data set again.")
    R = torch.from_numpy(rotations)
    return ClassArrays(
        plain_crops(torch.from_numpy(crops), torch.from_numpy(boxes), size).numpy()[:, None],
        orthographic_pose(R).float()[:, None].numpy(),
        None,
        ids,
        pose_bins=euler_bins(R)[:, None].numpy(),
        num_bins=len(table),
        bin_table=BinTable(euler_bins=tuple(table.tolist())),
        voxels=np.ascontiguousarray(world_axes(voxels, "pascal3d")),
        targets=targets[:, None, 3],
        extras={
            "crops": crops,
            "boxes": boxes,
            "colours": targets[:, :3],
            "flipped_bins": renumbered(euler_bins(flipped_rotation(R)), table).numpy(),
        },
    )


def read_crops(folder: Path, name: str, split: Split = "train", has_colours: bool = False) -> PascalCrops:
    """Return the wide crops of a class that `data prepare` wrote, mapped from their files.

    Args:
        folder: Where it wrote them.
        name: The class.
        split: Which set.
        has_colours: Read the colours to be learned too.

    Raises:
        UserError: if the folder does not hold such a class, or is without colours because an older version wrote it.
    """
    kinds = ("crops", "boxes", "flipped_bins", "colours")[: 4 if has_colours else 3]
    stored = "val" if split == "test" else split
    return PascalCrops(*(mapped(folder / f"{name}_{stored}_{kind}.npy") for kind in kinds))


def plain_crops(
    crops: UInt8[Tensor, "n 3 m m"], boxes: Float[Tensor, "n 4"], size: int
) -> UInt8[Tensor, "n 3 size size"]:
    """Return the pictures of judging: boxes padded by 15 % of their size on each side, clipped to the photograph."""
    parts = [
        crop_and_resize(some.float(), moved_boxes(rows, torch.zeros_like(rows)), size).round().clamp(0, 255).byte()
        for some, rows in zip(crops.split(256), boxes.split(256), strict=True)
    ]
    return torch.cat(parts)


def moved_boxes(boxes: Float[Tensor, "n 4"], outward: Float[Tensor, "n 4"]) -> Float[Tensor, "n 4"]:
    """Return boxes padded by 15 % of their size, with each side moved, clipped to what is there.

    Args:
        boxes: Left, top, right and bottom, as shares of the crop.
        outward: How far each side moves outwards, in sizes of the box, within 0.15 either way.
    """
    sizes = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    signs = boxes.new_tensor([-1.0, -1.0, 1.0, 1.0])
    return (boxes + signs * (PADDING + outward) * sizes).clamp(0, 1)


def varied(
    crops: UInt8[Tensor, "n 3 m m"],
    boxes: Float[Tensor, "n 4"],
    bins: Int64[Tensor, "n 2"],
    size: int,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "n 3 size size"], Int64[Tensor, " n"]]:
    """Return pictures varied for training, and the bins of their poses.

    Each side of the box moves by up to 15 % of its size, and half of the pictures are flipped left to right. The mask
    to be learned and the camera stay as they are: they belong to the shape, which for an object symmetric in z is the
    same in the flipped picture. What changes is the pose that the encoder sees, and so its bin. A picture whose flipped
    pose is in no bin of training is not flipped.

    Args:
        crops: Wide ones, of ``PascalCrops``.
        boxes: Their boxes.
        bins: The bin of each picture as it is, and flipped (-1: none).
        size: Pixels along each side of what is returned.
        generator: On the CPU.

    Returns:
        pictures: In [0, 1].
        bins: Of the pictures as they are now.
    """
    outward = (2 * torch.rand(len(boxes), 4, generator=generator) - 1) * JITTER
    is_flipped = (torch.rand(len(boxes), generator=generator) < 0.5).to(bins.device) & (bins[:, 1] >= 0)
    pictures = crop_and_resize(crops.float() / 255, moved_boxes(boxes, outward.to(boxes)), size)
    pictures = torch.where(is_flipped[:, None, None, None], pictures.flip(3), pictures)
    return pictures, torch.where(is_flipped, bins[:, 1], bins[:, 0])


def wide_size(size: int) -> int:
    """Return how many pixels along each side a wide crop has, so that a picture cut from it has ``size``."""
    return round((1 + 2 * MARGIN) * size)


def wide_crop(
    photograph: UInt8[np.ndarray, "h w 3"], box: Float[np.ndarray, " 4"], size: int
) -> tuple[UInt8[np.ndarray, "3 size size"], Float[np.ndarray, " 4"]]:
    """Return the piece of a photograph that training may need, stretched to a square, and the box in it.

    Args:
        photograph: The whole of it.
        box: Left, top, width and height, in pixels.
        size: Pixels along each side.
    """
    low, extent = box[:2], box[2:]
    limits = np.array(photograph.shape[1::-1], np.float64)
    first = (low - MARGIN * extent).clip(0, limits)
    last = (low + (1 + MARGIN) * extent).clip(0, limits)
    piece = Image.fromarray(photograph).resize(
        (size, size), Image.Resampling.BILINEAR, box=(first[0], first[1], last[0], last[1])
    )
    share = np.concatenate([(low - first) / (last - first), (low + extent - first) / (last - first)])
    return np.array(piece).transpose(2, 0, 1), share.astype(np.float32)


def _kinds(folder: Path, name: str, split: Split) -> list[str]:
    """Return the files of a split; the pictures of ImageNet may be missing."""
    first, *others = FILES[split]
    if not (folder / f"{name}_{first}.npz").is_file():
        there = pascal_classes(folder, split)
        raise UserError(
            f"{folder / f'{name}_{first}.npz'} does not exist.",
            f"Classes that are there: {listed(there)}." if there else "Check the folder.",
        )
    return [first, *(kind for kind in others if (folder / f"{name}_{kind}.npz").is_file())]


def _read(path: Path) -> dict[str, np.ndarray]:
    pack = read_object_npz(path)
    missing = [key for key in KEYS if key not in pack]
    if missing:
        raise UserError(f"{path} has no array {listed(missing)}.", "Download the data set again.")
    count = len(pack["images_ref"])
    wanted = {
        "images": (count,),
        "images_ref": (count, *pack["images_ref"].shape[1:3], 4),
        "bounding_boxes": (count, 4),
        "rotation_matrices": (count, 3, 3),
        "voxels": (count, 32, 32, 32),
    }
    for key, shape in wanted.items():
        # Photographs of one size are stored as one array.
        actual = pack[key].shape[:1] if key == "images" else pack[key].shape
        if actual != shape:
            raise UserError(
                f"{key} in {path} is {list(pack[key].shape)}, not {list(shape)}.", "Download the data set again."
            )
    _check_rotations(path, pack["rotation_matrices"])
    return pack


def _check_rotations(path: Path, rotations: np.ndarray) -> None:
    R = rotations.astype(np.float64)
    wrong = abs(R @ R.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2), initial=0) > 1e-3
    wrong |= np.linalg.det(R) < 0
    if wrong.any():
        raise UserError(
            f"{int(wrong.sum())} of {len(R)} rotation_matrices in {path} are no rotations, the first at "
            f"{int(wrong.argmax())}.",
            "Download the data set again.",
        )


def _rotations(pack: Mapping[str, np.ndarray]) -> Float[Tensor, "n 3 3"]:
    return torch.from_numpy(pack["rotation_matrices"].astype(np.float64))


def _read_file(path: Path, stem: str, size: int) -> tuple[np.ndarray, ...]:
    """Return crops, boxes, targets (RGB and mask), rotations, voxels and names of the objects that have a box."""
    pack = _read(path)
    boxes = pack["bounding_boxes"].astype(np.float64)
    usable = _usable(pack, boxes)
    if not usable.all():
        logger.warning("%d of %d pictures of %s have no box: left out.", int((~usable).sum()), len(usable), path)
    chosen = np.flatnonzero(usable)
    width = wide_size(size)
    crops, shares = np.zeros((len(chosen), 3, width, width), np.uint8), np.zeros((len(chosen), 4), np.float32)
    for number, index in enumerate(chosen):
        crops[number], shares[number] = wide_crop(_photograph(path, pack["images"][index]), boxes[index], width)
    targets = pack["images_ref"][chosen].astype(np.uint8).transpose(0, 3, 1, 2)
    targets[:, :3] *= targets[:, 3:] > 0
    return (
        crops,
        shares,
        targets if targets.shape[-1] == size else resize_bytes(targets, size),
        pack["rotation_matrices"][chosen].astype(np.float64),
        pack["voxels"][chosen] > 0,
        np.array([f"{stem}_{index:05d}" for index in chosen]),
    )


def _usable(pack: Mapping[str, np.ndarray], boxes: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, " n"]:
    """Return which boxes are at least a pixel wide and high and meet their photographs."""
    limits = np.array([np.asarray(photograph).shape[1::-1] for photograph in pack["images"]]).reshape(-1, 2)
    last = boxes[:, :2] + boxes[:, 2:]
    meets = (boxes[:, :2] < limits).all(1) & (last > 0).all(1)
    return np.isfinite(boxes).all(1) & (boxes[:, 2:] >= 1).all(1) & meets


def _photograph(path: Path, photograph: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    picture = np.asarray(photograph)
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=2)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise UserError(f"{path} has a photograph {picture.dtype} {list(picture.shape)}.", "Download it again.")
    return np.ascontiguousarray(picture)
