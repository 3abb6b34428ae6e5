"""Opacities, inputs of the radiance network and errors of pixels in plain torch: what the fused kernels compute."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

_ALPHA_EPS = 1e-5
_NORMAL_EPS = 1e-6
_LEAST_OPACITY = 1e-3


def neus_alpha(
    sdf: Float[Tensor, " n"], slope: Float[Tensor, " n"], steps: Float[Tensor, " n"], sharpness: float
) -> Float[Tensor, " n"]:
    """Return opacities ``(S(s p) - S(s q)) / (S(s p) + 1e-5)``, ``p, q = sdf -+ min(slope, 0) step / 2``.

    ``S`` is the logistic function (NeuS, arXiv:2106.10689, eq. 13).

    Args:
        sdf: SDF at the samples.
        slope: Its derivative along the ray.
        steps: Length of each sample's interval.
        sharpness: ``s``, the inverse width of the logistic density.
    """
    drop = 0.5 * slope.clamp(max=0.0) * steps
    before, after = torch.sigmoid(sharpness * (sdf - drop)), torch.sigmoid(sharpness * (sdf + drop))
    return (before - after) / (before + _ALPHA_EPS)


def radiance_input(
    features: Float[Tensor, "n features"], normals: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]
) -> Float[Tensor, "n features_12"]:
    """Return features, unit normals ``n / (|n| + 1e-6)`` and nine polynomials of the direction.

    The polynomials are ``x, y, z, xy, yz, zx, x^2 - 1/3, y^2 - 1/3, z^2 - 1/3``.
    """
    unit = normals / (normals.norm(dim=1, keepdim=True) + _NORMAL_EPS)
    products = directions * directions.roll(-1, dims=1)
    return torch.cat([features, unit, directions, products, directions.square() - 1.0 / 3.0], dim=1)


def photometric_error(
    prediction: Float[Tensor, "rays 3"], wanted: Float[Tensor, "rays 3"], clipped: Bool[Tensor, "rays 3"],
    softness: float,
) -> Float[Tensor, "rays 3"]:  # fmt: skip
    """Return Charbonnier's ``sqrt(e^2 + softness^2) - softness``; where ``clipped``, only darker predictions cost."""
    error = prediction - wanted
    error = torch.where(clipped, error.clamp(max=0.0), error)
    return (error.square() + softness**2).sqrt() - softness


def mask_error(rest: Float[Tensor, " rays"], coverage: Float[Tensor, " rays"]) -> Float[Tensor, " rays"]:
    """Return the cross-entropy of the opacity ``1 - rest``, clamped to ``[1e-3, 1 - 1e-3]``, with the mask."""
    opacity = (1.0 - rest).clamp(_LEAST_OPACITY, 1.0 - _LEAST_OPACITY)
    return -(coverage * opacity.log() + (1.0 - coverage) * (1.0 - opacity).log())
