import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from shapewright.geometry.mesh import Mesh, face_areas, sample_surface, vertex_normals

CORNERS = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
TETRAHEDRON = Mesh(CORNERS, torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]))


def test_tetrahedron_has_the_area_and_volume_of_the_formula():
    assert TETRAHEDRON.area == pytest.approx(1.5 + math.sqrt(3) / 2)
    assert TETRAHEDRON.volume == pytest.approx(1 / 6)
    assert TETRAHEDRON.diagonal == pytest.approx(math.sqrt(3))
    assert face_areas(TETRAHEDRON).tolist() == pytest.approx([0.5, 0.5, 0.5, math.sqrt(3) / 2])


@given(scale=st.floats(0.1, 10.0), shift=st.floats(-5.0, 5.0))
@settings(max_examples=20, deadline=None)
def test_scaling_multiplies_area_and_volume(scale, shift):
    moved = TETRAHEDRON.to(torch.float64).transformed(scale, torch.full((3,), shift))
    assert moved.area == pytest.approx(scale**2 * TETRAHEDRON.area)
    assert moved.volume == pytest.approx(scale**3 * TETRAHEDRON.volume, rel=1e-5, abs=1e-9)


def test_normals_of_a_flat_square_are_its_axis():
    square = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 3]]))
    assert torch.equal(vertex_normals(square), torch.tensor([[0.0, 0, 1]]).repeat(4, 1))


def test_normals_are_weighted_by_area_and_zero_without_faces():
    lonely = Mesh(torch.cat([CORNERS, torch.ones(1, 3)]), TETRAHEDRON.faces)
    normals = vertex_normals(lonely)
    assert normals[0].tolist() == pytest.approx([-1 / math.sqrt(3)] * 3)
    assert normals[4].tolist() == [0, 0, 0]
    assert torch.allclose(normals[:4].norm(dim=-1), torch.ones(4))


def test_normals_of_tiny_triangles_have_length_one():
    assert torch.allclose(vertex_normals(TETRAHEDRON.transformed(1e-7, torch.zeros(3))).norm(dim=-1), torch.ones(4))


def test_samples_lie_on_the_surface_and_follow_the_area():
    points = sample_surface(TETRAHEDRON, 20_000, torch.Generator().manual_seed(0))
    slanted = (points.sum(-1) - 1).abs() < 1e-5
    on_a_side = (points.abs() < 1e-6).any(-1)
    assert bool((slanted | on_a_side).all())
    assert float(slanted.float().mean()) == pytest.approx(math.sqrt(3) / 2 / TETRAHEDRON.area, abs=0.01)
    assert points[slanted].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.01)


def test_sampling_the_same_seed_gives_the_same_points():
    first, second = (sample_surface(TETRAHEDRON, 5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("count", [0, 1])
def test_few_samples_are_possible(count):
    assert sample_surface(TETRAHEDRON, count, torch.Generator()).shape == (count, 3)


@pytest.mark.parametrize(
    ("vertices", "faces", "message"),
    [
        (torch.rand(3, 3), torch.tensor([[0, 1, 3]]), "faces must name vertices 0 to 2"),
        (torch.rand(3, 3), torch.tensor([[0, 1, -1]]), "got -1 to 1"),
        (torch.tensor([[0.0, math.nan, 0]]), torch.zeros(1, 3, dtype=torch.int64), "must be finite"),
    ],
)
def test_a_broken_mesh_is_refused(vertices, faces, message):
    with pytest.raises(ValueError, match=message):
        Mesh(vertices, faces)


@pytest.mark.parametrize(
    ("vertices", "faces", "colors"),
    [
        (CORNERS[:, :2], TETRAHEDRON.faces, None),
        (CORNERS, TETRAHEDRON.faces.int(), None),
        (CORNERS, TETRAHEDRON.faces, torch.rand(3, 3)),
    ],
)
def test_another_shape_or_type_is_refused(vertices, faces, colors):
    with pytest.raises((ValueError, TypeCheckError)):  # the latter where shapes are checked at every call
        Mesh(vertices, faces, vertex_colors=colors)


def test_what_means_nothing_raises():
    empty = Mesh(torch.empty(0, 3), torch.empty(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="without vertices"):
        _ = empty.bounds
    with pytest.raises(ValueError, match="without area"):
        sample_surface(empty, 1, torch.Generator())
    with pytest.raises(ValueError, match="must be positive"):
        TETRAHEDRON.transformed(-1.0, torch.zeros(3))
