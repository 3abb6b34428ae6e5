"""From any masked picture to one as those trained on: cropped, scaled, centred, black around the object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from PIL import Image
from torch import Tensor

from shapewright.checks import check_range
from shapewright.data.pascal3d import plain_crops, wide_crop, wide_size
from shapewright.data.picture_sets import PictureSet
from shapewright.errors import UserError
from shapewright.io.images import read_mask, read_rgba

# The object is where its mask is above one half.
THRESHOLD = 127.5 / 255
OBJECTS_PER_CHUNK = 64
MASK_HINT = "Cut the object out and save it as PNG or WebP with transparency, or give its mask with --mask."


def framing_of(pictures: PictureSet) -> float:
    """Return the mean longer side of the boxes around the masks to be learned, in px; empty masks do not count.

    Args:
        pictures: Those trained on.

    Raises:
        UserError: if all masks are empty.
    """
    total, count = 0, 0
    for start in range(0, len(pictures), OBJECTS_PER_CHUNK):
        inside = pictures.learned_masks(slice(start, start + OBJECTS_PER_CHUNK)) > 255 * THRESHOLD
        extents = [_extent(np.asarray(inside.any(axis=axis))) for axis in (-1, -2)]
        longer = np.maximum(*extents)
        total, count = total + int(longer.sum()), count + int((longer > 0).sum())
    if not count:
        raise UserError(
            f"The masks of all {len(pictures)} objects are empty.", "Check the data with 'shapewright data check'."
        )
    return total / count


def framed_picture(
    path: Path, size: int, longer_side_px: float, mask_path: Path | None = None
) -> Float32[Tensor, "4 size size"]:
    """Return a picture framed as those trained on: RGB times mask, then the mask, in [0, 1].

    The box around the mask goes to the middle, its longer side becomes ``longer_side_px``; smaller is averaged over.

    Args:
        path: The picture, with transparency unless there is a mask.
        size: Pixels along each side of the result.
        longer_side_px: Of the object's box, as :func:`framing_of` returned it for the pictures trained on.
        mask_path: A picture of the same size, white where the object is.

    Raises:
        UserError: if a file cannot be read, says nothing of where the object is, or the mask is empty or of another
            size.
    """
    check_range("size", size, 1)
    check_range("longer_side_px", longer_side_px, 1.0, size)
    picture = _read_premultiplied(path, mask_path)
    rows, columns = (_ends(inside) for inside in _occupied(picture, mask_path or path))
    side = size * max(rows[1] - rows[0], columns[1] - columns[0]) / longer_side_px
    middle = ((columns[0] + columns[1]) / 2, (rows[0] + rows[1]) / 2)
    return torch.from_numpy(_resample(picture, middle, side, size))


def unframed_picture(path: Path, size: int, mask_path: Path | None = None) -> Float32[Tensor, "4 size size"]:
    """Return a picture that is framed as those trained on already, such as one of a data set's.

    Args:
        path: The picture, with transparency unless there is a mask.
        size: Pixels that it must have along each side.
        mask_path: A picture of the same size, white where the object is.

    Raises:
        UserError: if the size is another, or as :func:`framed_picture`.
    """
    picture = _read_premultiplied(path, mask_path)
    height, width = picture.shape[1:]
    if (height, width) != (size, size):
        raise UserError(
            f"The picture {path} has {width} x {height} pixels; without framing it must have {size} x {size}.",
            "Leave out --no-framing, and the object is cropped and scaled.",
        )
    _occupied(picture, mask_path or path)
    return torch.from_numpy(picture)


def cut_photograph(path: Path, size: int, mask_path: Path | None = None) -> Float32[Tensor, "3 size size"]:
    """Return the piece of a photograph that shows the object, cut as those of Pascal3D+ are, in [0, 1].

    That is the box around the mask with 15 % of its size on each side, stretched to a square; what is around the object
    stays.

    Args:
        path: The photograph, with transparency unless there is a mask.
        size: Pixels along each side of the result.
        mask_path: A picture of the same size, white where the object is.

    Raises:
        UserError: as :func:`framed_picture`.
    """
    ends = [_ends(inside) for inside in _occupied(_read_premultiplied(path, mask_path), mask_path or path)]
    (top, bottom), (left, right) = ends
    box = np.array([left, top, right - left, bottom - top], np.float64)
    wide, share = wide_crop(np.ascontiguousarray(read_rgba(path)[..., :3]), box, wide_size(size))
    return plain_crops(torch.from_numpy(wide)[None], torch.from_numpy(share)[None], size)[0].float() / 255


def whole_photograph(path: Path) -> Float32[Tensor, "3 height width"]:
    """Return all of a photograph, in [0, 1]."""
    return torch.from_numpy(read_rgba(path)[..., :3]).permute(2, 0, 1).float() / 255


def _read_premultiplied(path: Path, mask_path: Path | None) -> Float32[np.ndarray, "4 h w"]:
    """Return RGB times mask, and the mask."""
    pixels = read_rgba(path)
    mask = pixels[..., 3]
    if mask_path is not None:
        mask = read_mask(mask_path)
        if mask.shape != pixels.shape[:2]:
            sizes = [f"{width} x {height}" for height, width in (mask.shape, pixels.shape[:2])]
            raise UserError(
                f"The mask {mask_path} has {sizes[0]} pixels, but the picture {path} has {sizes[1]}.",
                "Give the mask of this picture.",
            )
    elif mask.min() == 255:
        raise UserError(f"The picture {path} has no transparent pixel: it does not say where the object is.", MASK_HINT)
    alpha = mask.astype(np.float32)[..., None] / 255
    return np.concatenate([pixels[..., :3] * (alpha / 255), alpha], axis=-1).transpose(2, 0, 1).astype(np.float32)


def _occupied(
    picture: Float32[np.ndarray, "4 h w"], path: Path
) -> tuple[Bool[np.ndarray, " h"], Bool[np.ndarray, " w"]]:
    """Return which rows and columns hold the object."""
    inside = picture[3] > THRESHOLD
    if not inside.any():
        raise UserError(
            f"The mask of {path} is empty: there is no object.", "Check that the object is opaque or white."
        )
    return inside.any(axis=1), inside.any(axis=0)


def _ends(occupied: Bool[np.ndarray, " n"]) -> tuple[int, int]:
    """Return the first of what is occupied, and the one after the last."""
    where = np.flatnonzero(occupied)
    return int(where[0]), int(where[-1]) + 1


def _extent(occupied: Bool[np.ndarray, "*pictures n"]) -> Float[np.ndarray, "*pictures"]:
    """Return how far it is from the first of what is occupied to the last, both included; 0 if nothing is."""
    length = occupied.shape[-1]
    first, last = occupied.argmax(axis=-1), length - 1 - occupied[..., ::-1].argmax(axis=-1)
    return np.where(occupied.any(axis=-1), last - first + 1.0, 0.0)


def _resample(
    picture: Float32[np.ndarray, "4 h w"], middle: tuple[float, float], side: float, size: int
) -> Float32[np.ndarray, "4 size size"]:
    """Return the square around a point, at another size; what lies beyond the picture is empty."""
    height, width = picture.shape[1:]
    left, top = middle[0] - side / 2, middle[1] - side / 2
    beyond = (-left, -top, left + side - width, top + side - height)
    margin = max(0, *(int(np.ceil(value)) for value in beyond))
    padded = np.pad(picture, ((0, 0), (margin, margin), (margin, margin)))
    box = (left + margin, top + margin, left + side + margin, top + side + margin)
    # This filter has no negative lobes, and averages over all that a pixel covers.
    channels = [Image.fromarray(c).resize((size, size), Image.Resampling.HAMMING, box=box) for c in padded]
    return np.stack([np.asarray(channel) for channel in channels]).clip(0, 1)
