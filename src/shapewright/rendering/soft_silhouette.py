"""Silhouettes of meshes that can be learned from: coverage of each pixel, with a gradient of four kinds.

A hard silhouette is the share of covered samples in each pixel, and its derivative is zero or undefined at every
sample. The kinds of gradient, by reach:

* ``contour``: the derivative of exact coverage, an integral over the outline. Local and unbiased.
* ``reach``: the same, but an outline also feels pixels up to ``reach`` away along its normal. No derivative.
* ``nmr``: the Neural Mesh Renderer's (arXiv:1711.07566), to the border of the image. No derivative.
* ``soft``: every face fades with the distance to its border (SoftRas, arXiv:1904.01786), and the exact derivative of
  that; the picture is soft too.

Depth gets no gradient. A mesh out of the picture gets none at all.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import avg_pool2d

from shapewright.checks import check_range, check_shape
from shapewright.geometry.mesh_edges import edge_table
from shapewright.kernels import backend, raster_ops
from shapewright.kernels.backends import choose
from shapewright.kernels.raster_ops import RasterRule

SilhouetteGradient = Literal["nmr", "reach", "contour", "soft"]


@dataclass(frozen=True)
class SilhouetteStyle:
    """Say how a silhouette is sampled and differentiated.

    Args:
        gradient: ``nmr``, ``reach``, ``contour`` or ``soft``.
        supersample: Samples along each side of a pixel.
        reach: How many pixels away an outline feels, with the gradient ``reach``.
        sigma: Squared softness in squared half images, with ``soft``.
        near: Least depth; faces with a vertex before it are not drawn. None in parallel projections.

    Raises:
        ValueError: if there is no such gradient, or a number is out of range.
    """

    gradient: SilhouetteGradient = "nmr"
    supersample: int = 2
    reach: int = 24
    sigma: float = 1e-4
    near: float | None = 0.1

    def __post_init__(self) -> None:
        if self.gradient not in get_args(SilhouetteGradient):
            choices = ", ".join(get_args(SilhouetteGradient))
            raise ValueError(f"gradient must be one of {choices}, got {self.gradient!r}.")
        check_range("supersample", self.supersample, 1)
        check_range("reach", self.reach, 1)
        check_range("sigma", self.sigma, 1e-12)


def silhouette(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    size: int,
    style: SilhouetteStyle | None = None,
) -> Float[Tensor, "images size size"]:
    """Return how much of each pixel a mesh covers, in [0, 1], differentiable once by x and y.

    Args:
        screen: x and y of the vertices in pixels, pixel centres at +0.5, and their depth; one row an image.
        faces: Vertex indices, shared by all images.
        size: Pixels along each side.
        style: How to sample and to differentiate.

    Raises:
        ValueError: if a shape does not fit, or a face names a missing vertex.
    """
    style = style or SilhouetteStyle()
    check_shape("screen", screen, (None, None, 3))
    check_shape("faces", faces, (None, 3))
    check_range("size", size, 1)
    return _Silhouette.apply(screen, faces, size, style)


class _Silhouette(Function):
    @staticmethod
    def forward(ctx: Any, screen: Tensor, faces: Tensor, size: int, style: SilhouetteStyle) -> Tensor:
        rule = RasterRule(size * style.supersample, style.near)
        samples = _in_samples(screen, style.supersample)
        if style.gradient == "soft":
            drawn = raster_ops.soft_cover(samples, faces, rule, style.sigma)
            covered = (1 - drawn).to(screen.dtype)
        elif style.gradient == "nmr":
            drawn = raster_ops.rasterize(samples, faces, rule)[0]
            covered = (drawn >= 0).to(screen.dtype)
        else:
            drawn = raster_ops.cover(samples, faces, rule)
            covered = drawn.to(screen.dtype)
        ctx.save_for_backward(screen, faces, drawn)
        # On CUDA the backward pass runs in another thread, which does not know what was asked for here.
        ctx.rule, ctx.style, ctx.backend = rule, style, choose(screen.device.type)
        return avg_pool2d(covered[:, None], style.supersample)[:, 0] if style.supersample > 1 else covered

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        screen, faces, drawn = ctx.saved_tensors
        rule, style = ctx.rule, ctx.style
        samples = _in_samples(screen, style.supersample)
        with backend(ctx.backend):
            by_samples = _backward(samples, faces, (rule, style), drawn, grad)
        by_screen = torch.zeros_like(screen)
        by_screen[..., :2] = style.supersample * by_samples
        return by_screen, None, None, None


def _backward(
    samples: Tensor, faces: Tensor, how: tuple[RasterRule, SilhouetteStyle], drawn: Tensor, grad: Tensor
) -> Tensor:
    """Return the gradient by x and y in samples; ``drawn`` is what the forward pass found at each sample."""
    rule, style = how
    if style.gradient == "soft":
        spread = grad.repeat_interleave(style.supersample, 1).repeat_interleave(style.supersample, 2)
        shares = spread.double() / style.supersample**2
        return raster_ops.soft_backward(samples, faces, rule, style.sigma, drawn, shares)
    if style.gradient == "nmr":
        return raster_ops.nmr_backward(samples, faces, rule, drawn, grad)
    steps = style.reach if style.gradient == "reach" else 0
    return raster_ops.outline_backward(samples, _edges_of(faces), rule, drawn, grad, steps)


def _in_samples(screen: Tensor, supersample: int) -> Tensor:
    # In double precision the product is exact, whatever the number of samples.
    return screen.detach().double() * screen.new_tensor([supersample, supersample, 1.0], dtype=torch.float64)


_edge_tables: dict[int, tuple[weakref.ref[Tensor], int, Tensor]] = {}


def _edges_of(faces: Tensor) -> Tensor:
    """Return the edge table of faces, kept as long as the tensor lives and is not written to."""
    key = id(faces)
    known = _edge_tables.get(key)
    if known is not None and known[0]() is faces and known[1] == faces._version:
        return known[2]
    table = edge_table(faces)
    _edge_tables[key] = (weakref.ref(faces, lambda _: _edge_tables.pop(key, None)), faces._version, table)
    return table
