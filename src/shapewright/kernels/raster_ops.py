"""Rasterisation and the gradients of silhouettes: back ends chosen by device, without autograd.

A screen holds x and y of each vertex in samples, with sample centres at +0.5, and its depth. On the CPU a task is an
image: no two threads write to the same one, so that results do not depend on their number. Soft silhouettes have no
Warp path: on other devices the reference makes them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from torch import Tensor

from shapewright.checks import check_faces, check_range, check_shape
from shapewright.kernels.backends import choose, load
from shapewright.kernels.pool import run_slices
from shapewright.kernels.reference import nmr_pictures as reference_pictures
from shapewright.kernels.reference import rasterizer as reference
from shapewright.kernels.reference import silhouettes as reference_silhouettes
from shapewright.kernels.reference.rasterizer import RasterRule

__all__ = [
    "RasterRule",
    "cover",
    "nmr_backward",
    "nmr_pictures_backward",
    "outline_backward",
    "rasterize",
    "soft_backward",
    "soft_cover",
]

Screen = Float[Tensor, "images vertices 3"]
Faces = Int64[Tensor, "faces 3"]


def rasterize(
    screen: Screen, faces: Faces, rule: RasterRule
) -> tuple[Int32[Tensor, "images size size"], Float32[Tensor, "images size size"]]:
    """Return the nearest face of each sample (-1: none) and its depth (infinite: none).

    All back ends return the same faces. ``kernels.reference.rasterizer`` states the rule.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.

    Raises:
        ValueError: if a shape does not fit, or a face names a missing vertex.
    """
    _check(screen, faces, rule)
    if not _uses_numba(screen):
        return _elsewhere(screen, "rasterizer", reference).rasterize(screen, faces, rule)
    ids = torch.full((len(screen), rule.size, rule.size), -1, dtype=torch.int32)
    depth = torch.full(ids.shape, torch.inf)
    kernel = load("cpu", "rasterizer").rasterize
    settings = rule.least_depth, rule.is_parallel, rule.culls_back
    _run_images(len(screen), partial(kernel, *_mesh(screen, faces), *settings, ids.numpy(), depth.numpy()))
    return ids, depth


def cover(screen: Screen, faces: Faces, rule: RasterRule) -> Bool[Tensor, "images size size"]:
    """Return which samples a face covers, whichever way it looks; quicker than :func:`rasterize`.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.

    Raises:
        ValueError: if a shape does not fit, or a face names a missing vertex.
    """
    _check(screen, faces, rule)
    if not _uses_numba(screen):
        return _elsewhere(screen, "rasterizer", reference).cover(screen, faces, rule)
    mask = torch.zeros(len(screen), rule.size, rule.size, dtype=torch.uint8)
    kernel = load("cpu", "rasterizer").cover
    _run_images(len(screen), partial(kernel, *_mesh(screen, faces), rule.least_depth, mask.numpy()))
    return mask.view(torch.bool)


def outline_backward(
    screen: Screen,
    edges: Int64[Tensor, "edges 4"],
    rule: RasterRule,
    mask: Bool[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
    steps: int = 0,
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient that acts on the outline: the derivative of coverage, or with ``steps`` one of longer reach.

    Args:
        screen: x and y in samples, and the depth.
        edges: What ``geometry.mesh_edges.edge_table`` returns.
        rule: What is drawn.
        mask: What :func:`cover` returns.
        grad: Gradient by the pixels of the silhouette.
        steps: How many pixels an outline reaches to either side; 0 for the derivative.

    Raises:
        ValueError: if a shape does not fit.
    """
    _check_pixels(screen, rule, mask, grad)
    check_shape("edges", edges, (None, 4))
    if not _uses_numba(screen):
        return _elsewhere(screen, "rasterizer", reference_silhouettes).outline_backward(
            screen, edges, rule, mask, grad, steps
        )
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64)
    arrays = _array(screen.double()), _array(edges.int()), rule.least_depth, _array(mask.view(torch.uint8))
    kernel = load("cpu", "silhouettes").outline_backward
    _run_images(len(screen), partial(kernel, *arrays, _array(grad), steps, by_screen.numpy()))
    return by_screen


