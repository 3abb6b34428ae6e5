"""Shapes for the tests of signs, and the ways to spoil them."""

import numpy as np
import torch

from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.sampling import normalisation, published_recipe, sample_positions

LOWER, UPPER = torch.full((3,), -1.0, dtype=torch.float64), torch.full((3,), 1.0, dtype=torch.float64)


def ring_distance(points):
    return torch.hypot(points[:, :2].norm(dim=-1) - 0.6, points[:, 2]) - 0.3


def ring(resolution=28):
    """Return a torus: closed, with a hole to look through."""
    return extract_isosurface(ring_distance, LOWER, UPPER, resolution, lipschitz=1.0).mesh


def box(lower=-0.5, upper=0.5):
    """Return a cube of twelve triangles."""
    corners = torch.cartesian_prod(*[torch.tensor([lower, upper], dtype=torch.float64)] * 3)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return Mesh(corners, torch.tensor([[q[0], q[a], q[a + 1]] for q in quads for a in (1, 2)]))


def grid(cells=8):
    """Return an open square sheet."""
    steps = torch.linspace(-0.6, 0.6, cells + 1, dtype=torch.float64)
    x, y = torch.meshgrid(steps, steps, indexing="ij")
    vertices = torch.stack((x, y, 0 * x), dim=-1).reshape(-1, 3)
    corner = torch.tensor([i * (cells + 1) + j for i in range(cells) for j in range(cells)])
    a, b, c, d = corner, corner + cells + 1, corner + cells + 2, corner + 1
    return Mesh(vertices, torch.cat([torch.stack((a, b, c), 1), torch.stack((a, c, d), 1)]))


def joined(*meshes):
    starts = np.cumsum([0] + [mesh.num_vertices for mesh in meshes[:-1]]).tolist()
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]
    return Mesh(torch.cat([mesh.vertices for mesh in meshes]), torch.cat(faces))


def unit(mesh):
    return normalisation(mesh).apply_to(mesh)


def points_of(mesh, count=4000, seed=1):
    return sample_positions(mesh, published_recipe("train", count), torch.Generator().manual_seed(seed))


def turned(mesh, share, seed=0):
    faces = mesh.faces.clone()
    some = torch.from_numpy(np.random.default_rng(seed).random(len(faces)) < share)
    faces[some] = faces[some].flip(1)
    return Mesh(mesh.vertices, faces)


def doubled(mesh):
    return Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.flip(1)]))


def thinned(mesh, share=0.05, seed=0):
    kept = torch.from_numpy(np.random.default_rng(seed).random(mesh.num_faces) >= share)
    return Mesh(mesh.vertices, mesh.faces[kept])


def with_hole(mesh, radius=0.12, seed=0):
    centre = sample_surface(mesh, 1, torch.Generator().manual_seed(seed))
    return Mesh(mesh.vertices, mesh.faces[(mesh.vertices[mesh.faces].mean(1) - centre).norm(dim=-1) >= radius])


def soup(mesh):
    vertices = mesh.vertices[mesh.faces].reshape(-1, 3)
    return Mesh(vertices, torch.arange(len(vertices)).reshape(-1, 3))


def exact_winding(points, mesh):
    """Return the sum of the solid angles of all triangles over 4 pi (van Oosterom and Strackee, 1983)."""
    return torch.cat([_exact_winding(part.double(), mesh) for part in points.split(50)])


def _exact_winding(points, mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, k]][None].double() - points[:, None] for k in range(3))
    la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
    above = (a * torch.linalg.cross(b, c)).sum(-1)
    below = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return torch.atan2(above, below).sum(1) / (2 * torch.pi)
