"""Distances from points to the surface of a mesh, with and without a sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_repair import RepairedMesh, repair_mesh
from shapewright.geometry.ray_casting import RayCaster, fibonacci_directions
from shapewright.geometry.surface_queries import Doubles, SurfaceIndex, as_doubles, as_faces, parts_along_curve

ESCAPE_RAYS = 32
CONTESTED_MARGIN = 0.3
# Coarse winding numbers are off by 0.2 at worst, next to the surface: what is farther from 0 and 1 than the margin is
# asked again.
COARSE_ACCURACY, CLEAR_MARGIN = 1.0, 0.05
# A ray that passed a triangle goes on this far behind it.
STEP_BEHIND = 1e-5

SignMode = Literal["auto", "winding", "parity", "pseudonormal", "escape", "scan", "unsigned"]
Inside = Callable[[Float[Tensor, "points 3"]], Bool[Tensor, " points"]]


@dataclass(frozen=True)
class SignedValues:
    """Hold distances and what their signs were taken from.

    Args:
        sdf: Signed distances, negative inside.
        winding: Winding numbers; None if the sign comes from something else.
    """

    sdf: Float[Tensor, " points"]
    winding: Float[Tensor, " points"] | None = None

    @property
    def contested(self) -> Bool[Tensor, " points"]:
        """Tell where the winding number is within 0.3 of the limit of 0.5, so that the sign is doubtful."""
        if self.winding is None:
            return torch.zeros(len(self.sdf), dtype=torch.bool, device=self.sdf.device)
        return (self.winding - 0.5).abs() < CONTESTED_MARGIN


class SignedDistance:
    """Answer signed distances to one mesh; its search trees are built once.

    Args:
        mesh: What to measure from; only a repaired mesh can have the sign ``auto``.
        sign: Where the sign comes from. ``auto``: the winding number of the repaired mesh. ``winding``: that of the
            mesh as it is. ``parity``: rays cross the surface an odd number of times, by the majority of three.
            ``pseudonormal``: the angle-weighted normal at the nearest point (Baerentzen and Aanaes, 2005).
            ``escape``: none of 32 rays leaves. ``unsigned``: no sign.

    Raises:
        ValueError: if the mesh has no triangle, or the mode is none of these.
    """

    def __init__(self, mesh: Mesh | RepairedMesh, sign: SignMode = "auto") -> None:
        plain = mesh.mesh if isinstance(mesh, RepairedMesh) else mesh
        self._surface = SurfaceIndex(plain)
        self._winding: _WindingTree | None = None
        self._inside: Inside | None = None
        if sign == "auto" and isinstance(mesh, RepairedMesh):
            self._winding = _WindingTree(plain, mesh.winding_faces)
        elif sign == "winding":
            self._winding = _WindingTree(plain, plain.faces)
        elif sign in ("parity", "escape", "pseudonormal"):
            self._inside = _inside_test(plain, sign)
        elif sign != "unsigned":
            raise ValueError(f"The sign {sign!r} cannot be taken from a {type(mesh).__name__}.")

    def __call__(self, points: Float[Tensor, "points 3"]) -> SignedValues:
        """Return distances and signs.

        Raises:
            ValueError: if a point is not finite.
        """
        if self._winding is not None:
            distance, winding = _in_parts(points, self._distance, self._winding.near_half)
            return SignedValues(torch.where(winding > 0.5, -distance, distance), winding)
        distance = self._surface.nearest(points)[0]
        if self._inside is not None:
            return SignedValues(torch.where(self._inside(points), -distance, distance))
        return SignedValues(distance)

    def _distance(self, points: Doubles) -> Doubles:
        return self._surface.search(points)[0]


def signed_distance(
    points: Float[Tensor, "points 3"], mesh: Mesh | RepairedMesh, sign: SignMode = "auto"
) -> Float[Tensor, " points"]:
    """Return the distance from each point to the nearest triangle, negative inside.

    A plain mesh is repaired first if the sign is ``auto``; it must then fill about the unit sphere.

    Raises:
        ValueError: if the mesh has no triangle, or a point is not finite.
    """
    if sign == "auto" and isinstance(mesh, Mesh):
        mesh = repair_mesh(mesh)
    return SignedDistance(mesh, sign)(points).sdf


def unsigned_distance(points: Float[Tensor, "points 3"], mesh: Mesh) -> Float[Tensor, " points"]:
    """Return the exact distance from each point to the nearest point of any triangle.

    Searched by libigl in float64; no gradient passes through.

    Raises:
        ValueError: if the mesh has no triangle, or a point is not finite.
    """
    return SurfaceIndex(mesh).nearest(points)[0]


def winding_number(points: Float[Tensor, "points 3"], mesh: Mesh) -> Float[Tensor, " points"]:
    """Return how often the surface winds around each point: 1 inside a closed mesh, 0 outside.

    Far triangles are summed up by their moments (Barill et al., Fast winding numbers for soups and clouds, 2018);
    the error is about 1e-2 next to the surface of a soup and far smaller elsewhere. A mesh without triangles has 0.

    Raises:
        ValueError: if a point is not finite.
    """
    return _in_parts(points, _WindingTree(mesh, mesh.faces))[0]


def _inside_test(mesh: Mesh, sign: SignMode) -> Inside:
    """Return the function that tells which points are inside."""
    if sign == "parity":
        return _Parity(mesh)
    return _Escape(mesh) if sign == "escape" else _Pseudonormal(mesh)


class _WindingTree:
    """Answer winding numbers of some triangles."""

    def __init__(self, mesh: Mesh, faces: Int64[Tensor, "faces 3"]) -> None:
        import igl

        self._tree: Any = None
        if len(faces):
            self._tree = igl.FastWindingNumberBVH()
            self._tree.init(as_doubles(mesh.vertices), as_faces(faces))

    def __call__(self, points: Doubles) -> Doubles:
        return np.zeros(len(points)) if self._tree is None else self._tree.winding_number(points)

    def near_half(self, points: Doubles) -> Doubles:
        """Return winding numbers that are coarse where they are clearly about 0 or 1, or beyond."""
        if self._tree is None:
            return np.zeros(len(points))
        winding = self._tree.winding_number(points, COARSE_ACCURACY)
        open_ = np.flatnonzero(np.abs(winding - 0.5) < 0.5 - CLEAR_MARGIN)
        if len(open_):
            winding[open_] = self._tree.winding_number(np.ascontiguousarray(points[open_]))
        return winding


class _Parity:
    """Tell which points are inside by counting along three rays."""

    def __init__(self, mesh: Mesh) -> None:
        self._caster = RayCaster(mesh)
        self._directions = fibonacci_directions(7)[1::2]

    def __call__(self, points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        votes = sum(self._is_odd(points, direction.to(points)).long() for direction in self._directions)
        return torch.as_tensor(votes) * 2 > len(self._directions)

    def _is_odd(self, points: Float[Tensor, "points 3"], direction: Float[Tensor, " 3"]) -> Bool[Tensor, " points"]:
        odd = torch.zeros(len(points), dtype=torch.bool)
        origins, index = points, torch.arange(len(points))
        while len(index):
            face, distance = self._caster.first_hit(origins, direction.expand_as(origins))
            hit = face >= 0
            index = index[hit]
            odd[index] = ~odd[index]
            origins = origins[hit] + (distance[hit] + STEP_BEHIND)[:, None] * direction
        return odd


class _Escape:
    """Tell which points are inside: those that no ray leaves."""

    def __init__(self, mesh: Mesh) -> None:
        self._caster = RayCaster(mesh)

    def __call__(self, points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        index = torch.arange(len(points))
        for direction in fibonacci_directions(ESCAPE_RAYS).to(points):
            index = index[self._caster.any_hit(points[index], direction.expand(len(index), 3))]
        inside = torch.zeros(len(points), dtype=torch.bool)
        inside[index] = True
        return inside


class _Pseudonormal:
    """Tell which points are behind the surface at their nearest point."""

    def __init__(self, mesh: Mesh) -> None:
        self._vertices, self._faces = as_doubles(mesh.vertices), as_faces(mesh.faces)

    def __call__(self, points: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        import igl

        kind = igl.SIGNED_DISTANCE_TYPE_PSEUDONORMAL

        def signed(part: Doubles) -> Doubles:
            return igl.signed_distance(part, self._vertices, self._faces, kind)[0]

        return _in_parts(points, signed)[0] < 0


def _in_parts(
    points: Float[Tensor, "points 3"], *answers: Callable[[Doubles], Doubles]
) -> list[Float[Tensor, " points"]]:
    """Return what each function answers for all points."""
    results = [np.empty(len(points)) for _ in answers]
    for places, part in parts_along_curve(points):
        for result, answer in zip(results, answers, strict=True):
            result[places] = answer(part)
    return [torch.from_numpy(result).to(points) for result in results]
