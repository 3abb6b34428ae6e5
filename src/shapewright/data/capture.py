"""What a reader of one format returns: pictures and cameras, not yet normalised."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.images import read_image, read_image_size, read_mask, read_rgba


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
        distortion: ``k1, k2, p1, p2`` of the lens (OpenCV's model); empty for a pinhole.
        upright: Whether the cameras belong to the picture turned as its EXIF tag says.
    """

    name: str
    image_path: Path
    mask_path: Path | None = None
    uses_alpha: bool = False
    distortion: tuple[float, ...] = ()
    upright: bool = True

    @property
    def has_mask(self) -> bool:
        """Whether the object's outline is known in this view."""
        return self.uses_alpha or self.mask_path is not None

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
        if self.mask_path is None:
            return Picture(rgb, None)
        alpha = read_mask(self.mask_path, self.upright)
        self.check_mask_size((alpha.shape[1], alpha.shape[0]), (rgb.shape[1], rgb.shape[0]))
        return Picture(rgb, alpha)

    def read_alpha(self) -> UInt8[np.ndarray, "h w"]:
        """Return the mask alone, lens distortion included.

        Raises:
            ValueError: if the view has no mask.
            UserError: if a file is missing or damaged, or the mask has another size.
        """
        if self.mask_path is None:
            alpha = self.read().alpha
            if alpha is None:
                raise ValueError(f"view {self.name} has no mask.")
            return alpha
        alpha = read_mask(self.mask_path, self.upright)
        self.check_mask_size((alpha.shape[1], alpha.shape[0]), self.size())
        return alpha

    def check_mask_size(self, mask: tuple[int, int], image: tuple[int, int]) -> None:
        """Raise unless mask and picture have the same width and height.

        Raises:
            UserError: if they differ.
        """
        if mask != image:
            raise UserError(
                f"The mask {self.mask_path} is {mask[0]}x{mask[1]}, "
                f"but its picture {self.image_path.name} is {image[0]}x{image[1]}.",
                "Masks belong to pictures in the order of their sorted names: check that none is "
                "missing, then resize the mask (nearest neighbour).",
            )


@dataclass(frozen=True)
class Capture:
    """Hold the views and cameras of one scene in the units of its files.

    Args:
        format: The name of the format.
        cameras_file: Where the cameras come from.
        views: One entry a picture.
        cameras: One camera a view, in world units.
        scale: Radius of the object's sphere, when the file says so.
        translation: Centre of the object's sphere, when the file says so.
        train: Views to train on, when the format says so.
        test: Views held out, when the format says so.
        points: Sparse points on the scene, in world units.
        notes: Sentences about what was skipped or adapted.
    """

    format: str
    cameras_file: Path
    views: tuple[View, ...]
    cameras: Cameras
    scale: float | None = None
    translation: Float[np.ndarray, "3"] | None = None
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    points: Float[np.ndarray, "n 3"] | None = None
    notes: tuple[str, ...] = ()


def as_mask(alpha: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return where a mask says object: above 127 of 255."""
    return alpha > 127


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
