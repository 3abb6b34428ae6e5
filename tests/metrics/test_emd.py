import itertools
import math

import pytest
import torch

from shapewright.metrics.emd import earth_movers_distance


def cloud(count, seed=0):
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_is_the_cheapest_of_all_assignments():
    first, second = cloud(6, 1), cloud(6, 2)
    cheapest = min(
        (first - second[list(order)]).norm(dim=1).mean().item() for order in itertools.permutations(range(6))
    )
    assert earth_movers_distance(first, second) == pytest.approx(cheapest)


def test_a_small_shift_costs_its_length_and_the_order_nothing():
    points = cloud(100)
    shift = torch.tensor([1e-3, 0, 0])
    assert earth_movers_distance(points, points.flip(0) + shift) == pytest.approx(1e-3)
    assert earth_movers_distance(points, points.flip(0)) == 0.0


def test_it_sees_density_where_nearest_points_see_none():
    ends = torch.tensor([[0.0, 0, 0], [1, 0, 0]])
    assert earth_movers_distance(ends[[0, 0, 0, 1]], ends[[0, 1, 1, 1]]) == pytest.approx(0.5)


def test_it_is_symmetric_and_grows_with_scale():
    first, second = cloud(50, 1), cloud(50, 2)
    there = earth_movers_distance(first, second)
    assert earth_movers_distance(second, first) == pytest.approx(there)
    assert earth_movers_distance(3 * first, 3 * second) == pytest.approx(3 * there)


def test_sets_that_cannot_be_paired_are_refused():
    with pytest.raises(ValueError, match="got 3 and 4"):
        earth_movers_distance(cloud(3), cloud(4))
    with pytest.raises(ValueError, match="same number of points"):
        earth_movers_distance(cloud(0), cloud(0))
    with pytest.raises(ValueError, match="must be finite"):
        earth_movers_distance(cloud(2), torch.full((2, 3), math.nan))
