"""What a reader of one format returns: pictures and cameras, not yet normalised."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.images import IMAGE_SUFFIXES, read_image, read_image_size, read_mask, read_rgba

MASK_FOLDERS = ("mask", "masks")


@dataclass(frozen=True)
class Picture:
    """Hold the pixels of one view.

    Args:
        rgb: Colours.
        alpha: How much of each pixel is object (straight, not premultiplied); None without masks.
    """

    rgb: UInt8[np.ndarray, "h w 3"]
    alpha: UInt8[np.ndarray, "h w"] | None


@dataclass(frozen=True)
class View:
    """Say where the pixels of one view are stored and how to read them.

    Args:
        name: The name that reports use.
        image_path: The picture.
        mask_path: A picture whose grey values are the mask, if there is one.
        uses_alpha: Whether the picture's alpha channel is the mask.
        dark_background: Whether the mask is what is brighter than the background (Middlebury).
        distortion: ``k1, k2, p1, p2[, k3]`` of the lens; empty for a pinhole.
        upright: Whether the cameras belong to the picture turned as its EXIF tag says.
    """

    name: str
    image_path: Path
    mask_path: Path | None = None
    uses_alpha: bool = False
    dark_background: bool = False
    distortion: tuple[float, ...] = ()
    upright: bool = True

    @property
    def has_mask(self) -> bool:
        """Whether the object's outline is known in this view."""
        return self.uses_alpha or self.dark_background or self.mask_path is not None

    def size(self) -> tuple[int, int]:
        """Return width and height of the picture.

        Raises:
            UserError: if the file is missing or damaged.
        """
        return read_image_size(self.image_path, self.upright)

    def read(self) -> Picture:
        """Return the pixels as stored, lens distortion included.

        Raises:
            UserError: if a file is missing or damaged, or the mask has another size.
        """
        if self.uses_alpha:
            rgba = read_rgba(self.image_path, self.upright)
            return Picture(np.ascontiguousarray(rgba[..., :3]), np.ascontiguousarray(rgba[..., 3]))
        rgb = read_image(self.image_path, self.upright)
        if self.mask_path is not None:
            return Picture(rgb, self._read_mask_file())
        return Picture(rgb, mask_from_dark_background(rgb) if self.dark_background else None)

    def read_alpha(self) -> UInt8[np.ndarray, "h w"]:
        """Return the mask alone, lens distortion included.

        Raises:
            ValueError: if the view has no mask.
            UserError: if a file is missing or damaged, or the mask has another size.
        """
        alpha = self._read_mask_file() if self.mask_path is not None else self.read().alpha
        if alpha is None:
            raise ValueError(f"view {self.name} has no mask.")
        return alpha

    def _read_mask_file(self) -> UInt8[np.ndarray, "h w"]:
        """Return the grey values of the mask file, which must have the picture's size."""
        assert self.mask_path is not None
        alpha = read_mask(self.mask_path, self.upright)
        width, height = self.size()
        if alpha.shape != (height, width):
            raise UserError(
                f"The mask {self.mask_path} is {alpha.shape[1]}x{alpha.shape[0]}, "
                f"but its picture {self.image_path.name} is {width}x{height}.",
                "Check that the masks belong to these pictures; if only the size differs, resize the mask.",
            )
        return alpha


@dataclass(frozen=True)
class Capture:
    """Hold the views and cameras of one scene in the units of its files.

    Args:
        format: The name of the format.
        cameras_file: Where the cameras come from.
        views: One entry a picture.
        cameras: One camera a view, in world units.
        sphere: Radius and centre of the object's sphere, when the files say so.
        train: Views to train on, when the files say so.
        test: Views held out, when the files say so.
        points: Sparse points on the scene, in world units.
        notes: Sentences about what was skipped or adapted.
    """

    format: str
    cameras_file: Path
    views: tuple[View, ...]
    cameras: Cameras
    sphere: tuple[float, Float[np.ndarray, "3"]] | None = None
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    points: Float[np.ndarray, "n 3"] | None = None
    notes: tuple[str, ...] = ()


def as_mask(alpha: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return where a mask says object: above 127 of 255."""
    return alpha > 127


def mask_from_dark_background(rgb: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w"]:
    """Return the mask of a bright object before black: grey above 0.19, grown by 10, shrunk by 7 pixels.

    The recipe for Middlebury's temple, and of that the largest piece; a dark
    stand or shadows defeat it.
    """
    bright = rgb.mean(axis=2) > 0.19 * 255
    grown = ndimage.maximum_filter(bright.astype(np.uint8), size=21)
    pieces, _ = ndimage.label(ndimage.minimum_filter(grown, size=15))
    sizes = np.bincount(pieces.ravel(), minlength=2)
    return np.where(pieces == 1 + sizes[1:].argmax(), 255, 0).astype(np.uint8)


def find_mask(folder: Path, image_name: str) -> Path | None:
    """Return the mask of a picture in ``folder/mask`` or ``folder/masks``, if there is one.

    It is called like the picture, with its suffix (``a.jpg.png``, as COLMAP has it) or another.
    """
    stem = str(Path(image_name).with_suffix(""))
    for root in (folder / name for name in MASK_FOLDERS):
        for name in (image_name + ".png", image_name, *(stem + suffix for suffix in IMAGE_SUFFIXES)):
            if (root / name).is_file():
                return root / name
    return None


def require_views(path: Path, count: int) -> None:
    """Raise unless there are enough pictures for a reconstruction.

    Raises:
        UserError: for no picture and for a single one.
    """
    if count == 0:
        raise UserError(
            f"There are no pictures in {path}.",
            "Give the folder that holds the pictures (PNG or JPEG) and their cameras.",
        )
    if count == 1:
        raise UserError(
            f"There is only one picture in {path}; a surface needs at least 2 views.",
            "Add pictures of the object from other sides, with their cameras.",
        )


def fit_intrinsics(
    K: Float[np.ndarray, "3 3"], declared: tuple[float, float], actual: tuple[int, int], image: Path, file: Path
) -> Float[np.ndarray, "3 3"]:
    """Return K for the picture's actual size, when that is the declared one resized.

    Raises:
        UserError: if the two sizes have different shapes.
    """
    ratio = np.array([actual[0] / declared[0], actual[1] / declared[1]])
    if abs(ratio[0] / ratio[1] - 1.0) > 0.01:
        raise UserError(
            f"{file} says {declared[0]:g}x{declared[1]:g}, but {image} is {actual[0]}x{actual[1]}: another shape.",
            "Use the pictures that the cameras were made for, or a uniformly resized copy of them.",
        )
    return np.diag([ratio[0], ratio[1], 1.0]) @ K


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return names as one phrase, cut after ``most`` of them."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
