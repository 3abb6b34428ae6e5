import math

import pytest
import torch

from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.signed_distance import unsigned_distance
from shapewright.metrics.chamfer import surface_distance

LOWER, UPPER = torch.full((3,), -1.0), torch.full((3,), 1.0)


def square(height):
    corners = torch.tensor([[0.0, 0, height], [1, 0, height], [1, 1, height], [0, 1, height]])
    return Mesh(corners, torch.tensor([[0, 1, 2], [0, 2, 3]]))


def ball(radius, resolution=96):
    return extract_isosurface(lambda x: x.norm(dim=-1) - radius, LOWER, UPPER, resolution).mesh


def test_two_planes_are_their_offset_apart():
    result = surface_distance(square(0.1), square(0.0), num_points=1000)
    for summary in (result.accuracy, result.completeness):
        for value in (summary.mean, summary.median, summary.p95, summary.largest):
            assert value == pytest.approx(0.1 / math.sqrt(2), rel=1e-6)
    assert result.mean == pytest.approx(0.1 / math.sqrt(2))
    assert result.f_score_1pct == 0.0


def test_a_surface_has_no_distance_to_itself_however_few_the_points():
    mesh = ball(0.5)
    result = surface_distance(mesh, mesh, num_points=10)
    assert result.mean < 1e-7
    assert result.f_score_1pct == 1.0


def test_two_balls_are_their_radii_apart():
    result = surface_distance(ball(0.55), ball(0.5), num_points=5000)
    assert result.metrics()["surface_distance_pct"] == pytest.approx(100 * 0.05 / math.sqrt(3), rel=0.02)


def test_a_missing_half_shows_in_completeness_alone():
    whole = ball(0.5)
    half = Mesh(whole.vertices, whole.faces[whole.vertices[whole.faces].mean(1)[:, 0] > 0])
    result = surface_distance(half, whole, num_points=5000)
    assert result.accuracy.mean < 1e-7
    assert result.completeness.p95 > 0.2
    assert result.completeness.share_below_1pct == pytest.approx(0.5, abs=0.05)
    assert 0.6 < result.f_score_1pct < 0.72


def test_scale_does_not_matter():
    small = surface_distance(square(0.1), square(0.0), num_points=100)
    shift = torch.ones(3)
    large = surface_distance(square(0.1).transformed(7, shift), square(0.0).transformed(7, shift), num_points=100)
    assert large.mean == pytest.approx(small.mean, rel=1e-5)


def test_distance_to_a_triangle_is_that_to_its_nearest_corner_edge_or_inside():
    triangle = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2]]))
    points = torch.tensor([[0.2, 0.2, 0.5], [-1.0, -1, 0], [1, 1, 0], [0.5, -2, 0]])
    expected = [0.5, math.sqrt(2), math.sqrt(0.5), 2.0]
    assert unsigned_distance(points, triangle).tolist() == pytest.approx(expected)


def test_distances_of_many_points_are_taken_in_parts():
    points = torch.rand(100_001, 3)
    assert torch.allclose(unsigned_distance(points, square(-1.0)), points[:, 2] + 1)
    assert unsigned_distance(points[:0], square(0.0)).shape == (0,)


def test_what_has_no_distance_is_refused():
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without triangles"):
        unsigned_distance(torch.zeros(1, 3), empty)
    with pytest.raises(ValueError, match="must be finite"):
        unsigned_distance(torch.full((1, 3), math.nan), square(0.0))
    with pytest.raises(ValueError, match="without area"):
        surface_distance(empty, square(0.0))
