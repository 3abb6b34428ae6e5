import math

import pytest
import torch

from shapewright.errors import UserError
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.topology import count_components, is_watertight

LOWER, UPPER = torch.full((3,), -1.0), torch.full((3,), 1.0)


def sphere(points):
    return points.norm(dim=-1) - 0.7


def bumpy(points):
    """A blob whose slope runs from about 0.5 to 1.5, as that of a trained network."""
    x, y, z = points.unbind(-1)
    return (points.norm(dim=-1) - 0.65) * (1 + 0.3 * torch.sin(3 * x)) + 0.02 * torch.sin(12 * y) * torch.cos(10 * z)


def torus(points):
    ring = points[:, :2].norm(dim=-1) - 0.6
    return torch.hypot(ring, points[:, 2]) - 0.2


def thin_plate(points):
    box = points.abs() - torch.tensor([0.7, 0.7, 0.012])
    return box.clamp(min=0).norm(dim=-1) + box.amax(-1).clamp(max=0)


def dense(field, resolution, lower=LOWER, upper=UPPER, level=0.0):
    return extract_isosurface(field, lower, upper, resolution, level=level, lipschitz=math.inf)


def assert_same_triangles(ours, theirs):
    assert torch.equal(ours.mesh.faces, theirs.mesh.faces)
    assert torch.allclose(ours.mesh.vertices, theirs.mesh.vertices, atol=1e-5)


@pytest.mark.parametrize("field", [sphere, bumpy, torus, thin_plate])
@pytest.mark.parametrize("resolution", [33, 96])
def test_triangles_are_those_of_the_dense_lattice(field, resolution):
    result = extract_isosurface(field, LOWER, UPPER, resolution)
    assert_same_triangles(result, dense(field, resolution))
    assert result.evaluations < resolution**3


@pytest.mark.parametrize("field", [sphere, bumpy, torus])
def test_at_256_less_than_a_twentieth_is_evaluated(field):
    result = extract_isosurface(field, LOWER, UPPER, 256)
    assert result.dense_evaluations == 256**3
    assert result.evaluations <= 256**3 / 20
    assert result.contradictions == 0


def test_a_sphere_is_watertight_and_has_its_volume():
    mesh = extract_isosurface(sphere, LOWER, UPPER, 96).mesh
    assert is_watertight(mesh)
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.7**3, rel=2e-3)
    assert float((mesh.vertices.norm(dim=-1) - 0.7).abs().max()) < 1e-3


def test_each_evaluation_is_counted_once():
    asked = 0

    def counting(points):
        nonlocal asked
        asked += len(points)
        return sphere(points)

    assert extract_isosurface(counting, LOWER, UPPER, 64).evaluations == asked


def test_a_field_steeper_than_assumed_still_gives_the_dense_triangles():
    result = extract_isosurface(lambda points: 4 * bumpy(points), LOWER, UPPER, 96)
    assert result.contradictions > 0
    assert_same_triangles(result, dense(lambda points: 4 * bumpy(points), 96))


def test_an_island_where_the_field_claims_to_be_far_is_found_by_the_probes():
    def treacherous(points):
        island = (points - 0.505).norm(dim=-1) - 0.15
        return torch.where(island < 0, island, 1.0)

    result = extract_isosurface(treacherous, LOWER, UPPER, 96)
    assert result.lipschitz > 1.5
    assert_same_triangles(result, dense(treacherous, 96))


def test_a_long_box_has_one_spacing():
    lower, upper = torch.tensor([-0.8, -0.8, -0.3]), torch.tensor([0.85, 0.8, 0.3])
    asked = []

    def spying(points):
        asked.append(points)
        return torus(points)

    result = extract_isosurface(spying, lower, upper, 67)
    assert_same_triangles(result, dense(torus, 67, lower, upper))
    assert result.dense_evaluations == 67 * 65 * 25
    lattice = (torch.cat(asked) - lower) / 0.025
    assert torch.allclose(lattice, lattice.round(), atol=1e-3)


def test_level_moves_the_surface():
    result = extract_isosurface(sphere, LOWER, UPPER, 64, level=0.1)
    assert float(result.mesh.vertices.norm(dim=-1).mean()) == pytest.approx(0.8, abs=1e-3)
    assert_same_triangles(result, dense(sphere, 64, level=0.1))


def test_a_field_clamped_far_away_is_no_problem():
    def clamped(points):
        return sphere(points).clamp(-0.1, 0.1)

    assert_same_triangles(extract_isosurface(clamped, LOWER, UPPER, 96), dense(clamped, 96))


def test_separate_parts_are_all_found():
    centers = torch.tensor([[-0.5, -0.5, -0.5], [0.5, 0.5, 0.5], [0.5, -0.5, 0.0]])

    def spheres(points):
        return (torch.cdist(points, centers) - 0.05).amin(dim=1)

    assert count_components(extract_isosurface(spheres, LOWER, UPPER, 128).mesh) == 3


def test_faces_follow_the_device_and_type_of_the_box():
    mesh = extract_isosurface(sphere, LOWER.double(), UPPER.double(), 24).mesh
    assert mesh.vertices.dtype == torch.float64
    assert mesh.volume > 0


@pytest.mark.parametrize("resolution", [2, 3, 5])
def test_coarse_lattices_work(resolution):
    field = lambda points: points[:, 0] - 0.1  # noqa: E731
    assert extract_isosurface(field, LOWER, UPPER, resolution).mesh.area == pytest.approx(4.0, rel=1e-4)


def test_no_surface_names_the_range_of_the_field():
    with pytest.raises(UserError, match=r"runs from 0\.3.* to 1 and never crosses 0"):
        extract_isosurface(lambda points: points.norm(dim=-1).clamp(max=0.7) + 0.3, LOWER, UPPER, 65)


def test_a_field_with_nan_is_refused():
    with pytest.raises(UserError, match="not finite"):
        extract_isosurface(lambda points: points[:, 0].log(), LOWER, UPPER, 32)


def test_a_flat_box_or_a_single_point_is_refused():
    with pytest.raises(ValueError, match="three positive sides"):
        extract_isosurface(sphere, LOWER, torch.tensor([1.0, 1.0, -1.0]), 32)
    with pytest.raises(ValueError, match="resolution"):
        extract_isosurface(sphere, LOWER, UPPER, 1)


def test_a_field_that_answers_in_the_wrong_shape_is_refused():
    with pytest.raises(ValueError, match="field's answer"):
        extract_isosurface(lambda points: points, LOWER, UPPER, 16)
