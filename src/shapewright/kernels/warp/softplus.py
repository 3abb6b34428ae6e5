"""Softplus and its derivative in one pass, in Warp."""

from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from shapewright.kernels.warp.device import launch

wp.set_module_options({"enable_backward": False})


@wp.kernel
def softplus_kernel(
    x: wp.array(dtype=Any), value: wp.array(dtype=Any), slope: wp.array(dtype=Any), beta: wp.array(dtype=Any)
) -> None:
    """One thread for each number."""
    i = wp.tid()
    t = x[i]
    one = type(t)(1.0)
    z = beta[0] * t
    e = wp.exp(-wp.abs(z))
    # log1p(e), exact where 1 + e rounds (W. Kahan's formula).
    u = one + e
    log = wp.where(u == one, e, wp.log(u) * e / (u - one))
    value[i] = wp.where(t < type(t)(0.0), type(t)(0.0), t) + log / beta[0]
    slope[i] = wp.where(z >= type(t)(0.0), one / (one + e), e / (one + e))


def softplus(x: Float[Tensor, "*n"], beta: float) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return ``log(1 + exp(beta x)) / beta`` and its derivative, as ``reference/softplus.py``."""
    flat = x.contiguous().view(-1)
    value, slope = torch.empty_like(flat), torch.empty_like(flat)
    launch(softplus_kernel, (len(flat),), (flat, value, slope, flat.new_tensor([beta])), x.device)
    return value.view(x.shape), slope.view(x.shape)
