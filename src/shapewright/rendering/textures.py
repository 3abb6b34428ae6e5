"""Colour on meshes: textures looked up at UV coordinates."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import grid_sample

from shapewright.checks import check_shape
from shapewright.rendering.rasterizer import Fragments


def sample_texture(
    texture: Float[Tensor, "images channels height width"],
    uv: Float[Tensor, "images rows columns 2"],
    wrap: Literal["clamp", "around"] = "clamp",
) -> Float[Tensor, "images rows columns channels"]:
    """Return the texture at UV coordinates, bilinear, differentiable by both.

    With ``clamp``, texels have half-pixel centres: column i at ``u = (i + 0.5) / W``, row j at
    ``v = 1 - (j + 0.5) / H``.
    With ``around``, as the sphere's textures have it, u goes around with half-pixel centres, and v is corner-aligned:
    row 0 is v = 1 and row H - 1 is v = 0.

    Args:
        texture: One for each image.
        uv: In [0, 1], v upwards; beyond, the border's colour is meant, but for u with ``around``.
        wrap: What happens at the left and the right border.

    Raises:
        ValueError: if there is not one texture for each image.
    """
    check_shape("uv", uv, (len(texture), None, None, 2))
    u, v = uv.unbind(-1)
    if wrap == "clamp":
        grid = torch.stack([2 * u - 1, 1 - 2 * v], dim=-1)
        found = grid_sample(texture, grid, mode="bilinear", padding_mode="border", align_corners=False)
        return found.movedim(1, -1)
    width = texture.shape[-1]
    padded = torch.cat([texture[..., -1:], texture, texture[..., :1]], dim=-1)
    # Columns -1 .. W of the padded texture lie at u = -1 / 2W .. 1 + 1 / 2W.
    along = (u - u.detach().floor()) * width + 0.5
    grid = torch.stack([2 * along / (width + 1) - 1, 1 - 2 * v], dim=-1)
    found = grid_sample(padded, grid, mode="bilinear", padding_mode="border", align_corners=True)
    return found.movedim(1, -1)


def interpolate_corners(
    fragments: Fragments,
    screen: Float[Tensor, "images vertices 3"],
    values: Float[Tensor, "entries channels"],
    corner_index: Int64[Tensor, "faces 3"],
) -> Float[Tensor, "images samples samples channels"]:
    """Return values kept apart from vertices, such as UV coordinates with seams, at each sample; 0 where no face is.

    Args:
        fragments: What is seen where.
        screen: As it was rasterised; differentiable.
        values: The table; differentiable.
        corner_index: Which row belongs to each corner of each face.

    Raises:
        ValueError: if there are not three rows for each face.
    """
    check_shape("corner_index", corner_index, (len(fragments.faces), 3))
    if not corner_index.numel():
        return values.new_zeros(*fragments.face_id.shape, values.shape[1])
    corners = values[corner_index[fragments.face_id.clamp(min=0).long()]]
    return (fragments.barycentrics(screen)[..., None] * corners).sum(-2)
