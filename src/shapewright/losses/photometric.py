"""The loss that makes pictures agree with photos."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def photometric_loss(colors: Float[Tensor, "n 3"], targets: Float[Tensor, "n 3"], num_rays: int) -> Float[Tensor, ""]:
    """Return ``sum |C - C'|_1 / num_rays`` (IDR, arXiv:2003.09852, eq. 6).

    Args:
        colors: Rendered colours of the rays that show the surface.
        targets: The photo's colours there.
        num_rays: Rays in the whole batch, also those that missed.
    """
    return (colors - targets).abs().sum() / max(num_rays, 1)
