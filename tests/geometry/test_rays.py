import math

import pytest
import torch

from shapewright.geometry.rays import intersect_box, intersect_sphere

X = torch.tensor([[1.0, 0.0, 0.0]])


def test_a_ray_through_the_middle_meets_the_sphere_at_its_diameter():
    near, far, hits = intersect_sphere(torch.tensor([[-3.0, 0.0, 0.0]]), X, 0.5)
    assert (near.item(), far.item(), hits.item()) == (2.5, 3.5, True)


def test_an_offset_ray_meets_the_sphere_at_the_chord():
    near, far, hits = intersect_sphere(torch.tensor([[-3.0, 0.6, 0.0]]), X)
    assert hits.item()
    assert (near.item(), far.item()) == pytest.approx((3 - 0.8, 3 + 0.8))


@pytest.mark.parametrize(("origin", "expected"), [([0.0, 0, 0], (0.0, 1.0, True)), ([3.0, 0, 0], (0.0, 0.0, False))])
def test_the_sphere_counts_only_in_front_of_the_ray(origin, expected):
    near, far, hits = intersect_sphere(torch.tensor([origin]), X)
    assert (near.item(), far.item(), hits.item()) == expected


def test_tangent_and_passing_rays_miss_and_no_rays_give_none():
    near, _, hits = intersect_sphere(torch.tensor([[-3.0, 1.0, 0.0], [-3.0, 2.0, 0.0]]), X.expand(2, 3))
    assert not hits.any()
    assert near.tolist() == [0.0, 0.0]
    assert intersect_sphere(torch.zeros(0, 3), torch.zeros(0, 3))[2].shape == (0,)


def test_points_of_entry_and_exit_lie_on_the_sphere():
    generator = torch.Generator().manual_seed(0)
    origins = 3 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator, dtype=torch.float64), dim=1)
    near, far, hits = intersect_sphere(origins, directions)
    outside = hits & (origins.norm(dim=1) > 1)
    assert outside.sum() > 10
    for distance in (near, far):
        points = origins + distance[:, None] * directions
        assert torch.allclose(points[outside].norm(dim=1), torch.ones(1, dtype=torch.float64))


def test_a_diagonal_ray_crosses_the_unit_box_from_corner_to_corner():
    direction = torch.full((1, 3), 1 / math.sqrt(3))
    near, far, hits = intersect_box(-direction * math.sqrt(3), direction, torch.zeros(3), torch.ones(3))
    assert hits.item()
    assert (near.item(), far.item()) == pytest.approx((math.sqrt(3), 2 * math.sqrt(3)), rel=1e-5)


def test_a_ray_along_an_axis_meets_the_box_only_beside_its_faces():
    origins = torch.tensor([[-1.0, 0.5, 0.5], [-1.0, 1.5, 0.5], [0.5, 0.5, 0.5], [2.0, 0.5, 0.5]])
    near, far, hits = intersect_box(origins, X.expand(4, 3), torch.zeros(3), torch.ones(3))
    assert hits.tolist() == [True, False, True, False]
    assert near.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert far.tolist() == [2.0, 0.0, 0.5, 0.0]
