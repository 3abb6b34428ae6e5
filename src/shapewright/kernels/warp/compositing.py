"""Compositing of packed samples in Warp; formulas in ``reference/compositing.py``. One thread for each ray."""

from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.kernels.warp.device import launch

wp.set_module_options({"enable_backward": False})


@wp.kernel
def composite_kernel(
    alpha: wp.array(dtype=Any),
    starts: wp.array(dtype=wp.int64),
    weights: wp.array(dtype=Any),
    before: wp.array(dtype=Any),
    rest: wp.array(dtype=Any),
) -> None:
    """Multiply what samples let through, from the front."""
    ray = wp.tid()
    left = type(rest[ray])(1.0)
    for i in range(int(starts[ray]), int(starts[ray + 1])):
        before[i] = left
        weights[i] = left * alpha[i]
        left = left * (type(left)(1.0) - alpha[i])
    rest[ray] = left


@wp.kernel
def composite_backward_kernel(
    alpha: wp.array(dtype=Any),
    starts: wp.array(dtype=wp.int64),
    before: wp.array(dtype=Any),
    by_weights: wp.array(dtype=Any),
    by_rest: wp.array(dtype=Any),
    by_alpha: wp.array(dtype=Any),
) -> None:
    """Write ``T_i (g_i - S_{i+1})``, with ``S_i = alpha_i g_i + (1 - alpha_i) S_{i+1}`` carried from the back."""
    ray = wp.tid()
    behind = type(by_rest[ray])(by_rest[ray])
    first, last = int(starts[ray]), int(starts[ray + 1])
    for k in range(last - first):
        i = last - 1 - k
        by_alpha[i] = before[i] * (by_weights[i] - behind)
        behind = alpha[i] * by_weights[i] + (type(behind)(1.0) - alpha[i]) * behind


@wp.kernel
def ray_sum_kernel(
    weights: wp.array(dtype=Any),
    values: wp.array2d(dtype=Any),
    starts: wp.array(dtype=wp.int64),
    sums: wp.array2d(dtype=Any),
) -> None:
    """Sum one channel of a ray."""
    ray, channel = wp.tid()
    total = type(sums[ray, channel])(0.0)
    for i in range(int(starts[ray]), int(starts[ray + 1])):
        total += weights[i] * values[i, channel]
    sums[ray, channel] = total


def composite(
    alpha: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    """Return the weights, the transmittance before each sample and what is left after each ray."""
    weights, before = torch.empty_like(alpha), torch.empty_like(alpha)
    rest = alpha.new_empty(len(starts) - 1)
    launch(composite_kernel, (len(rest),), (alpha, starts, weights, before, rest), alpha.device)
    return weights, before, rest


def composite_backward(
    alpha: Float[Tensor, " samples"],
    starts: Int64[Tensor, " rays_1"],
    before: Float[Tensor, " samples"],
    by_weights: Float[Tensor, " samples"],
    by_rest: Float[Tensor, " rays"],
) -> Float[Tensor, " samples"]:
    """Return the gradient by the opacities."""
    by_alpha = torch.empty_like(alpha)
    arguments = alpha, starts, before, by_weights, by_rest, by_alpha
    launch(composite_backward_kernel, (len(starts) - 1,), arguments, alpha.device)
    return by_alpha


def ray_sum(
    weights: Float[Tensor, " samples"], values: Float[Tensor, "samples channels"], starts: Int64[Tensor, " rays_1"]
) -> Float[Tensor, "rays channels"]:
    """Return ``sum_i w_i v_i`` over the samples of each ray."""
    sums = values.new_empty(len(starts) - 1, values.shape[1])
    launch(ray_sum_kernel, sums.shape, (weights, values, starts, sums), values.device)
    return sums
