"""The linear layer that the fields are made of."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm


def linear(
    dim_in: int,
    dim_out: int,
    has_weight_norm: bool,
    generator: torch.Generator | None = None,
) -> nn.Linear:
    """Return a linear layer with PyTorch's usual start: everything uniform in ``+-1/sqrt(dim_in)``.

    Args:
        dim_in: Numbers read.
        dim_out: Numbers written.
        has_weight_norm: Store each weight row as length times direction (arXiv:1602.07868, eq. 2).
        generator: Draws the weights.
    """
    layer = nn.utils.skip_init(nn.Linear, dim_in, dim_out)
    bound = 1.0 / math.sqrt(dim_in)
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound, generator=generator)
        layer.bias.uniform_(-bound, bound, generator=generator)
    return weight_norm(layer) if has_weight_norm else layer
