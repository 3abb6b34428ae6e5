"""Marching and compositing of packed samples: back ends chosen by device, derivatives written once.

Samples of all rays lie one after the other; ray ``r`` owns ``starts[r] .. starts[r + 1]``. Second derivatives of
compositing run through the reference: normals enter through the opacities, so fields, not rays, are differentiated
twice in training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.autograd import Function

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.kernels.backends import choose, load
from shapewright.kernels.pool import run_tasks, slices
from shapewright.kernels.reference import compositing as reference
from shapewright.kernels.reference.marching import Lattice

__all__ = ["Lattice", "composite", "composite_thickness", "march", "ray_sum"]


def march(
    lattice: Lattice, occupied: Bool[Tensor, "size size size"]
) -> tuple[Int64[Tensor, " rays_1"], Float[Tensor, " samples"]]:
    """Return where rays have samples: those of a regular lattice that lie in an occupied cell.

    All back ends return the same samples, up to those within 1e-6 of a face of a cell. There is no gradient.

    Args:
        lattice: The rays, and where on them samples may lie.
        occupied: Cells of the cube [0,1]^3, indexed by x, y, z; positions outside count as the nearest cell.

    Returns:
        starts: Offsets of each ray's samples; the last entry is their number.
        depths: ``t`` of each sample, increasing along each ray.

    Raises:
        ValueError: if a shape does not fit, the step is not positive, or an interval is not finite.
    """
    num_rays = len(lattice.near)
    for name, width in (("origins", 3), ("directions", 3), ("near", None), ("far", None), ("jitter", None)):
        check_shape(name, getattr(lattice, name), (num_rays,) if width is None else (num_rays, width))
    check_shape("occupied", occupied, (len(occupied),) * 3)
    check_range("step", lattice.step, 1e-12)
    check_finite("near", lattice.near)
    check_finite("far", lattice.far)
    name = choose(lattice.near.device.type)
    return _march_cpu(lattice, occupied) if name == "cpu" else load(name, "marching").march(lattice, occupied)


def composite(
    alpha: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    """Return the weight ``T_i alpha_i`` of each sample, and the light ``T_end`` left after each ray.

    ``T_i = prod_{j<i} (1 - alpha_j)`` over the same ray (NeRF, arXiv:2003.08934, eq. 3). A sample that is not finite
    spoils its own ray and no other.

    Args:
        alpha: Opacities in [0, 1].
        starts: Offsets of each ray's samples.

    Raises:
        ValueError: if a tensor has more than one axis.
    """
    check_shape("alpha", alpha, (None,))
    check_shape("starts", starts, (None,))
    name = choose(alpha.device.type)
    if name == "reference":
        return reference.composite(alpha, starts)
    return _Composite.apply(alpha, starts, name)


def composite_thickness(
    thickness: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    """Return weights and rest, as ``composite``, for ``alpha = -expm1(-thickness)``.

    Args:
        thickness: Optical thickness of each sample, density times length; non-negative.
        starts: Offsets of each ray's samples.

    Raises:
        ValueError: if a tensor has more than one axis.
    """
    return composite(-torch.expm1(-thickness), starts)


def ray_sum(
    weights: Float[Tensor, " samples"], values: Float[Tensor, "samples channels"], starts: Int64[Tensor, " rays_1"]
) -> Float[Tensor, "rays channels"]:
    """Return ``sum_i w_i v_i`` over the samples of each ray, differentiable any number of times.

    Args:
        weights: Weight of each sample.
        values: What is summed, such as colours.
        starts: Offsets of each ray's samples; a ray without samples gets 0.

    Raises:
        ValueError: if there is not one weight for each value.
    """
    check_shape("weights", weights, (len(values),))
    return _RaySum.apply(weights, values, starts, choose(weights.device.type))


class _Composite(Function):
    @staticmethod
    def forward(ctx: Any, alpha: Tensor, starts: Tensor, name: str) -> tuple[Tensor, Tensor]:
        run = _composite_cpu if name == "cpu" else load(name, "compositing").composite
        weights, before, rest = run(alpha.contiguous(), starts)
        ctx.save_for_backward(alpha, starts, before)
        ctx.name = name
        return weights, rest

    @staticmethod
    def backward(ctx: Any, by_weights: Tensor, by_rest: Tensor) -> tuple[Tensor, None, None]:
        alpha, starts, before = ctx.saved_tensors
        if torch.is_grad_enabled():
            # A view, so that only the path through this formula is differentiated.
            view = alpha.view_as(alpha)
            outputs = reference.composite(view, starts)
            return torch.autograd.grad(outputs, view, (by_weights, by_rest), create_graph=True)[0], None, None
        run = _composite_backward_cpu if ctx.name == "cpu" else load(ctx.name, "compositing").composite_backward
        return run(alpha.contiguous(), starts, before, by_weights.contiguous(), by_rest.contiguous()), None, None


class _RaySum(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, values: Tensor, starts: Tensor, name: str) -> Tensor:
        ctx.save_for_backward(weights, values, starts)
        run = _ray_sum_cpu if name == "cpu" else load(name, "compositing").ray_sum
        return run(weights.contiguous(), values.contiguous(), starts)

    @staticmethod
    def backward(ctx: Any, by_sums: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        weights, values, starts = ctx.saved_tensors
        by_sample = by_sums[reference.ray_of_sample(starts)]
        by_weights = (by_sample * values).sum(dim=-1) if ctx.needs_input_grad[0] else None
        by_values = weights[:, None] * by_sample if ctx.needs_input_grad[1] else None
        return by_weights, by_values, None, None


# The CPU path: kernels/cpu, on ranges of rays with about equally many samples.


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def _run_rays(starts: np.ndarray, job: Callable[[int, int], None]) -> None:
    """Run a job over ranges of whole rays, cut where the number of samples says."""
    inner: Sequence[int] | np.ndarray = np.searchsorted(starts, slices(int(starts[-1]))[1:-1]) if len(starts) else []
    edges = np.unique([0, *inner, len(starts) - 1])
    run_tasks([partial(job, int(begin), int(end)) for begin, end in pairwise(edges)])


def _march_cpu(lattice: Lattice, occupied: Tensor) -> tuple[Tensor, Tensor]:
    kernel = load("cpu", "marching").march_lattice
    columns = (lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter)
    rays = [_array(column.double()) for column in columns]
    cells = _array(occupied.to(torch.uint8))
    starts = np.zeros(len(lattice.near) + 1, np.int64)
    kernel(*rays, lattice.step, cells, starts, np.empty(0), True)
    np.cumsum(starts, out=starts)
    depths = np.empty(starts[-1])
    kernel(*rays, lattice.step, cells, starts, depths, False)
    return torch.from_numpy(starts), torch.from_numpy(depths).to(lattice.near.dtype)


def _composite_cpu(alpha: Tensor, starts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    kernel = load("cpu", "compositing").composite
    weights, before, rest = torch.empty_like(alpha), torch.empty_like(alpha), alpha.new_empty(len(starts) - 1)
    edges = _array(starts)
    arrays = _array(alpha), edges, weights.numpy(), before.numpy(), rest.numpy()
    _run_rays(edges, partial(kernel, *arrays))
    return weights, before, rest


def _composite_backward_cpu(
    alpha: Tensor, starts: Tensor, before: Tensor, by_weights: Tensor, by_rest: Tensor
) -> Tensor:
    kernel = load("cpu", "compositing").composite_backward
    by_alpha = torch.empty_like(alpha)
    edges = _array(starts)
    arrays = _array(alpha), edges, *map(_array, (before, by_weights, by_rest, by_alpha))
    _run_rays(edges, partial(kernel, *arrays))
    return by_alpha


def _ray_sum_cpu(weights: Tensor, values: Tensor, starts: Tensor) -> Tensor:
    kernel = load("cpu", "compositing").ray_sum
    sums = values.new_empty(len(starts) - 1, values.shape[1])
    edges = _array(starts)
    slots = np.arange(len(weights), dtype=np.int32)
    arrays = _array(weights), _array(values.T), slots, edges, sums.numpy()
    _run_rays(edges, partial(kernel, *arrays))
    return sums
