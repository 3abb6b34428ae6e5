"""Colour on meshes: textures looked up at UV coordinates, and light on normals."""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import grid_sample, normalize

from shapewright.checks import check_shape
from shapewright.rendering.rasterizer import Fragments

# Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, 2001, eq. 13: how a Lambertian
# surface answers to the nine spherical harmonics of the light, divided by pi, times the harmonics' constants.
_BAND = (
    0.5 / math.sqrt(math.pi),
    2 / 3 * math.sqrt(3 / (4 * math.pi)),
    0.25 * math.sqrt(15 / (4 * math.pi)),
    0.25 * math.sqrt(5 / (16 * math.pi)),
    0.25 * math.sqrt(15 / (16 * math.pi)),
)


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


def vertex_normals_of(
    vertices: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"]
) -> Float[Tensor, "images vertices 3"]:
    """Return unit normals of a batch of meshes, the faces' normals weighted by area; differentiable."""
    a, b, c = (vertices[:, faces[:, k]] for k in range(3))
    per_face = torch.linalg.cross(b - a, c - a)
    sums = torch.zeros_like(vertices)
    for k in range(3):
        sums = sums.index_add(1, faces[:, k], per_face)
    return normalize(sums, dim=-1, eps=1e-12)


def lambert_light(
    normals: Float[Tensor, "*samples 3"],
    direction: Float[Tensor, "3"],
    ambient: float = 0.5,
    diffuse: float = 0.5,
    two_sided: bool = True,
) -> Float[Tensor, "*samples 1"]:
    """Return ``ambient + diffuse |n . l|``, by which a colour is multiplied.

    Args:
        normals: Interpolated ones need not be of unit length.
        direction: From the surface to the light.
        ambient: Light from everywhere.
        diffuse: Light from the direction.
        two_sided: Whether faces turned away get as much; otherwise ``max(0, n . l)`` counts.
    """
    cosine = (normalize(normals, dim=-1, eps=1e-12) * normalize(direction, dim=0)).sum(-1, keepdim=True)
    return ambient + diffuse * (cosine.abs() if two_sided else cosine.clamp(min=0))


def harmonic_light(
    normals: Float[Tensor, "*samples 3"], coefficients: Float[Tensor, "9 channels"]
) -> Float[Tensor, "*samples channels"]:
    """Return what a white Lambertian surface reflects of a light given by nine spherical harmonics.

    It is ``1 / pi`` times the irradiance (Ramamoorthi and Hanrahan 2001, eq. 11), so that a light of radiance 1 from
    everywhere, ``coefficients[0] = 2 sqrt(pi)``, gives 1.

    Args:
        normals: Interpolated ones need not be of unit length.
        coefficients: Of the radiance, for 1; y, z, x; xy, yz, 3z^2 - 1, xz, x^2 - y^2.
    """
    check_shape("coefficients", coefficients, (9, None))
    x, y, z = normalize(normals, dim=-1, eps=1e-12).unbind(-1)
    k0, k1, k2, k3, k4 = _BAND
    basis = [
        torch.full_like(x, k0),
        k1 * y,
        k1 * z,
        k1 * x,
        k2 * x * y,
        k2 * y * z,
        k3 * (3 * z * z - 1),
        k2 * x * z,
        k4 * (x * x - y * y),
    ]
    return torch.stack(basis, dim=-1) @ coefficients
