"""Plain pictures of a mesh for learning: anti-aliased masks, premultiplied colours, and depth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64, UInt8
from torch import Tensor

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.mesh import Mesh, face_cross_products
from shapewright.kernels import raster_ops
from shapewright.kernels.backends import choose, load
from shapewright.kernels.pool import run_slices
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.rasterizer import draw, interpolate, rasterize
from shapewright.rendering.shading import lambert_light

SUPERSAMPLE = 4
NEAR = 0.1
# Of the world, from above and from one side: two views of one object differ in their shadows.
LIGHT = (0.4, 0.8, 0.45)
DEFAULT_COLOR = 0.7
SAMPLES_AT_ONCE = 2**22


@dataclass(frozen=True)
class ObjectPictures:
    """Hold the pictures of one object.

    Args:
        images: RGB times mask, then the mask.
        depth: Along the optical axis, of the nearest sample of pixels at least half covered; infinite elsewhere.
    """

    images: UInt8[np.ndarray, "views 4 size size"]
    depth: Float32[np.ndarray, "views size size"]


def draw_pictures(mesh: Mesh, cameras: Cameras, with_depth: bool = False) -> ObjectPictures:
    """Return pictures of a mesh on black, both sides of its faces drawn.

    A mask is the covered share of 4 x 4 samples of each pixel. A face shows the colours of its vertices times
    ``0.5 + 0.5 |n . l|``, with n its normal and l the direction of a light that stays with the world.

    Args:
        mesh: In the world; grey without colours.
        cameras: Of square pictures, all of one size.
        with_depth: Whether depth is wanted too; else it is infinite everywhere.
    """
    size = int(cameras.sizes[0, 0])
    at_once = max(1, SAMPLES_AT_ONCE // (size * SUPERSAMPLE) ** 2)
    brightness = _brightness(mesh)
    colors = mesh.vertex_colors
    colors = torch.full_like(mesh.vertices, DEFAULT_COLOR) if colors is None else colors.clamp(0, 1)
    images, depths = [], []
    for first in range(0, len(cameras), at_once):
        chosen = cameras[slice(first, first + at_once)]
        screen = project_perspective(mesh.vertices.double(), chosen)
        drawn = _draw_fast if choose("cpu") == "cpu" else _draw_plain
        rgb, coverage, depth = drawn(screen, mesh.faces, colors.double(), brightness, size)
        channels = torch.cat([rgb.movedim(-1, 1), coverage[:, None]], dim=1)
        images.append((channels.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        depths.append(_pixel_depth(depth, coverage) if with_depth else np.full(coverage.shape, np.inf, np.float32))
    return ObjectPictures(np.concatenate(images), np.concatenate(depths))


def _brightness(mesh: Mesh) -> Float64[Tensor, " faces"]:
    # However small the faces are.
    normals = torch.nn.functional.normalize(face_cross_products(mesh.to(torch.float64)), dim=1, eps=1e-300)
    return lambert_light(normals, normals.new_tensor(LIGHT))[:, 0]


def _draw_fast(
    screen: Float64[Tensor, "views vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    colors: Float64[Tensor, "vertices 3"],
    brightness: Float64[Tensor, " faces"],
    size: int,
) -> tuple[Float64[Tensor, "views size size 3"], Float64[Tensor, "views size size"], Float32[Tensor, "views n n"]]:
    samples = screen * screen.new_tensor([SUPERSAMPLE, SUPERSAMPLE, 1.0])
    rule = raster_ops.RasterRule(size * SUPERSAMPLE, NEAR)
    face_id, depth = raster_ops.rasterize(samples, faces, rule)
    picture = torch.zeros(len(screen), size, size, 3, dtype=torch.float64)
    coverage = torch.zeros(len(screen), size, size, dtype=torch.float64)
    arrays = [array.contiguous().numpy() for array in (samples, faces.int(), colors, brightness, face_id)]
    kernel = load("cpu", "shading").shade
    run_slices(len(screen), partial(kernel, *arrays, SUPERSAMPLE, picture.numpy(), coverage.numpy()), minimum=1)
    return picture / SUPERSAMPLE**2, coverage / SUPERSAMPLE**2, depth


def _draw_plain(
    screen: Float64[Tensor, "views vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    colors: Float64[Tensor, "vertices 3"],
    brightness: Float64[Tensor, " faces"],
    size: int,
) -> tuple[Float64[Tensor, "views size size 3"], Float64[Tensor, "views size size"], Float32[Tensor, "views n n"]]:
    """Return what ``_draw_fast`` does, by the public rasteriser."""
    fragments = rasterize(screen, faces, size, SUPERSAMPLE, NEAR)
    shade = brightness[fragments.face_id.clamp(min=0).long()]
    rgb, coverage = draw(interpolate(fragments, screen, colors) * shade[..., None], fragments)
    return rgb, coverage, fragments.depth


def _pixel_depth(
    depth: Float[Tensor, "views n n"], coverage: Float[Tensor, "views size size"]
) -> Float32[np.ndarray, "views size size"]:
    nearest = -torch.nn.functional.max_pool2d(-depth[:, None], SUPERSAMPLE)[:, 0]
    return torch.where(coverage >= 0.5, nearest, torch.inf).float().numpy()
