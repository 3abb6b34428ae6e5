"""Pictures of another size, and pieces of pictures, with anti-aliasing."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

OBJECTS_AT_ONCE = 64


def resize_bytes(images: UInt8[np.ndarray, "*n height width"], size: int) -> UInt8[np.ndarray, "*n size size"]:
    """Return square pictures of another size, by a triangle filter as wide as a new pixel asks for.

    Args:
        images: At least one axis before the rows.
        size: Pixels along each side.
    """
    out = np.empty((*images.shape[:-2], size, size), np.uint8)
    for start in range(0, len(images), OBJECTS_AT_ONCE):
        some = torch.from_numpy(np.array(images[start : start + OBJECTS_AT_ONCE])).float()
        planes = some.reshape(1, -1, *images.shape[-2:])
        small = torch.nn.functional.interpolate(planes, (size, size), mode="bilinear", antialias=True)
        out[start : start + OBJECTS_AT_ONCE] = small.round().clamp(0, 255).byte().reshape(len(some), *out.shape[1:])
    return out


def crop_and_resize(
    pictures: Float[Tensor, "n channels height width"], boxes: Float[Tensor, "n 4"], size: int
) -> Float[Tensor, "n channels size size"]:
    """Return a piece of each picture, stretched to a square, by a triangle filter as wide as a new pixel asks for.

    Args:
        pictures: Of one size.
        boxes: Left, top, right and bottom as shares of each picture, in [0, 1].
        size: Pixels along each side of what is returned.
    """
    height, width = pictures.shape[-2:]
    across = _filter_rows(boxes[:, 0] * width, boxes[:, 2] * width, width, size)
    down = _filter_rows(boxes[:, 1] * height, boxes[:, 3] * height, height, size)
    return down[:, None] @ pictures @ across[:, None].transpose(2, 3)


def _filter_rows(
    low: Float[Tensor, " n"], high: Float[Tensor, " n"], pixels: int, size: int
) -> Float[Tensor, "n size pixels"]:
    """Return what each old pixel gives to each new one; the weights of a new pixel sum to 1."""
    step = (high - low) / size
    places = low[:, None] + (torch.arange(size).to(low) + 0.5) * step[:, None]
    # Beyond the rim the outermost pixel goes on.
    places = places.clamp(0.5, pixels - 0.5)
    reach = step.clamp(min=1)[:, None, None]
    weights = (1 - (places[:, :, None] - torch.arange(pixels).to(low) - 0.5).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=2, keepdim=True)
