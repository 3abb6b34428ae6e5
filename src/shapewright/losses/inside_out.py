"""The loss of surfaces that are seen from behind: silhouettes do not tell the inside of a mesh from its outside."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int32, Int64
from torch import Tensor

from shapewright.geometry.mesh import clockwise_areas


def inside_out_loss(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    face_id: Int32[Tensor, "images size size"],
) -> Float[Tensor, ""]:
    """Return about the share of the drawn pixels that show the back of a face, the mean over images.

    The gradient is that of area: a face of which n pixels show the back counts n times its area over the area that it
    has now, and so it shrinks, and neighbours that look at the camera take its place. A face that is smaller than its
    pixels counts by its area alone, which keeps the gradient of slivers finite. Nothing follows from depth.

    Args:
        screen: x and y in pixels, y down; one row an image.
        faces: Counter-clockwise from outside, shared by all images.
        face_id: The nearest face at each pixel; -1 where there is none.
    """
    areas = clockwise_areas(screen, faces)
    ids = face_id.flatten(1).long() + 1
    pixels = screen.new_zeros(len(screen), len(faces) + 1)
    pixels = pixels.scatter_add(1, ids, torch.ones_like(ids, dtype=screen.dtype))[:, 1:]
    shown = torch.where(areas > 0, pixels, 0)
    shares = shown * areas / torch.maximum(areas.detach(), shown).clamp(min=1)
    return (shares.sum(1) / pixels.sum(1).clamp(min=1)).mean()
