"""Signed distances in closed form."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometry.analytic import (
    box_distance,
    capsule_distance,
    cylinder_distance,
    ellipsoid_distance,
    round_cone_distance,
    smooth_difference,
    smooth_union,
    sphere_distance,
    torus_distance,
)

CENTER = (0.2, -0.1, 0.3)
EXACT = {
    "sphere": lambda points: sphere_distance(points, CENTER, 0.6),
    "torus": lambda points: torus_distance(points, CENTER, 0.5, 0.2),
    "cylinder": lambda points: cylinder_distance(points, CENTER, 0.5, 0.3, 0.1),
    "box": lambda points: box_distance(points, CENTER, (0.4, 0.2, 0.3)),
    "capsule": lambda points: capsule_distance(points, (-0.3, 0.0, 0.1), (0.4, 0.2, 0.0), 0.2),
    "round cone": lambda points: round_cone_distance(points, (-0.3, 0.0, 0.1), (0.4, 0.2, 0.0), 0.3, 0.1),
}


def random_points(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, generator=generator, dtype=torch.float64) * 4 - 2


def slopes(distance, points):
    points = points.requires_grad_()
    (gradient,) = torch.autograd.grad(distance(points).sum(), points)
    return gradient


@pytest.mark.parametrize("shape", EXACT)
def test_exact_distances_have_slope_one(shape):
    length = slopes(EXACT[shape], random_points(2000)).norm(dim=-1)
    assert torch.allclose(length, torch.ones_like(length), atol=1e-6)


@pytest.mark.parametrize("shape", EXACT)
def test_walking_the_distance_against_the_slope_ends_on_the_surface(shape):
    points = random_points(2000)
    points = points[EXACT[shape](points) > 0]
    foot = points - EXACT[shape](points)[:, None] * slopes(EXACT[shape], points)
    assert EXACT[shape](foot).abs().max() < 1e-6


@pytest.mark.parametrize("shape", EXACT)
def test_distances_have_finite_slopes_on_their_axes(shape):
    points = torch.tensor([CENTER, (0.2, 2.0, 0.3), (-0.3, 0.0, 0.1)], dtype=torch.float64)
    assert slopes(EXACT[shape], points).isfinite().all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_torus_turns_around_its_axis(axis):
    tip = torch.zeros(1, 3, dtype=torch.float64)
    tip[0, (axis + 1) % 3] = 0.5
    assert torus_distance(tip, (0.0, 0.0, 0.0), 0.5, 0.2, axis).item() == pytest.approx(-0.2)
    tip = tip.roll(-1, 1)
    assert torus_distance(tip, (0.0, 0.0, 0.0), 0.5, 0.2, axis).item() == pytest.approx(math.hypot(0.5, 0.5) - 0.2)


def test_a_round_cone_is_the_hull_of_two_balls():
    start, end = (-0.3, 0.0, 0.1), (0.4, 0.2, 0.0)
    points = random_points(500)
    shares = torch.linspace(0, 1, 4001, dtype=torch.float64)[:, None]
    centers = torch.tensor(start) * (1 - shares) + torch.tensor(end) * shares
    swept = (torch.cdist(points, centers) - (0.3 * (1 - shares) + 0.1 * shares).T).amin(1)
    assert torch.allclose(round_cone_distance(points, start, end, 0.3, 0.1), swept, atol=1e-4)


def test_an_ellipsoid_is_exact_on_its_surface_and_to_first_order_beside_it():
    radii = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    points = torch.nn.functional.normalize(random_points(500), dim=-1) * radii
    normals = torch.nn.functional.normalize(points / radii**2, dim=-1)
    for step in (0.0, 1e-4, -1e-4):
        distance = ellipsoid_distance(points + step * normals, (0.0, 0.0, 0.0), (0.5, 0.3, 0.2))
        assert torch.allclose(distance, torch.full_like(distance, step), atol=2e-7)


def test_the_center_of_an_ellipsoid_is_inside():
    center = torch.tensor([CENTER], dtype=torch.float64)
    assert ellipsoid_distance(center, CENTER, (0.5, 0.3, 0.2)).item() == pytest.approx(-0.2)


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.01, 0.5))
@settings(deadline=None)
def test_a_smooth_union_lies_a_quarter_width_below_the_minimum_at_most(first, second, width):
    a, b = torch.tensor([first], dtype=torch.float64), torch.tensor([second], dtype=torch.float64)
    below = min(first, second) - smooth_union(a, b, width).item()
    assert -1e-12 <= below <= width / 4 + 1e-12
    if abs(first - second) >= width:
        assert below == pytest.approx(0)
    assert smooth_union(a, b, width).item() == pytest.approx(smooth_union(b, a, width).item())


def test_a_smooth_difference_is_solid_only_outside_what_was_removed():
    points = random_points(3000)
    solid, removed = EXACT["sphere"](points), EXACT["box"](points)
    inside = smooth_difference(solid, removed, 0.05) < 0
    assert not (inside & (removed < 0)).any()
    assert inside[(solid < -0.05) & (removed > 0.05)].all()


@pytest.mark.parametrize("shape", [(0, 3), (3,), (2, 5, 3)])
def test_distances_keep_the_shape_of_the_batch(shape):
    for distance in EXACT.values():
        assert distance(torch.zeros(shape)).shape == shape[:-1]


def test_a_ball_inside_the_other_is_no_round_cone():
    with pytest.raises(ValueError, match="must not contain"):
        round_cone_distance(torch.zeros(1, 3), (0.0, 0.0, 0.0), (0.1, 0.0, 0.0), 0.5, 0.1)
