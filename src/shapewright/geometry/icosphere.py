"""The template of mesh decoders: a sphere of nearly equal triangles."""

from __future__ import annotations

import torch
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.mesh import Mesh

_GOLDEN = (1 + 5**0.5) / 2


def icosphere(subdivisions: int = 3, dtype: torch.dtype = torch.float32) -> Mesh:
    """Return the unit sphere as an icosahedron whose triangles are split in four, again and again.

    The corners of the icosahedron are (0, +-1, +-phi) and its cyclic permutations, normalised; each split puts the
    middles of the edges on the sphere. Three splits give 642 vertices and 1280 faces, which look outwards. The
    coordinate planes are planes of symmetry: every vertex has an exact mirror image.

    Args:
        subdivisions: How often triangles are split: ``10 * 4**subdivisions + 2`` vertices.
        dtype: Type of the positions.
    """
    check_range("subdivisions", subdivisions, 0, 8)
    signs = torch.tensor([[s, t] for s in (1.0, -1.0) for t in (1.0, -1.0)], dtype=torch.float64)
    corners = torch.cat([torch.zeros(4, 1, dtype=torch.float64), signs * signs.new_tensor([1.0, _GOLDEN])], dim=1)
    vertices = torch.cat([corners.roll(shift, dims=1) for shift in range(3)]) / (1 + _GOLDEN**2) ** 0.5
    faces = _nearest_triples(vertices)
    for _ in range(subdivisions):
        vertices, faces = _split(vertices, faces)
    return Mesh(vertices.to(dtype), faces)


def _nearest_triples(vertices: Tensor) -> Tensor:
    """Return the triangles of the icosahedron: all triples of neighbours, turned outwards."""
    near = (vertices[:, None] - vertices).norm(dim=2) < 1.2
    triples = torch.combinations(torch.arange(len(vertices)), 3)
    a, b, c = triples.unbind(1)
    faces = triples[near[a, b] & near[b, c] & near[c, a]]
    a, b, c = vertices[faces].unbind(1)
    turned = (a * torch.linalg.cross(b, c)).sum(1) < 0
    return torch.where(turned[:, None], faces[:, [0, 2, 1]], faces)


def _split(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, edge_of_side = torch.unique(sides.sort(dim=1).values, dim=0, return_inverse=True)
    middle = vertices[edges].sum(1)
    middle = middle / middle.norm(dim=1, keepdim=True)
    ab, bc, ca = (len(vertices) + edge_of_side).view(3, -1)
    a, b, c = faces.unbind(1)
    parts = ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))
    return torch.cat([vertices, middle]), torch.cat([torch.stack(part, dim=1) for part in parts])
