"""Many questions about one surface: exact distances, and the nearest triangles."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_shape
from shapewright.geometry.mesh import Mesh

POINTS_PER_CALL = 100_000

Doubles = Float[np.ndarray, "..."]


def parts_along_curve(points: Float[Tensor, "points 3"]) -> Iterator[tuple[Int64[np.ndarray, " n"], Doubles]]:
    """Yield places and positions of points in double precision, some at a time, for a search tree.

    The memory stays bounded, and neighbours come one after the other, so that the search finds what it needs in the
    cache: twice as fast, with the same answers.

    Raises:
        ValueError: if a point is not finite.
    """
    check_shape("points", points, (None, 3))
    check_finite("points", points)
    for start in range(0, len(points), POINTS_PER_CALL):
        part = as_doubles(points[start : start + POINTS_PER_CALL])
        order = _along_curve(part)
        yield start + order, np.ascontiguousarray(part[order])


def _along_curve(points: Doubles) -> Int64[np.ndarray, " points"]:
    """Return an order in which neighbours follow each other: that of the interleaved bits of x, y and z (Morton)."""
    lower = points.min(axis=0)
    extent = np.maximum(points.max(axis=0) - lower, np.finfo(float).tiny)
    cells = ((points - lower) / extent * 1023).astype(np.int64)
    for shift, mask in ((16, 0x030000FF), (8, 0x0300F00F), (4, 0x030C30C3), (2, 0x09249249)):
        cells = (cells | cells << shift) & mask
    return np.argsort(cells[:, 0] | cells[:, 1] << 1 | cells[:, 2] << 2)


def as_doubles(values: Tensor) -> Doubles:
    """Return a tensor as libigl wants positions."""
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float64)


def as_faces(faces: Int64[Tensor, "faces 3"]) -> Int64[np.ndarray, "faces 3"]:
    """Return a tensor as libigl wants triangles."""
    return np.ascontiguousarray(faces.cpu().numpy())


class SurfaceIndex:
    """Find the nearest triangles of one mesh by a tree that is built once (libigl, float64, exact).

    Args:
        mesh: The surface.

    Raises:
        ValueError: if the mesh has no triangle.
    """

    def __init__(self, mesh: Mesh) -> None:
        import igl

        if not mesh.num_faces:
            raise ValueError("The distance to a mesh without triangles is not defined.")
        self._vertices, self._faces = as_doubles(mesh.vertices), as_faces(mesh.faces)
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)

    def search(self, points: Doubles) -> tuple[Doubles, Int64[np.ndarray, " points"]]:
        """Return distances and nearest triangles of one part of the points.

        Raises:
            ValueError: if a distance is not finite.
        """
        squared, faces = self._tree.squared_distance(self._vertices, self._faces, points)[:2]
        if not np.isfinite(squared).all():
            raise ValueError(f"{(~np.isfinite(squared)).sum()} distances to the mesh are not finite.")
        return np.sqrt(squared.reshape(-1)), faces.reshape(-1).astype(np.int64)

    def nearest(self, points: Float[Tensor, "points 3"]) -> tuple[Float[Tensor, " points"], Int64[Tensor, " points"]]:
        """Return the distance from each point to the surface, and the triangle that is nearest.

        No gradient passes through.

        Raises:
            ValueError: if a point is not finite.
        """
        distances, faces = np.empty(len(points)), np.empty(len(points), dtype=np.int64)
        for places, part in parts_along_curve(points):
            distances[places], faces[places] = self.search(part)
        return torch.from_numpy(distances).to(points), torch.from_numpy(faces).to(points.device)
