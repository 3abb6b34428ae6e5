"""Many questions about one surface: its nearest triangle, points on it with their triangles."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.geometry.mesh import Mesh, face_areas

POINTS_PER_CALL = 100_000


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
        self._vertices = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy(), dtype=np.float64)
        self._faces = np.ascontiguousarray(mesh.faces.cpu().numpy())
        self._tree = igl.AABB()
        self._tree.init(self._vertices, self._faces)

    def nearest(self, points: Float[Tensor, "points 3"]) -> tuple[Float[Tensor, " points"], Int64[Tensor, " points"]]:
        """Return the distance from each point to the surface, and the triangle that is nearest.

        No gradient passes through.

        Raises:
            ValueError: if a point is not finite.
        """
        check_shape("points", points, (None, 3))
        check_finite("points", points)
        queries = np.ascontiguousarray(points.detach().cpu().numpy(), dtype=np.float64)
        squared, faces = np.empty(len(queries)), np.empty(len(queries), dtype=np.int64)
        for start in range(0, len(queries), POINTS_PER_CALL):
            part = slice(start, start + POINTS_PER_CALL)
            found = self._tree.squared_distance(self._vertices, self._faces, queries[part])
            squared[part], faces[part] = found[0].reshape(-1), found[1].reshape(-1)
        distances = torch.from_numpy(np.sqrt(squared)).to(points)
        return distances, torch.from_numpy(faces).to(points.device)


def sample_triangles(
    mesh: Mesh, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "count 3"], Int64[Tensor, " count"]]:
    """Return points spread uniformly over the area of a surface, and the triangle of each.

    The formula is that of ``sample_surface``.

    Raises:
        ValueError: if the surface has no area, or ``count`` is negative.
    """
    check_range("count", count, 0)
    edges = face_areas(mesh).double().cumsum(0).cpu()
    if not mesh.num_faces or not edges[-1] > 0:
        raise ValueError("A surface without area cannot be sampled.")
    draws = torch.rand(3, count, generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(edges, draws[0] * edges[-1], right=True).clamp(max=mesh.num_faces - 1)
    chosen = chosen.to(mesh.faces.device)
    root, along = draws[1].sqrt(), draws[2]
    weights = torch.stack((1 - root, root * (1 - along), root * along), dim=-1).to(mesh.vertices)
    return (weights[..., None] * mesh.vertices[mesh.faces[chosen]]).sum(1), chosen