def nmr_backward(
    screen: Screen,
    faces: Faces,
    rule: RasterRule,
    ids: Int32[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient of the Neural Mesh Renderer, which reaches to the border of the image.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.
        ids: What :func:`rasterize` returns.
        grad: Gradient by the pixels of the silhouette.

    Raises:
        ValueError: if a shape does not fit.
    """
    _check_pixels(screen, rule, ids, grad)
    if not _uses_numba(screen):
        return _elsewhere(screen, "nmr_pictures", reference_pictures).nmr_backward(screen, faces, rule, ids, grad)
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64)
    arrays = *_mesh(screen, faces), rule.least_depth, _array(ids), _array(grad)
    kernel = load("cpu", "silhouettes").nmr_backward

    def run(begin: int, end: int) -> None:
        kernel(*arrays, *_nmr_scratch(rule.size, len(faces), arrays[-1].dtype), by_screen.numpy(), begin, end)

    _run_images(len(screen), run)
    return by_screen


def nmr_pictures_backward(
    screen: Screen,
    faces: Faces,
    ids: Int32[Tensor, "images samples samples"],
    picture: Float[Tensor, "images samples samples channels"],
    grad: Float[Tensor, "images samples samples channels"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient of the Neural Mesh Renderer for pictures with colours.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        ids: What :func:`rasterize` returns.
        picture: Colours of the samples, the background among them.
        grad: Gradient by the samples of the picture.

    Raises:
        ValueError: if a shape does not fit.
    """
    _check_pixels(screen, RasterRule(ids.shape[-1]), ids, grad[..., 0])
    check_shape("picture", picture, (*ids.shape, None))
    check_shape("grad", grad, tuple(picture.shape))
    if not _uses_numba(screen):
        return _elsewhere(screen, "nmr_pictures", reference_pictures).nmr_pictures_backward(
            screen, faces, ids, picture, grad
        )
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64)
    # By columns and by rows, so that every line is read in order.
    lines = [_array(torch.stack([part.transpose(1, 2), part], dim=1)) for part in (ids, picture, grad)]
    kernel = load("cpu", "nmr_pictures").nmr_pictures_backward
    mesh = _mesh(screen, faces)

    def run(begin: int, end: int) -> None:
        kernel(*mesh, *lines, np.empty(len(faces), np.uint8), by_screen.numpy(), begin, end)

    _run_images(len(screen), run)
    return by_screen


def soft_cover(screen: Screen, faces: Faces, rule: RasterRule, sigma: float) -> Float[Tensor, "images size size"]:
    """Return the product over faces of one minus their soft coverage of each sample.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.
        sigma: Squared softness, in squared half images.

    Raises:
        ValueError: if a shape does not fit, or ``sigma`` is not positive.
    """
    _check(screen, faces, rule)
    check_range("sigma", sigma, 1e-12)
    if not _uses_numba(screen):
        return reference_silhouettes.soft_cover(screen.detach(), faces, rule, sigma)
    empty = torch.ones(len(screen), rule.size, rule.size, dtype=screen.dtype)
    settings = rule.least_depth, sigma, reference_silhouettes.SOFT_LIMIT
    kernel = load("cpu", "soft_silhouettes").soft_cover
    _run_images(len(screen), partial(kernel, *_mesh(screen, faces), *settings, empty.numpy()))
    return empty


def soft_backward(
    screen: Screen,
    faces: Faces,
    rule: RasterRule,
    sigma: float,
    empty: Float[Tensor, "images size size"],
    grad: Float[Tensor, "images size size"],
) -> Float[Tensor, "images vertices 2"]:
    """Return the gradient of ``1 - soft_cover(screen)`` by x and y.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.
        sigma: Squared softness, in squared half images.
        empty: What :func:`soft_cover` returned.
        grad: Gradient by the samples.

    Raises:
        ValueError: if a shape does not fit.
    """
    _check_pixels(screen, rule, empty, grad)
    if not _uses_numba(screen):
        forward = partial(reference_silhouettes.soft_cover, faces=faces, rule=rule, sigma=sigma)
        return reference_silhouettes.soft_backward(screen, forward, grad)
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64)
    settings = rule.least_depth, sigma, reference_silhouettes.SOFT_LIMIT
    arrays = *_mesh(screen, faces), *settings, _array(empty), _array(grad)
    kernel = load("cpu", "soft_silhouettes").soft_backward
    _run_images(len(screen), partial(kernel, *arrays, by_screen.numpy()))
    return by_screen


def _uses_numba(screen: Tensor) -> bool:
    return choose(screen.device.type) == "cpu"


def _elsewhere(screen: Tensor, name: str, plain: ModuleType) -> ModuleType:
    """Return Warp's module of a name where Warp is used, the reference otherwise."""
    return load("warp", name) if choose(screen.device.type) == "warp" else plain


def _run_images(images: int, job: Callable[[int, int], Any]) -> None:
    run_slices(images, job, minimum=1)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _mesh(screen: Tensor, faces: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return _array(screen.double()), _array(faces.int())


def _nmr_scratch(size: int, num_faces: int, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    lines = np.empty((2, size, size), np.int32)
    wishes, positions, values = (np.empty(lines.shape, dtype) for _ in range(3))
    return lines, wishes, positions, values, np.empty((2, size, size + 1), np.int32), np.empty(num_faces, np.uint8)


def _check(screen: Tensor, faces: Tensor, rule: RasterRule) -> None:
    check_shape("screen", screen, (None, None, 3))
    check_range("size", rule.size, 1)
    check_faces(faces, screen.shape[1])


def _check_pixels(screen: Tensor, rule: RasterRule, samples: Tensor, grad: Tensor) -> None:
    check_shape("screen", screen, (None, None, 3))
    check_shape("samples", samples, (len(screen), rule.size, rule.size))
    check_shape("grad", grad, (len(screen), None, None))
    if grad.shape[1] != grad.shape[2] or grad.shape[1] == 0 or rule.size % grad.shape[1]:
        raise ValueError(f"grad must have a side that divides {rule.size}, got {list(grad.shape[1:])}.")
