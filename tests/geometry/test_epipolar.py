import math

import pytest
import torch

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.epipolar import consistent_matches, fundamental_matrix, sampson_distance

UP = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
EYES = torch.tensor([[3.0, 0.0, 0.5], [2.8, 1.0, 0.2]], dtype=torch.float64)
CAMERAS = Cameras.from_look_at(EYES, torch.zeros(3, dtype=torch.float64), UP, 40.0, torch.tensor([[400, 300]] * 2))


def views_of(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = 0.5 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return [CAMERAS.project(points, view)[0] for view in (0, 1)]


def test_projections_of_a_point_lie_on_each_others_epipolar_lines():
    assert sampson_distance(fundamental_matrix(CAMERAS, 0, 1), *views_of(30)).max() < 1e-9


def test_the_sampson_distance_of_parallel_cameras_is_the_row_difference_over_root_two():
    pose = torch.eye(4, dtype=torch.float64)[None, :3].repeat(2, 1, 1)
    pose[1, 0, 3] = 0.5
    K = torch.diag(torch.tensor([50.0, 50.0, 1.0]).double()).repeat(2, 1, 1)
    F = fundamental_matrix(Cameras(pose, K, torch.tensor([[64, 48]] * 2)), 0, 1)
    distance = sampson_distance(F, torch.tensor([[3.0, 7.0]]), torch.tensor([[1.0, 10.0]]))
    assert distance.item() == pytest.approx(3.0 / math.sqrt(2))


def test_right_matches_are_told_from_wrong_ones_without_cameras():
    first, second = views_of(60)
    second[40:] = second[40:].roll(7, 0)
    found = consistent_matches(first, second, torch.Generator().manual_seed(1))
    assert found[:40].all()
    assert found[40:].sum() <= 4


def test_random_matches_agree_on_nothing():
    generator = torch.Generator().manual_seed(2)
    first, second = 300 * torch.rand(2, 60, 2, generator=generator)
    assert consistent_matches(first, second, generator).sum() < 25


def test_eight_matches_cannot_disagree_and_prove_nothing():
    assert not consistent_matches(*views_of(8), torch.Generator()).any()
    assert consistent_matches(torch.zeros(0, 2), torch.zeros(0, 2), torch.Generator()).shape == (0,)
