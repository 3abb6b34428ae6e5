"""Distances from points to the surface of a mesh."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_finite, check_shape
from shapewright.geometry.mesh import Mesh

POINTS_PER_CALL = 100_000


def unsigned_distance(points: Float[Tensor, "points 3"], mesh: Mesh) -> Float[Tensor, " points"]:
    """Return the exact distance from each point to the nearest point of any triangle.

    Searched by libigl in float64; no gradient passes through.

    Raises:
        ValueError: if the mesh has no triangle, or a point is not finite.
    """
    import igl

    check_shape("points", points, (None, 3))
    check_finite("points", points)
    if not mesh.num_faces:
        raise ValueError("The distance to a mesh without triangles is not defined.")
    vertices = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy(), dtype=np.float64)
    faces = np.ascontiguousarray(mesh.faces.cpu().numpy())
    queries = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float64)
    squared = [
        igl.point_mesh_squared_distance(queries[start : start + POINTS_PER_CALL], vertices, faces)[0]
        for start in range(0, len(queries), POINTS_PER_CALL)
    ]
    return torch.from_numpy(np.sqrt(np.concatenate([np.empty(0), *squared]))).to(points)
