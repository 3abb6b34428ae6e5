"""Triangle meshes: a checked container, areas, normals and points on the surface."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_faces, check_finite, check_range, check_shape


@dataclass(frozen=True)
class Mesh:
    """Hold triangles, with a colour and a normal at each vertex where they are known.

    Args:
        vertices: Positions.
        faces: Vertex indices of each triangle, counter-clockwise seen from outside.
        vertex_colors: sRGB colours as a photo stores them, in [0, 1].
        vertex_normals: Unit vectors that point outwards.

    Raises:
        ValueError: if a shape differs, a position is not finite, or a face names a missing vertex.
    """

    vertices: Float[Tensor, "vertices 3"]
    faces: Int64[Tensor, "faces 3"]
    vertex_colors: Float[Tensor, "vertices 3"] | None = None
    vertex_normals: Float[Tensor, "vertices 3"] | None = None

    def __post_init__(self) -> None:
        check_shape("vertices", self.vertices, (None, 3))
        check_faces(self.faces, len(self.vertices))
        check_finite("vertices", self.vertices)
        if self.faces.dtype != torch.int64:
            raise ValueError(f"faces must be int64, got {self.faces.dtype}.")
        for name in ("vertex_colors", "vertex_normals"):
            values = getattr(self, name)
            if values is not None:
                check_shape(name, values, (self.num_vertices, 3))

    @property
    def num_vertices(self) -> int:
        """Return the number of vertices."""
        return self.vertices.shape[0]

    @property
    def num_faces(self) -> int:
        """Return the number of triangles."""
        return self.faces.shape[0]

    @property
    def bounds(self) -> Float[Tensor, "2 3"]:
        """Return the lowest and the highest corner of the box around the vertices.

        Raises:
            ValueError: if there is no vertex.
        """
        if not self.num_vertices:
            raise ValueError("A mesh without vertices has no bounds.")
        return torch.stack(self.vertices.aminmax(dim=0))

    @property
    def diagonal(self) -> float:
        """Return the length of the diagonal of the box around the vertices."""
        lower, upper = self.bounds
        return float((upper - lower).norm())

    @property
    def area(self) -> float:
        """Return the sum of the triangles' areas."""
        return float(face_areas(self).sum())

    @property
    def volume(self) -> float:
        """Return the enclosed volume, positive if the faces look outwards.

        It is the sum over the triangles of ``a . (b x c) / 6``, and means something for closed meshes only.
        """
        a, b, c = self.vertices[self.faces].double().unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    def to(self, target: torch.device | torch.dtype | str) -> Mesh:
        """Return the mesh on another device, or with floating-point tensors of another type."""
        colors, normals = self.vertex_colors, self.vertex_normals
        return Mesh(
            self.vertices.to(target),
            self.faces if isinstance(target, torch.dtype) else self.faces.to(target),
            None if colors is None else colors.to(target),
            None if normals is None else normals.to(target),
        )

    def transformed(self, scale: float, translation: Float[Tensor, " 3"]) -> Mesh:
        """Return the mesh with every position ``x`` moved to ``scale * x + translation``.

        Raises:
            ValueError: if ``scale`` is not positive, which would turn the mesh inside out.
        """
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        return replace(self, vertices=scale * self.vertices + translation.to(self.vertices))


def face_cross_products(mesh: Mesh) -> Float[Tensor, "faces 3"]:
    """Return ``(b - a) x (c - a)`` of every triangle: its normal times twice its area."""
    a, b, c = mesh.vertices[mesh.faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def face_areas(mesh: Mesh) -> Float[Tensor, " faces"]:
    """Return the area of every triangle."""
    return face_cross_products(mesh).norm(dim=-1) / 2


def clockwise_areas(
    screen: Float[Tensor, "images vertices _"], faces: Int64[Tensor, "faces 3"]
) -> Float[Tensor, "images faces"]:
    """Return the area of every triangle in a picture, negative where its vertices go counter-clockwise round.

    Args:
        screen: x and y, y down; what follows, such as the depth, does not count.
        faces: Shared by all images. Counter-clockwise from outside: positive areas show the inside.
    """
    x, y = screen[:, faces, :2].diff(dim=2).unbind(-1)
    return (x[..., 0] * y[..., 1] - y[..., 0] * x[..., 1]) / 2


def vertex_normals(mesh: Mesh) -> Float[Tensor, "vertices 3"]:
    """Return unit normals at the vertices: the mean of the adjacent faces' normals, weighted by area.

    A vertex without a face, or whose faces cancel, gets the zero vector.
    """
    per_face = face_cross_products(mesh).repeat_interleave(3, dim=0)
    sums = torch.zeros_like(mesh.vertices).index_add_(0, mesh.faces.reshape(-1), per_face)
    return torch.nn.functional.normalize(sums, dim=-1, eps=torch.finfo(sums.dtype).tiny)


def sample_surface(mesh: Mesh, count: int, generator: torch.Generator) -> Float[Tensor, "count 3"]:
    """Return points spread uniformly over the area of the surface; see ``sample_triangles``."""
    return sample_triangles(mesh, count, generator)[0]


def sample_triangles(
    mesh: Mesh, count: int, generator: torch.Generator
) -> tuple[Float[Tensor, "count 3"], Int64[Tensor, " count"]]:
    """Return points spread uniformly over the area of the surface, and the triangle of each.

    A triangle is drawn by area; inside it ``(1 - sqrt u) a + sqrt u (1 - v) b + sqrt u v c`` with ``u, v``
    uniform in [0, 1] is uniform (Osada et al., Shape Distributions, 2002, section 4.2).

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
