"""The cached SDF that rays march through: distances to the hull, refreshes in turn, exact continuation."""

from __future__ import annotations

import pytest
import torch

from shapewright.data.toy import toy_cameras
from shapewright.errors import UserError
from shapewright.methods.surface.band_cache import BandCache, Box, carve

SIZE, SIDE, RADIUS = 24, 1.2, 0.4


def ball_cache():
    """Return the cache of a ball's hull at the centre of the cube."""
    centers = (torch.arange(SIZE) + 0.5) / SIZE - 0.5
    squares = (centers * SIDE).square()
    hull = squares[:, None, None] + squares[None, :, None] + squares[None, None, :] < RADIUS**2
    return BandCache(Box(torch.full((3,), -SIDE / 2), SIDE), hull)


def distance_of(points):
    """Return the distance of the ball at positions of the unit cube, ``[3, n]``."""
    return (points - 0.5).norm(dim=0) * SIDE - RADIUS


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_the_box_maps_its_corners_to_those_of_the_unit_cube():
    box = Box(torch.tensor([1.0, 2.0, 3.0]), 0.5)
    corners = torch.tensor([[1.0, 2.0, 3.0], [1.5, 2.5, 3.5], [1.25, 2.0, 3.5]])
    assert box.to_unit(corners).tolist() == [[0, 0, 0], [1, 1, 1], [0.5, 0, 1]]


def test_carving_finds_a_cube_around_what_all_masks_show_and_refuses_masks_without_anything():
    cameras = toy_cameras(6, (40, 40))
    masks = [torch.zeros(40, 40, dtype=torch.bool) for _ in range(6)]
    for mask in masks:
        mask[15:25, 15:25] = True
    box, hull = carve(cameras, masks, 16)
    assert hull.shape == (16, 16, 16)
    assert hull[8, 8, 8]
    assert not hull[0, 0, 0]
    torch.testing.assert_close(box.lower + box.side / 2, torch.zeros(3), atol=0.1, rtol=0)
    assert 0.4 < box.side < 1.0
    with pytest.raises(UserError, match="inside the masks of all views"):
        carve(cameras, [torch.zeros(40, 40, dtype=torch.bool)] * 6, 16)


def test_hull_distance_is_negative_inside_and_right_within_a_cell(generator):
    cache, points = ball_cache(), torch.rand(3, 2000, generator=generator)
    found, true = cache.hull_distance(points), distance_of(points)
    assert (found - true).abs().max() < 1.5 * SIDE / SIZE
    clear = true.abs() > 1.5 * SIDE / SIZE
    assert torch.equal(found[clear] < 0, true[clear] < 0)


def test_random_points_fill_the_hull(generator):
    points = ball_cache().random_points(3000, generator)
    assert distance_of(points).max() < SIDE / SIZE
    assert (points.mean(dim=1) - 0.5).abs().max() < 0.02
    # Uniform in a ball: the mean square of the radius is 3/5 of its square.
    assert ((points - 0.5) * SIDE).square().sum(0).mean() == pytest.approx(0.6 * RADIUS**2, rel=0.05)


def test_refreshes_see_every_cell_of_the_hull_in_turn_and_none_outside():
    cache, count = ball_cache(), torch.zeros(SIZE**3, dtype=torch.int64)
    before = cache.values.clone()

    def far_inside(points):
        index = (points * SIZE).long()
        count[(index[0] * SIZE + index[1]) * SIZE + index[2]] += 1
        return torch.full_like(points[0], -1.0)

    for turn in range(6):
        cache.refresh(far_inside, share=6)
        assert (turn == 5) == bool((cache.values[cache.hull] == -1.0).all())
    inside = cache.hull.reshape(-1)
    assert (count[inside] >= 1).all()
    assert not count[~inside].any()
    assert torch.equal(cache.values[~cache.hull], before[~cache.hull])


def test_cells_near_the_surface_are_refreshed_every_time():
    cache = ball_cache()
    cache.refresh(distance_of, share=1)
    near = cache.hull & (cache.values.abs() < 0.05)
    cache.refresh(lambda points: torch.full_like(points[0], 7.0), share=10**9)
    assert near.any()
    assert (cache.values[near] == 7.0).all()


def test_state_goes_round(generator):
    first, second = ball_cache(), ball_cache()
    for turn in range(2):
        first.refresh(lambda points, turn=turn: distance_of(points) + 0.01 * turn)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for cache in (first, second):
        cache.refresh(lambda points: points[0])
    assert torch.equal(first.values, second.values)
    assert all(torch.equal(value, second.state_dict()[name]) for name, value in first.state_dict().items())
