import math

import pytest
import torch

from shapewright.metrics.voxel_iou import volume_iou

LOWER, UPPER = torch.full((3,), -1.0), torch.full((3,), 1.0)


def ball(radius, x=0.0):
    return lambda points: (points - torch.tensor([x, 0.0, 0.0])).norm(dim=-1) < radius


def lens(radius, distance):
    """Volume that two balls of one radius share (Weisstein, Sphere-Sphere Intersection, eq. 16)."""
    return math.pi / 12 * (4 * radius + distance) * (2 * radius - distance) ** 2


def test_concentric_balls_share_the_cube_of_their_radii():
    assert volume_iou(ball(0.8), ball(0.9), LOWER, UPPER) == pytest.approx((0.8 / 0.9) ** 3, abs=0.003)


def test_overlapping_balls_share_a_lens():
    shared, one = lens(0.5, 0.4), 4 / 3 * math.pi * 0.5**3
    expected = shared / (2 * one - shared)
    assert volume_iou(ball(0.5, -0.2), ball(0.5, 0.2), LOWER, UPPER) == pytest.approx(expected, abs=0.005)


def test_equal_shapes_share_all_and_distant_ones_nothing():
    assert volume_iou(ball(0.4), ball(0.4), LOWER, UPPER, num_points=1000) == 1.0
    assert volume_iou(ball(0.3, -0.5), ball(0.3, 0.5), LOWER, UPPER, num_points=1000) == 0.0


def test_the_order_does_not_matter_and_the_seed_repeats():
    a, b = ball(0.5), ball(0.4, 0.2)
    first = volume_iou(a, b, LOWER, UPPER, num_points=5000, seed=7)
    assert first == volume_iou(b, a, LOWER, UPPER, num_points=5000, seed=7)
    assert first != volume_iou(a, b, LOWER, UPPER, num_points=5000, seed=8)


def test_points_fill_the_box_and_no_more():
    seen = []
    lower, upper = torch.tensor([1.0, -2, 5]), torch.tensor([2.0, 2, 5.5])
    volume_iou(lambda x: seen.append(x) or x[:, 0] > 0, ball(9), lower, upper, num_points=4096)
    assert ((seen[0] >= lower) & (seen[0] <= upper)).all()
    assert torch.allclose(seen[0].mean(0), (lower + upper) / 2, atol=1e-3)


def test_what_has_no_volume_is_refused():
    with pytest.raises(ValueError, match="no volume to compare"):
        volume_iou(ball(0.0), ball(0.0), LOWER, UPPER, num_points=100)
    with pytest.raises(ValueError, match="needs a volume"):
        volume_iou(ball(1.0), ball(1.0), LOWER, LOWER)
    with pytest.raises(ValueError, match="num_points"):
        volume_iou(ball(1.0), ball(1.0), LOWER, UPPER, num_points=0)
