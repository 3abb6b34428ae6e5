"""The loss that keeps codes short."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def code_prior_loss(codes: Float[Tensor, "n code"]) -> Float[Tensor, ""]:
    """Return ``mean_b |z_b|^2``.

    Args:
        codes: Of a batch.
    """
    return codes.square().sum(1).mean()
