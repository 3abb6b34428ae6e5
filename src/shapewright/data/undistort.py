"""Removal of lens distortion, so that every camera is a pinhole after reading."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor


def distort(points: Float[Tensor, "*points 2"], coefficients: tuple[float, ...]) -> Float[Tensor, "*points 2"]:
    """Return where a lens images the points that a pinhole images at ``points``.

    With ``r^2 = x^2 + y^2`` and ``g = 1 + k1 r^2 + k2 r^4 + k3 r^6`` (Brown's
    model, as in OpenCV and COLMAP): ``x' = g x + 2 p1 x y + p2 (r^2 + 2 x^2)``,
    ``y' = g y + p1 (r^2 + 2 y^2) + 2 p2 x y``.

    Args:
        points: Points on the plane at distance 1 before the camera.
        coefficients: ``k1, k2, p1, p2`` and optionally ``k3``.
    """
    k1, k2, p1, p2, k3 = (*coefficients, 0.0)[:5]
    x, y = points.unbind(-1)
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return torch.stack(
        [
            radial * x + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            radial * y + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )


def undistort(
    pixels: UInt8[np.ndarray, "h w channels"],
    intrinsics: Float[Tensor, "3 3"],
    coefficients: tuple[float, ...],
    outside: str = "border",
) -> UInt8[np.ndarray, "h w channels"]:
    """Return the picture that a pinhole with the same intrinsics and size would have taken.

    Args:
        pixels: The picture as taken.
        intrinsics: ``K`` for pixel centres at +0.5.
        coefficients: See :func:`distort`.
        outside: What lies beyond the picture: its ``border`` repeated, or ``zeros``.
    """
    height, width, _ = pixels.shape
    K = intrinsics.float()
    y = ((torch.arange(height) + 0.5) - K[1, 2]) / K[1, 1]
    x = ((torch.arange(width) + 0.5) - K[0, 2]) / K[0, 0]
    source = distort(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1), coefficients)
    # grid_sample's -1 and 1 are the outer borders of the picture.
    size = torch.tensor([width, height])
    focal, center = K[:2, :2].diagonal(), K[:2, 2]
    grid = (source * focal + center) * 2 / size - 1
    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    remapped = torch.nn.functional.grid_sample(
        planes, grid[None], mode="bilinear", padding_mode=outside, align_corners=False
    )
    return remapped[0].permute(1, 2, 0).round().to(torch.uint8).numpy()
