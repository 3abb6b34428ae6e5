"""The loss that makes a function a distance."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def eikonal_loss(gradients: Float[Tensor, "*n 3"]) -> Float[Tensor, ""]:
    """Return ``mean (|grad f| - 1)^2`` (IGR, arXiv:2002.10099, eq. 4).

    Args:
        gradients: Gradients of the signed distance by the position.
    """
    return (gradients.norm(dim=-1) - 1.0).square().mean()
