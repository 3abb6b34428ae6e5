"""Costs of the shape of a mesh, with autograd: back ends chosen by device.

On the CPU images are independent: no two threads write to the same one, so that results do not depend on their number.
On other devices, and where Warp is asked for, the reference runs.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import Function, once_differentiable

from shapewright.checks import check_faces, check_shape
from shapewright.kernels.backends import choose, load
from shapewright.kernels.pool import run_slices
from shapewright.kernels.reference import flatness as reference

__all__ = ["flatness"]


def flatness(vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges 4"]) -> Float[Tensor, " images"]:
    """Return ``sum_e (c_e + 1)^2`` of each mesh; ``losses.flatness.flatness_loss`` states c.

    On the CPU in float32 and float64 it is differentiable once, and the derivative comes with the value.

    Args:
        vertices: One mesh an image.
        edges: Each edge with its opposite vertices; those with one face, -1 in the last column, are left out.

    Raises:
        ValueError: if a shape does not fit, or an edge names a missing vertex.
    """
    check_shape("vertices", vertices, (None, None, 3))
    check_shape("edges", edges, (None, 4))
    if choose(vertices.device.type) != "cpu" or vertices.dtype not in (torch.float32, torch.float64):
        return reference.flatness(vertices, edges)
    whole = edges[edges[:, 3] >= 0]
    check_faces(whole, vertices.shape[1], "edges", 4)
    return _Flatness.apply(vertices, whole)


class _Flatness(Function):
    @staticmethod
    def forward(ctx: Any, vertices: Tensor, edges: Tensor) -> Tensor:
        points = vertices.detach().contiguous()
        value = torch.zeros(len(points), dtype=torch.float64)
        grad = torch.empty_like(points)
        kernel = load("cpu", "flatness")
        number = points.numpy().dtype.type
        arrays = points.numpy(), edges.int().contiguous().numpy(), number(reference.EPS), number(1)
        results = value.numpy(), grad.numpy()
        run_slices(len(points), lambda begin, end: kernel.flatness(*arrays, *results, begin, end), kernel.LANES)
        ctx.save_for_backward(grad)
        return value.to(vertices.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_value: Tensor) -> tuple[Tensor, None]:
        (grad,) = ctx.saved_tensors
        return grad * by_value[:, None, None], None
