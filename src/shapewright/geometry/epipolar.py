"""Two-view geometry: how far matched pixels are from what their cameras allow."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.cameras import Cameras


def fundamental_matrix(cameras: Cameras, first: int, second: int) -> Float[Tensor, "3 3"]:
    """Return F with ``x2^T F x1 = 0`` for the pixels of one point in two views.

    ``F = [e]_x P2 P1^+`` with the epipole ``e = P2 C1`` (Hartley and Zisserman, eq. 9.1).
    """
    P = cameras.projections()
    epipole = P[second, :, :3] @ cameras.centers[first] + P[second, :, 3]
    cross = torch.linalg.cross(epipole.expand(3, 3), torch.eye(3).to(P), dim=1).T
    return cross @ P[second] @ torch.linalg.pinv(P[first])


def sampson_distance(
    F: Float[Tensor, "3 3"], first: Float[Tensor, "n 2"], second: Float[Tensor, "n 2"]
) -> Float[Tensor, " n"]:
    """Return the first-order distance of pixel pairs to the epipolar constraint, in pixels.

    ``|x2^T F x1| / sqrt((F x1)_1^2 + (F x1)_2^2 + (F^T x2)_1^2 + (F^T x2)_2^2)``
    (Hartley and Zisserman, eq. 11.9).
    """
    x1 = torch.nn.functional.pad(first.to(F), (0, 1), value=1.0)
    x2 = torch.nn.functional.pad(second.to(F), (0, 1), value=1.0)
    line2, line1 = x1 @ F.T, x2 @ F
    gradient = line2[:, :2].square().sum(1) + line1[:, :2].square().sum(1)
    return (x2 * line2).sum(1).abs() / gradient.sqrt()
