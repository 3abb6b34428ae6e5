"""Reading and writing of pictures and masks through Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from shapewright.errors import UserError
from shapewright.io.files import atomic_write

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
ORIENTATION_TAG = 0x0112
PNG_END = b"IEND"

T = TypeVar("T")


def list_images(folder: Path) -> list[Path]:
    """Return the picture files of a folder, sorted by name; empty if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def read_image(path: Path, upright: bool = True) -> UInt8[np.ndarray, "h w 3"]:
    """Return a picture as RGB; an alpha channel is dropped.

    Args:
        path: The file.
        upright: Whether to turn the picture as its EXIF orientation says.

    Raises:
        UserError: if the file is missing, damaged or no picture.
    """
    return _read(path, lambda image: np.array(_eight_bits(image).convert("RGB")), upright)


def read_rgba(path: Path, upright: bool = True) -> UInt8[np.ndarray, "h w 4"]:
    """Return a picture as RGB and straight alpha (255 where the file has none).

    Raises:
        UserError: if the file is missing, damaged or no picture.
    """
    return _read(path, lambda image: np.array(_eight_bits(image).convert("RGBA")), upright)


def read_mask(path: Path, upright: bool = True) -> UInt8[np.ndarray, "h w"]:
    """Return a mask as grey values; the object is where they exceed 127.

    Raises:
        UserError: if the file is missing, damaged or no picture.
    """
    return _read(path, lambda image: np.array(_eight_bits(image).convert("L")), upright)


def read_image_size(path: Path, upright: bool = True) -> tuple[int, int]:
    """Return width and height from the header of a picture, without decoding it.

    A PNG must have its end as well: that is a quick sign of a file cut short.

    Raises:
        UserError: if the file is missing or no picture.
    """

    def size(image: Image.Image) -> tuple[int, int]:
        turned = upright and image.getexif().get(ORIENTATION_TAG, 1) >= 5
        if image.format == "PNG" and not _ends_with(path, PNG_END):
            raise ValueError("it is cut short")
        return (image.height, image.width) if turned else (image.width, image.height)

    return _read(path, size, upright=False)


def has_alpha(path: Path) -> bool:
    """Return whether a picture file has an alpha channel.

    Raises:
        UserError: if the file is missing or no picture.
    """
    return _read(path, lambda image: image.mode in ("RGBA", "LA", "PA"), upright=False)


def write_image(path: Path, pixels: UInt8[np.ndarray, "h w *channels"]) -> None:
    """Write an 8-bit grey, RGB or RGBA picture; the file appears whole or not at all.

    The suffix chooses the format; JPEG is written at quality 95.

    Raises:
        ValueError: if ``pixels`` is not uint8.
        UserError: if the disk is full or the folder cannot be written to.
    """
    if pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8, got {pixels.dtype}.")
    atomic_write(path, encode_image(pixels, path.suffix))


def encode_image(pixels: UInt8[np.ndarray, "h w *channels"], suffix: str = ".png") -> bytes:
    """Return the bytes of a picture file in the format of ``suffix``."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=Image.registered_extensions()[suffix], quality=95)
    return buffer.getvalue()


def _read(path: Path, take: Callable[[Image.Image], T], upright: bool) -> T:
    """Open a picture, turn it upright if asked, and return what ``take`` makes of it."""
    try:
        with Image.open(path) as image:
            turned = ImageOps.exif_transpose(image) if upright else image
            return take(turned)
    except FileNotFoundError:
        raise UserError(f"The picture {path} does not exist.", "Check the path.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise UserError(
            f"The picture {path} cannot be read: {problem}.",
            "Copy or export the file again; it is damaged, cut short or not a picture.",
        ) from None


def _ends_with(path: Path, mark: bytes) -> bool:
    """Return whether the last bytes of a file hold a mark."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 64))
        return mark in file.read()


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return grey pictures of 16 bits as 8 bits; Pillow would clip them at 255, and those of fractions too."""
    if image.mode == "F":
        raise ValueError("its values are fractions, and what is white is not known: save it with 8 or 16 bits")
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
