import math

import pytest
import torch

from shapewright.analysis.view_variance import code_shares, view_variance


def shapes(over_views, between, objects=40, views=24, vertices=50):
    generator = torch.Generator().manual_seed(0)
    middle = torch.randn(1, 1, vertices, 3, generator=generator)
    objects_differ = between * torch.randn(objects, 1, vertices, 3, generator=generator)
    views_differ = over_views * torch.randn(objects, views, vertices, 3, generator=generator)
    return middle + objects_differ + views_differ


def test_both_spreads_are_found():
    found = view_variance(shapes(0.01, 0.05))
    assert found.over_views == pytest.approx(0.01 * math.sqrt(3 * 23 / 24), rel=0.01)
    assert found.between_objects == pytest.approx(0.05 * math.sqrt(3 * 39 / 40), rel=0.02)
    assert found.entanglement == pytest.approx(found.over_views / found.between_objects)


def test_two_places_of_one_vertex_are_half_their_distance_from_the_middle():
    vertices = torch.tensor([[[[0.0, 0, 0]], [[0.0, 2, 0]]], [[[6.0, 0, 0]], [[6.0, 2, 0]]]])
    found = view_variance(vertices)
    assert (found.over_views, found.between_objects) == (pytest.approx(1), pytest.approx(3))


def test_shapes_that_do_not_depend_on_the_view_do_not_vary():
    found = view_variance(shapes(0.0, 0.05))
    assert found.over_views < 1e-7
    assert found.entanglement < 1e-5


def test_the_ratio_does_not_depend_on_the_scale():
    assert view_variance(100 * shapes(0.01, 0.05)).entanglement == pytest.approx(
        view_variance(shapes(0.01, 0.05)).entanglement, rel=1e-4
    )


def test_one_shape_for_all_has_no_ratio():
    assert math.isnan(view_variance(torch.ones(3, 2, 4, 3)).entanglement)


def test_missing_axes_are_refused():
    with pytest.raises(ValueError, match="vertices must have shape"):
        view_variance(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="views must lie"):
        view_variance(torch.zeros(2, 0, 4, 3))


def grid_of_codes(of_objects, of_views, of_both):
    """Return codes [2, 2, 1] of a design whose three effects are +-1 times the given numbers."""
    sign = torch.tensor([1.0, -1.0])
    return (of_objects * sign[:, None] + of_views * sign + of_both * sign[:, None] * sign)[..., None] + 7


def test_the_variance_of_codes_is_divided_among_objects_views_and_both():
    found = code_shares(grid_of_codes(3.0, 2.0, 1.0))
    assert (found.objects, found.views, found.interaction) == pytest.approx((9 / 14, 4 / 14, 1 / 14))


def test_the_shares_of_codes_do_not_depend_on_scale_and_offset():
    codes = torch.randn(5, 4, 8, generator=torch.Generator().manual_seed(0))
    found, moved = code_shares(codes), code_shares(3 * codes + 2)
    assert found.views == pytest.approx(moved.views, rel=1e-5)
    assert found.objects + found.views + found.interaction == pytest.approx(1)


def test_a_view_that_acts_on_all_objects_alike_has_no_interaction():
    found = code_shares(grid_of_codes(1.0, 1.0, 0.0))
    assert (found.objects, found.views, found.interaction) == pytest.approx((0.5, 0.5, 0.0), abs=1e-9)


def test_equal_codes_have_no_shares():
    assert math.isnan(code_shares(torch.ones(2, 3, 4)).objects)
    with pytest.raises(ValueError, match="views must lie"):
        code_shares(torch.ones(2, 0, 4))
