"""Clouds of points: a checked container, spacing, normals, thinning, outliers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape

NEIGHBOURS = 16
_CHUNK = 1 << 16


@dataclass(frozen=True)
class PointCloud:
    """Hold points of a surface, with a normal and a colour each where they are known.

    Args:
        points: Positions.
        normals: Unit vectors that point outwards; a zero vector where the normal is unknown.
        colors: sRGB colours as a photo stores them, in [0, 1].

    Raises:
        ValueError: if a shape differs, or a number is not finite.
    """

    points: Float[Tensor, "points 3"]
    normals: Float[Tensor, "points 3"] | None = None
    colors: Float[Tensor, "points 3"] | None = None

    def __post_init__(self) -> None:
        check_shape("points", self.points, (None, 3))
        check_finite("points", self.points)
        for name in ("normals", "colors"):
            values = getattr(self, name)
            if values is not None:
                check_shape(name, values, (self.num_points, 3))
                check_finite(name, values)

    @property
    def num_points(self) -> int:
        """Return the number of points."""
        return self.points.shape[0]

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Return the lowest and the highest corner of the box around the points.

        Raises:
            ValueError: if there are none.
        """
        if not self.num_points:
            raise ValueError("A cloud without points has no bounds.")
        return torch.stack((self.points.amin(0), self.points.amax(0)))

    def transformed(self, scale: float, translation: Float[Tensor, " 3"]) -> PointCloud:
        """Return the cloud with every point at ``scale * point + translation``.

        Raises:
            ValueError: if ``scale`` is not positive: it would turn the normals inwards.
        """
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        return replace(self, points=scale * self.points + translation.to(self.points))

    def select(self, kept: Bool[Tensor, " points"] | Int64[Tensor, " kept"]) -> PointCloud:
        """Return some of the points, with their normals and colours."""
        return PointCloud(
            self.points[kept],
            None if self.normals is None else self.normals[kept],
            None if self.colors is None else self.colors[kept],
        )


def nearest_neighbours(
    points: Float[Tensor, "points 3"], queries: Float[Tensor, "queries 3"], count: int
) -> tuple[Float[Tensor, "queries count"], Int64[Tensor, "queries count"]]:
    """Return distances to the nearest points and their numbers, nearest first.

    A query that is one of the points finds itself first. With fewer points than ``count`` only those are returned.

    Raises:
        ValueError: if there is no point, or ``count`` is below 1.
    """
    from scipy.spatial import cKDTree

    check_range("count", count, 1)
    if not len(points):
        raise ValueError("There is no point to find.")
    tree = cKDTree(points.detach().cpu().double().numpy())
    wanted = list(range(1, min(count, len(points)) + 1))
    distances, indices = tree.query(queries.detach().cpu().double().numpy().reshape(-1, 3), k=wanted)
    return torch.from_numpy(distances).to(queries), torch.from_numpy(indices.astype(np.int64)).to(queries.device)


def point_spacing(points: Float[Tensor, "points 3"], neighbours: int = 8) -> Float[Tensor, " points"]:
    """Return how far apart the points lie around each one: the side of a square as large as its share of the surface.

    Of points spread at random with density ``rho`` on a plane, the disc up to the k-th neighbour has the mean area
    ``k / rho``: the share is ``pi d_k^2 / k``.

    Raises:
        ValueError: if there are fewer than two points.
    """
    if len(points) < 2:
        raise ValueError(f"One point has no spacing, got {len(points)} points.")
    distances, _ = nearest_neighbours(points, points, neighbours + 1)
    return distances[:, -1] * math.sqrt(math.pi / (distances.shape[1] - 1))


def estimate_normals(
    points: Float[Tensor, "points 3"], neighbours: int = NEIGHBOURS
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, " points"]]:
    """Return unit normals of either sign, and how far the points around each one lie off its plane.

    The normal is the direction in which the nearest points vary least (Hoppe et al., Surface Reconstruction from
    Unorganized Points, 1992, section 3.2); the root of that variance tells noise and curvature.

    Args:
        points: Positions.
        neighbours: Points that a plane is fitted to, the point itself among them.

    Raises:
        ValueError: if there are fewer than three points or neighbours.
    """
    check_range("neighbours", neighbours, 3)
    check_range("the number of points", len(points), 3)
    _, indices = nearest_neighbours(points, points, neighbours)
    normals, deviations = [], []
    for part in indices.split(_CHUNK):
        around = points[part].double()
        around = around - around.mean(1, keepdim=True)
        variances, axes = torch.linalg.eigh(around.mT @ around / around.shape[1])
        normals.append(axes[:, :, 0])
        deviations.append(variances[:, 0].clamp(min=0.0).sqrt())
    return torch.cat(normals).to(points), torch.cat(deviations).to(points)


def voxel_downsample(cloud: PointCloud, size: float) -> PointCloud:
    """Return one point for each cube of side ``size`` that holds any: their mean, with mean normal and colour.

    Points come back in the order of the cubes. Normals that cancel become zero vectors.

    Raises:
        ValueError: if ``size`` is not positive.
    """
    if not size > 0:
        raise ValueError(f"size must be positive, got {size}.")
    if not cloud.num_points:
        return cloud
    cells = ((cloud.points - cloud.points.amin(0)).double() / size).floor().long()
    _, owner, counts = cells.unique(dim=0, return_inverse=True, return_counts=True)

    def mean(values: Float[Tensor, "points 3"]) -> Float[Tensor, "cells 3"]:
        sums = torch.zeros(len(counts), 3, dtype=torch.float64, device=values.device)
        return (sums.index_add_(0, owner, values.double()) / counts[:, None]).to(values)

    normals = None if cloud.normals is None else torch.nn.functional.normalize(mean(cloud.normals), dim=1)
    return PointCloud(mean(cloud.points), normals, None if cloud.colors is None else mean(cloud.colors))


def unique_points(cloud: PointCloud) -> PointCloud:
    """Return the cloud with one of every set of points at the very same place: the first, in the same order."""
    order = np.unique(cloud.points.detach().cpu().numpy(), axis=0, return_index=True)[1]
    return cloud if len(order) == cloud.num_points else cloud.select(torch.from_numpy(np.sort(order)))


def remove_outliers(
    cloud: PointCloud, neighbours: int = NEIGHBOURS, ratio: float = 3.0
) -> tuple[PointCloud, Bool[Tensor, " points"]]:
    """Return the cloud without points far from all others, and which points stayed.

    A point goes if its mean distance to its neighbours is more than ``ratio`` times what is usual among these
    (their median), so that a sparsely scanned part of the surface stays.

    Args:
        cloud: The points.
        neighbours: How many of the nearest points count.
        ratio: The limit.
    """
    if cloud.num_points < 3:
        return cloud, torch.ones(cloud.num_points, dtype=torch.bool)
    distances, nearest = nearest_neighbours(cloud.points, cloud.points, neighbours + 1)
    mean = distances[:, 1:].mean(1)
    kept = mean <= ratio * mean[nearest[:, 1:]].median(1).values
    return cloud.select(kept), kept
