"""Softplus and its derivative in plain torch."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def softplus(x: Float[Tensor, "*n"], beta: float) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return ``log(1 + exp(beta x)) / beta`` and its derivative, the logistic of ``beta x``.

    With ``z = beta x`` and ``e = exp(-|z|)``: ``max(x, 0) + log1p(e) / beta``, and ``1 / (1 + e)`` or ``e / (1 + e)``.
    """
    z = beta * x
    e = (-z.abs()).exp()
    return x.clamp_min(0) + e.log1p() / beta, torch.where(z >= 0, 1 / (1 + e), e / (1 + e))
