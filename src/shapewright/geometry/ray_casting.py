"""Rays against the triangles of a mesh: whether they hit, and what they hit first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.checks import check_shape
from shapewright.geometry.mesh import Mesh

RAYS_PER_CALL = 1 << 17


class RayCaster:
    """Cast rays at a mesh with Embree, in single precision and both ways through every triangle.

    The answers are the same on every call. A ray starts at its origin exactly: one that leaves from a triangle must
    start a little above it, or it may hit this very triangle.

    Args:
        mesh: The triangles; coordinates of about 1 are resolved best.
    """

    def __init__(self, mesh: Mesh) -> None:
        from embreex.mesh_construction import TriangleMesh
        from embreex.rtcore_scene import EmbreeScene

        self._scene = EmbreeScene() if mesh.num_faces else None
        if self._scene is not None:
            vertices = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy(), dtype=np.float32)
            faces = np.ascontiguousarray(mesh.faces.cpu().numpy(), dtype=np.int32)
            self._triangles = TriangleMesh(self._scene, vertices, faces)

    def any_hit(self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Bool[Tensor, " rays"]:
        """Tell which rays meet a triangle at any distance."""
        parts = self._cast(origins, directions, lambda a, b: self._run(a, b, {"query": "OCCLUDED"}) >= 0)
        hit = np.concatenate([np.zeros(0, dtype=bool), *parts])
        return torch.from_numpy(hit).to(origins.device)

    def first_hit(
        self, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
    ) -> tuple[Int64[Tensor, " rays"], Float[Tensor, " rays"]]:
        """Return the nearest triangle along each ray.

        Returns:
            face: Index of the triangle; -1 where there is none.
            distance: How far it is, in lengths of the direction; infinite where there is none.
        """
        faces, distances = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.float32)]
        for answer in self._cast(origins, directions, lambda a, b: self._run(a, b, {"output": 1})):
            face = answer["primID"].astype(np.int64)
            faces.append(face)
            distances.append(np.where(face < 0, np.float32(np.inf), answer["tfar"]))
        return (
            torch.from_numpy(np.concatenate(faces)).to(origins.device),
            torch.from_numpy(np.concatenate(distances)).to(origins),
        )

    def _cast(self, origins: Tensor, directions: Tensor, run: Callable[[np.ndarray, np.ndarray], Any]) -> Iterator[Any]:
        """Yield the answers to all rays, some at a time."""
        check_shape("origins", origins, (None, 3))
        check_shape("directions", directions, tuple(origins.shape))
        for start in range(0, len(origins), RAYS_PER_CALL):
            part = slice(start, start + RAYS_PER_CALL)
            yield run(_single(origins[part]), _single(directions[part]))

    def _run(self, origins: np.ndarray, directions: np.ndarray, options: dict[str, Any]) -> Any:
        if self._scene is None:
            missed = np.full(len(origins), -1, dtype=np.int32)
            return {"primID": missed, "tfar": missed} if "output" in options else missed
        return self._scene.run(origins, directions, **options)


def fibonacci_directions(count: int) -> Float[Tensor, "count 3"]:
    """Return unit vectors spread evenly over the sphere, in double precision.

    Vector ``i`` has ``y = 2i / count - 1 + 1 / count`` and the azimuth ``(i + 1) pi (3 - sqrt 5)``, as the views of
    DeepSDF's preprocessing (facebookresearch/DeepSDF, arXiv:1901.05103).
    """
    index = torch.arange(count, dtype=torch.float64)
    height = 2 * index / count - 1 + 1 / count
    radius = (1 - height**2).sqrt()
    azimuth = (index + 1) * (torch.pi * (3 - 5**0.5))
    return torch.stack((radius * azimuth.cos(), height, radius * azimuth.sin()), dim=-1)


def _single(values: Tensor) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy(), dtype=np.float32)
