import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.sampling import (
    changed_recipe,
    normalisation,
    published_recipe,
    sample_positions,
)
from tests.geometry.messy import box, ring


def test_the_published_counts_are_kept():
    counts = {name: published_recipe(name) for name in ("train", "test", "neorender", "wide")}
    assert [recipe.count for recipe in counts.values()] == [500_000, 250_000, 500_000, 500_000]
    assert [recipe.num_surface for recipe in counts.values()] == [235_000, 117_500, 238_095, 200_000]
    assert [recipe.num_uniform for recipe in counts.values()] == [30_000, 15_000, 23_810, 100_000]
    assert counts["train"].variance == counts["neorender"].variance == 0.005
    assert counts["train"].second_variance == pytest.approx(0.0005)
    assert counts["test"].variance == 0.05
    assert counts["test"].second_variance == pytest.approx(0.0005)


def test_a_recipe_can_be_changed():
    recipe = changed_recipe(published_recipe("test", 1000), variance=0.02, uniform_share=0.5)
    assert (recipe.count, recipe.num_uniform) == (1000, 500)
    assert recipe.second_variance == pytest.approx(0.0002)
    with pytest.raises(ValueError, match="uniform_share"):
        changed_recipe(recipe, uniform_share=1.5)


@pytest.mark.parametrize("count", [1, 2, 3, 49, 1001])
def test_every_count_is_met(count):
    for name in ("train", "neorender", "wide"):
        recipe = published_recipe(name, count)
        assert len(sample_positions(box(), recipe, torch.Generator().manual_seed(0))) == count


def test_near_samples_have_the_noise_of_the_recipe():
    flat = Mesh(box().vertices * torch.tensor([1e-9, 1, 1], dtype=torch.float64), box().faces[:4])
    recipe = published_recipe("train", 50_000)
    points = sample_positions(flat, recipe, torch.Generator().manual_seed(0))
    wide, narrow = points[: recipe.num_surface, 0], points[recipe.num_surface : 2 * recipe.num_surface, 0]
    assert float(wide.std()) == pytest.approx(math.sqrt(0.005), rel=0.02)
    assert float(narrow.std()) == pytest.approx(math.sqrt(0.0005), rel=0.02)
    uniform = points[-recipe.num_uniform :]
    assert float(uniform.abs().max()) <= 1
    assert uniform.mean(0).abs().max() < 0.05
    assert uniform.std(0).tolist() == pytest.approx([1 / math.sqrt(3)] * 3, rel=0.05)


def test_the_same_state_of_the_generator_gives_the_same_samples():
    recipe = published_recipe("train", 1000)
    first, second, other = (sample_positions(ring(), recipe, torch.Generator().manual_seed(s)) for s in (5, 5, 6))
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_a_normalised_shape_touches_the_radius_and_sits_in_the_middle():
    mesh = box().transformed(7, torch.tensor([10.0, -3, 2]))
    to_unit = normalisation(mesh)
    vertices = to_unit.apply_to(mesh).vertices
    assert float(vertices.norm(dim=1).max()) == pytest.approx(1 / 1.03, rel=1e-6)
    assert vertices.aminmax(dim=0).min.tolist() == pytest.approx((-vertices.aminmax(dim=0).max).tolist())
    assert to_unit.offset.tolist() == pytest.approx([-10, 3, -2])
    assert to_unit.scale == pytest.approx(1 / (1.03 * 3.5 * math.sqrt(3)))


@settings(max_examples=30, deadline=None)
@given(st.floats(1e-6, 1e6), st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3))
def test_there_is_a_way_back_from_every_size_and_place(scale, shift):
    translation = scale * torch.tensor(shift, dtype=torch.float64)
    mesh = box().transformed(scale, translation)
    to_unit = normalisation(mesh)
    back = to_unit.invert(to_unit.apply(mesh.vertices))
    assert torch.allclose(back, mesh.vertices, rtol=1e-12, atol=1e-9 * scale)
    assert float(to_unit.apply(mesh.vertices).norm(dim=1).max()) <= 1 / 1.03 + 1e-6


def test_vertices_without_a_triangle_do_not_count():
    far = Mesh(torch.cat([box().vertices, torch.full((1, 3), 99.0)]), box().faces)
    assert normalisation(far).scale == normalisation(box()).scale


@pytest.mark.parametrize(
    ("mesh", "message"),
    [
        (Mesh(torch.zeros(3, 3), torch.empty(0, 3, dtype=torch.int64)), "without triangles"),
        (Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]])), "one point"),
    ],
)
def test_what_has_no_size_is_refused(mesh, message):
    with pytest.raises(ValueError, match=message):
        normalisation(mesh)


def test_a_surface_without_area_is_refused():
    line = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), torch.tensor([[0, 1, 2]]))
    with pytest.raises(ValueError, match="without area"):
        sample_positions(line, published_recipe("train", 100), torch.Generator())
