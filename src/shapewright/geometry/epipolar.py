"""Two-view geometry: how far matched pixels are from what their cameras allow."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
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
    F: Float[Tensor, "*batch 3 3"], first: Float[Tensor, "n 2"], second: Float[Tensor, "n 2"]
) -> Float[Tensor, "*batch n"]:
    """Return the first-order distance of pixel pairs to the epipolar constraint, in pixels.

    ``|x2^T F x1| / sqrt((F x1)_1^2 + (F x1)_2^2 + (F^T x2)_1^2 + (F^T x2)_2^2)``
    (Hartley and Zisserman, eq. 11.9).
    """
    x1, x2 = _homogeneous(first.to(F)), _homogeneous(second.to(F))
    line2, line1 = x1 @ F.transpose(-1, -2), x2 @ F
    gradient = line2[..., :2].square().sum(-1) + line1[..., :2].square().sum(-1)
    return (x2 * line2).sum(-1).abs() / gradient.sqrt().clamp(min=torch.finfo(F.dtype).tiny)


def consistent_matches(
    first: Float[Tensor, "n 2"],
    second: Float[Tensor, "n 2"],
    generator: torch.Generator,
    tolerance_px: float = 1.5,
    hypotheses: int = 500,
) -> Bool[Tensor, " n"]:
    """Return which pixel pairs agree on one fundamental matrix, whatever the cameras (RANSAC).

    Each hypothesis is the null vector of 8 pairs (the eight-point algorithm,
    Hartley and Zisserman, section 11.1); the one with most pairs within the
    tolerance wins. Fewer than 9 pairs cannot disagree: none is returned.
    """
    if len(first) < 9:
        return torch.zeros(len(first), dtype=torch.bool)
    x1, T1 = _centred(first.double())
    x2, T2 = _centred(second.double())
    rows = (x2[:, :, None] * x1[:, None, :]).flatten(1)
    chosen = torch.rand(hypotheses, len(first), generator=generator).topk(8).indices
    normal = rows[chosen].transpose(1, 2) @ rows[chosen]
    F = T2.T @ torch.linalg.eigh(normal).eigenvectors[:, :, 0].unflatten(1, (3, 3)) @ T1
    near = sampson_distance(F, first.double(), second.double()) < tolerance_px
    return near[near.sum(1).argmax()]


def _homogeneous(pixels: Float[Tensor, "n 2"]) -> Float[Tensor, "n 3"]:
    """Append a coordinate of one."""
    return torch.nn.functional.pad(pixels, (0, 1), value=1.0)


def _centred(pixels: Float[Tensor, "n 2"]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "3 3"]]:
    """Return pixels moved to their mean and scaled to unit spread, and the matrix that does so."""
    mean, spread = pixels.mean(0), float(pixels.std().clamp(min=1e-9))
    T = torch.eye(3).to(pixels)
    T[:2, 2] = -mean
    T[:2] /= spread
    return _homogeneous(pixels) @ T.T, T
