"""A surface through oriented points that need not cover a whole shape: local signed distances."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_shape

NEIGHBOURS = 10
LARGEST_SPACING = 0.04


@dataclass(frozen=True)
class SurfaceQuery:
    """Hold what the points say about positions.

    Args:
        offset: Signed distance to the surface through the nearest points, positive on the side of their normals.
        nearest: Distance to the nearest point.
        beside: How far the position lies beside the nearest point, along the surface.
        spacing: How far the points lie apart around the nearest one.
        neighbours: Numbers of the nearest points, nearest first.
        weights: Their shares in the offset.
    """

    offset: Float[Tensor, " n"]
    nearest: Float[Tensor, " n"]
    beside: Float[Tensor, " n"]
    spacing: Float[Tensor, " n"]
    neighbours: Int64[Tensor, "n k"]
    weights: Float[Tensor, "n k"]


class PointSetSurface:
    """Answer queries about a surface given by oriented points.

    The offset is ``sum_i w_i n_i . (x - p_i)`` over the nearest points, with Gaussian weights as wide as the points lie
    apart (implicit moving least squares; Shen et al., 2004; Kolluri, 2008, eq. 1). It means something within a few
    spacings of the points only.

    Args:
        points: Positions.
        normals: Unit normals.

    Raises:
        ValueError: if shapes differ or there are fewer than two points.
    """

    def __init__(self, points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"]) -> None:
        from scipy.spatial import cKDTree

        check_shape("normals", normals, tuple(points.shape))
        if len(points) < 2:
            raise ValueError(f"A surface needs at least two points, got {len(points)}.")
        self.points, self.normals = points, normals
        self._tree = cKDTree(points.detach().cpu().double().numpy())
        distance, around = self.query(points, min(7, len(points)))
        spacing = distance[:, -1] / 1.5
        typical = float(spacing.median())
        spacing = spacing.clamp(0.7 * typical, max(LARGEST_SPACING, typical))
        self.spacing = spacing[around].mean(1)
        self.typical_spacing = typical

    def query(self, positions: Float[Tensor, "n 3"], count: int) -> tuple[Float[Tensor, "n k"], Int64[Tensor, "n k"]]:
        """Return distances and numbers of the nearest points, nearest first."""
        queries = positions.detach().cpu().double().numpy()
        distance, index = self._tree.query(queries, k=list(range(1, count + 1)))
        return torch.from_numpy(distance).to(positions), torch.from_numpy(index).long().to(positions.device)

    def __call__(self, positions: Float[Tensor, "n 3"]) -> SurfaceQuery:
        """Return what the points say about positions."""
        distance, index = self.query(positions, min(NEIGHBOURS, len(self.points)))
        spacing = self.spacing[index[:, 0]]
        excess = distance**2 - distance[:, :1] ** 2
        weights = torch.softmax(-excess / (1.2 * spacing**2)[:, None], dim=-1)
        offsets = ((positions[:, None] - self.points[index]) * self.normals[index]).sum(-1)
        normal = torch.nn.functional.normalize((weights[..., None] * self.normals[index]).sum(1), dim=-1)
        along = ((positions - self.points[index[:, 0]]) * normal).sum(-1)
        beside = (distance[:, 0] ** 2 - along**2).clamp(min=0).sqrt()
        return SurfaceQuery((weights * offsets).sum(-1), distance[:, 0], beside, spacing, index, weights)
