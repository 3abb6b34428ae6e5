import math

import pytest
import torch

from shapewright.analysis.view_variance import view_variance


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
