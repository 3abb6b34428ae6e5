"""Similarities between two frames, robust to outliers, and camera errors after alignment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_shape
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.rotations import rotation_angle_deg

ITERATIONS = 100


@dataclass(frozen=True)
class Similarity:
    """Map ``x`` to ``scale * rotation @ x + translation``."""

    scale: float
    rotation: Float[Tensor, "3 3"]
    translation: Float[Tensor, "3"]

    def apply(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Return the mapped points."""
        return self.scale * points @ self.rotation.T + self.translation


def align_points(source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"]) -> Similarity:
    """Return the similarity that brings ``source`` onto ``target``, few gross errors apart.

    Minimises the sum of distances by iteratively reweighted least squares with
    weights ``1 / max(residual, eps)``; each step is Umeyama's closed form
    (IEEE TPAMI 13(4), 1991, eqs. 40-43).

    Raises:
        ValueError: if the shapes differ or fewer than 3 points are given.
    """
    check_shape("target", target, tuple(source.shape))
    if len(source) < 3:
        raise ValueError(f"at least 3 points are needed, got {len(source)}.")
    weights = torch.ones_like(source[:, 0])
    for _ in range(ITERATIONS):
        mean_source, mean_target = _mean(source, weights), _mean(target, weights)
        x, y = source - mean_source, target - mean_target
        rotation = nearest_rotation((weights[:, None] * y).T @ x)
        similarity = _place(source, target, rotation, weights)
        weights = _weights((similarity.apply(source) - target).norm(dim=1))
    return similarity


def align_cameras(source: Cameras, target: Cameras) -> Similarity:
    """Return the similarity of world space that brings one set of cameras onto another of the same views.

    The rotation is that nearest to ``sum_i R_target,i R_source,i^T``, so that
    it is found even if all centres lie on a line; scale and translation
    follow from the centres. Both sums are reweighted against outliers.

    Raises:
        ValueError: if the numbers of views differ or fewer than 2 are given.
    """
    if len(source) != len(target) or len(source) < 2:
        raise ValueError(f"the same 2 or more views are needed, got {len(source)} and {len(target)}.")
    R_source, R_target = source.world_from_camera[:, :, :3], target.world_from_camera[:, :, :3]
    turns = R_target @ R_source.transpose(1, 2)
    weights = torch.ones_like(turns[:, 0, 0])
    for _ in range(ITERATIONS):
        rotation = nearest_rotation((weights[:, None, None] * turns).sum(0))
        weights = _weights((turns - rotation).flatten(1).norm(dim=1))
    weights = torch.ones_like(weights)
    for _ in range(ITERATIONS):
        similarity = _place(source.centers, target.centers, rotation, weights)
        weights = _weights((similarity.apply(source.centers) - target.centers).norm(dim=1))
    return similarity


def camera_errors(cameras: Cameras, truth: Cameras) -> tuple[Float[Tensor, " views"], Float[Tensor, " views"]]:
    """Return rotation errors (degrees) and centre errors (units of ``truth``) after alignment.

    Raises:
        ValueError: as for :func:`align_cameras`.
    """
    similarity = align_cameras(cameras, truth)
    R, R_true = cameras.world_from_camera[:, :, :3], truth.world_from_camera[:, :, :3]
    center_error = (similarity.apply(cameras.centers) - truth.centers).norm(dim=1)
    return rotation_angle_deg(similarity.rotation @ R, R_true), center_error


def nearest_rotation(matrix: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
    """Return the rotation ``U diag(1, 1, det(U V^T)) V^T`` that is nearest to a matrix."""
    u, _, vt = torch.linalg.svd(matrix)
    signs = torch.ones(3).to(matrix)
    signs[2] = torch.linalg.det(u @ vt)
    return (u * signs) @ vt


def _place(
    source: Float[Tensor, "n 3"],
    target: Float[Tensor, "n 3"],
    rotation: Float[Tensor, "3 3"],
    weights: Float[Tensor, " n"],
) -> Similarity:
    """Return the similarity of least squares with a given rotation."""
    mean_source, mean_target = _mean(source, weights), _mean(target, weights)
    x, y = (source - mean_source) @ rotation.T, target - mean_target
    spread = (weights[:, None] * x * x).sum()
    scale = float((weights[:, None] * x * y).sum() / spread) if float(spread) > 0 else 1.0
    return Similarity(scale, rotation, mean_target - scale * rotation @ mean_source)


def _mean(points: Float[Tensor, "n 3"], weights: Float[Tensor, " n"]) -> Float[Tensor, "3"]:
    """Return the weighted mean."""
    return (weights[:, None] * points).sum(0) / weights.sum()


def _weights(residuals: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return ``1 / max(residual, eps)``, scaled to at most 1."""
    eps = 1e-6 * residuals.max() + torch.finfo(residuals.dtype).tiny
    return eps / residuals.clamp(min=float(eps))
