"""Light on meshes: normals, what a light makes of them, and how bright the samples of a picture are."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from shapewright.checks import check_range, check_shape
from shapewright.rendering.rasterizer import Fragments, interpolate

# What is left of a colour where a face shows its back, about 0.3 of the light: a mesh turned inside out does not pass
# for a whole one.
BACK_LIGHT = 0.58

# Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, 2001, eq. 13: how a Lambertian
# surface answers to the nine spherical harmonics of the light, divided by pi, times the harmonics' constants.
_BAND = (
    0.5 / math.sqrt(math.pi),
    2 / 3 * math.sqrt(3 / (4 * math.pi)),
    0.25 * math.sqrt(15 / (4 * math.pi)),
    0.25 * math.sqrt(5 / (16 * math.pi)),
    0.25 * math.sqrt(15 / (16 * math.pi)),
)


def shade(
    fragments: Fragments,
    screen: Float[Tensor, "images vertices 3"],
    normals: Float[Tensor, "*images vertices 3"],
    direction: Float[Tensor, "*images 3"],
    back_light: float = BACK_LIGHT,
) -> Float[Tensor, "images samples samples 1"]:
    """Return by what the colour of each sample is multiplied: ``0.5 + 0.5 |n . l|``, less where a face shows its back.

    Args:
        fragments: What ``rasterize`` returned.
        screen: As it was rasterised, x and y in pixels, and the depth; differentiable.
        normals: Of the vertices, of any length, outwards or inwards: one set for all images, or one for each;
            differentiable.
        direction: From the mesh to the light, of any length, in the frame of the normals: one for all images, or one
            for each.
        back_light: What is left of the light where a face shows its back, in [0, 1]; 1: both sides are alike.

    Returns:
        In [0.5, 1], times ``back_light`` on backs; 0 where there is no face.

    Raises:
        ValueError: if a shape does not fit, or ``back_light`` is out of range.
    """
    check_range("back_light", back_light, 0.0, 1.0)
    light = lambert_light(interpolate(fragments, screen, normals), direction[..., None, None, :])
    light = torch.where(fragments.is_back(screen)[..., None], back_light * light, light)
    return torch.where(fragments.is_covered[..., None], light, 0.0)


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
    direction: Float[Tensor, "*#samples 3"],
    ambient: float = 0.5,
    diffuse: float = 0.5,
    two_sided: bool = True,
) -> Float[Tensor, "*samples 1"]:
    """Return ``ambient + diffuse |n . l|``, by which a colour is multiplied.

    Args:
        normals: Interpolated ones need not be of unit length.
        direction: From the surface to the light, of any length; one for all samples, or one each.
        ambient: Light from everywhere.
        diffuse: Light from the direction.
        two_sided: Whether faces turned away get as much; otherwise ``max(0, n . l)`` counts.
    """
    cosine = (normalize(normals, dim=-1, eps=1e-12) * normalize(direction, dim=-1)).sum(-1, keepdim=True)
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
