import math

import numpy as np
import pytest
import torch

from shapewright.geometry.mesh import Mesh, face_areas, sample_surface, sample_triangles
from shapewright.geometry.signed_distance import unsigned_distance
from shapewright.geometry.surface_queries import SurfaceIndex


def soup(count, seed=0):
    corners = torch.rand(3 * count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return Mesh(corners, torch.arange(3 * count).reshape(count, 3))


def distance_to_triangle(point, triangle):
    """Slow reference: the nearest of the plane's foot, if it lies inside, and the three edges."""
    a, b, c = triangle
    normal = np.cross(b - a, c - a)
    foot = point - normal * np.dot(point - a, normal) / np.dot(normal, normal)
    inside = all(np.dot(np.cross(q - p, foot - p), normal) >= 0 for p, q in ((a, b), (b, c), (c, a)))
    distances = [np.linalg.norm(point - foot)] if inside else []
    for p, q in ((a, b), (b, c), (c, a)):
        along = np.clip(np.dot(point - p, q - p) / np.dot(q - p, q - p), 0, 1)
        distances.append(np.linalg.norm(point - p - along * (q - p)))
    return min(distances)


def test_distances_and_triangles_are_those_of_brute_force():
    mesh = soup(20)
    points = 2 * torch.rand(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.5
    distances, faces = SurfaceIndex(mesh).nearest(points)
    triangles = mesh.vertices[mesh.faces].numpy()
    expected = np.array([[distance_to_triangle(p, t) for t in triangles] for p in points.numpy()])
    assert np.allclose(distances.numpy(), expected.min(1), atol=1e-12)
    assert faces.tolist() == expected.argmin(1).tolist()


def test_one_tree_answers_as_the_single_query_does():
    mesh = soup(300)
    index = SurfaceIndex(mesh)
    for seed in (0, 1):
        points = torch.randn(200, 3, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(index.nearest(points)[0], unsigned_distance(points, mesh))
    assert index.nearest(points[:0])[0].shape == (0,)


def test_many_points_are_asked_in_parts():
    mesh = Mesh(torch.tensor([[-9.0, -9, 0], [9, -9, 0], [0, 9, 0]]), torch.tensor([[0, 1, 2]]))
    points = torch.rand(100_001, 3)
    distances, faces = SurfaceIndex(mesh).nearest(points)
    assert torch.allclose(distances, points[:, 2])
    assert not faces.any()


def test_samples_lie_on_the_triangle_they_name_and_are_those_of_sample_surface():
    mesh = soup(40)
    points, faces = sample_triangles(mesh, 500, torch.Generator().manual_seed(3))
    assert torch.equal(points, sample_surface(mesh, 500, torch.Generator().manual_seed(3)))
    for point, face in zip(points[:50], faces[:50], strict=True):
        single = Mesh(mesh.vertices[mesh.faces[face]], torch.tensor([[0, 1, 2]]))
        assert float(SurfaceIndex(single).nearest(point[None])[0]) < 1e-12


def test_triangles_are_drawn_by_area():
    mesh = soup(5)
    _, faces = sample_triangles(mesh, 50_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(faces, minlength=5) / 50_000
    areas = face_areas(mesh)
    assert torch.allclose(shares.double(), areas / areas.sum(), atol=0.01)


def test_what_has_no_answer_is_refused():
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without triangles"):
        SurfaceIndex(empty)
    with pytest.raises(ValueError, match="without area"):
        sample_triangles(empty, 1, torch.Generator())
    with pytest.raises(ValueError, match="must be finite"):
        SurfaceIndex(soup(1)).nearest(torch.full((1, 3), math.nan))
    with pytest.raises(ValueError, match="count"):
        sample_triangles(soup(1), -1, torch.Generator())
