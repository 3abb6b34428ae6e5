"""The loss that makes silhouettes agree with masks."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def silhouette_loss(
    sdf: Float[Tensor, " rays"],
    is_object: Bool[Tensor, " rays"],
    is_surface: Bool[Tensor, " rays"],
    sharpness: float,
) -> Float[Tensor, ""]:
    """Return the mask loss of traced rays.

    It is ``1 / (alpha rays)`` times the sum of
    ``BCE(sigmoid(-alpha f), mask)`` over the rays that do not show the
    object's surface (IDR, arXiv:2003.09852, eq. 7). For large ``alpha`` it
    tends to ``relu(f)`` inside the mask and ``relu(-f)`` outside.

    Args:
        sdf: Least signed distance along each ray.
        is_object: Whether the pixel lies in the mask.
        is_surface: Whether the ray hits and its pixel lies in the mask; such rays cost nothing.
        sharpness: ``alpha``, positive, in 1 / normalised unit.
    """
    costly = ~is_surface
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits(
        -sharpness * sdf[costly], is_object[costly].to(sdf.dtype), reduction="sum"
    )
    return cross_entropy / (sharpness * max(len(sdf), 1))
