import math

import pytest
import torch

from shapewright.geometry.point_cloud import estimate_normals
from shapewright.geometry.point_orientation import cloud_winding_number, orient_normals, orient_towards
from tests.geometry.test_point_cloud import sphere


def torus(count, seed=0, tube=0.35):
    """Return points and outward normals of a torus around the z axis."""
    generator = torch.Generator().manual_seed(seed)
    u, v = torch.rand(2, count, generator=generator) * 2 * math.pi
    normals = torch.stack((u.cos() * v.cos(), u.sin() * v.cos(), v.sin()), dim=1)
    middle = torch.stack((u.cos(), u.sin(), torch.zeros_like(u)), dim=1)
    return middle + tube * normals, normals


def box(count, seed=0):
    """Return points and outward normals of the cube [-1, 1]^3."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 3, generator=generator) * 2 - 1
    axis = torch.randint(3, (count,), generator=generator)
    sign = torch.randint(2, (count,), generator=generator).float() * 2 - 1
    normals = torch.zeros(count, 3)
    normals[torch.arange(count), axis] = sign
    points[torch.arange(count), axis] = sign
    return points, normals


def shuffled_signs(normals, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return normals * (torch.randint(2, (len(normals), 1), generator=generator) * 2 - 1)


@pytest.mark.parametrize("shape", [torus, box])
def test_random_signs_become_outward(shape):
    points, normals = shape(6000)
    found = orient_normals(points, shuffled_signs(normals))
    assert ((found * normals).sum(1) > 0).float().mean() > 0.99


@pytest.mark.parametrize("shape", [torus, box])
def test_estimated_normals_become_outward(shape):
    points, normals = shape(6000)
    found = orient_normals(points, estimate_normals(points)[0])
    assert ((found * normals).sum(1) > 0).float().mean() > 0.995


def test_noise_does_not_turn_normals():
    points, normals = torus(8000)
    noisy = points + 0.01 * torch.randn(points.shape, generator=torch.Generator().manual_seed(1))
    found = orient_normals(noisy, estimate_normals(noisy, 32)[0])
    assert ((found * normals).sum(1) > 0).float().mean() > 0.99


def test_separate_parts_are_each_turned_outward():
    parts = [sphere(2000), sphere(2000, seed=1) * 0.5]
    points = torch.cat([parts[0], parts[1] + torch.tensor([4.0, 0.0, 0.0])])
    normals = torch.cat([parts[0], parts[1] * 2.0])
    found = orient_normals(points, shuffled_signs(normals))
    assert ((found * normals).sum(1) > 0).all()


def test_the_result_does_not_depend_on_the_signs_given():
    points, normals = torus(2000)
    first = orient_normals(points, shuffled_signs(normals, 1))
    torch.testing.assert_close(first, orient_normals(points, shuffled_signs(normals, 2)))


def test_normals_turn_to_the_viewpoint():
    points = sphere(100)
    torch.testing.assert_close(orient_towards(points, points, torch.zeros(3)), -points)
    torch.testing.assert_close(orient_towards(points, -points, 3.0 * points), points)


def test_winding_numbers_are_one_inside_and_zero_outside():
    points = sphere(5000)
    queries = torch.cat([sphere(100, 5, 0.8), sphere(100, 6, 1.2), sphere(100, 7, 5.0)])
    winding = cloud_winding_number(points, points, queries)
    assert (winding[:100] - 1).abs().max() < 0.1
    assert winding[100:].abs().max() < 0.1


def test_winding_numbers_add_up_the_dipoles():
    points, normals = torus(300)
    areas = torch.rand(300, generator=torch.Generator().manual_seed(0)) * 0.01
    queries = sphere(20, 1, 3.0)
    offset = points.double()[None] - queries.double()[:, None]
    dipoles = (offset * normals.double()).sum(2) / offset.norm(dim=2).pow(3) * areas.double() / (4 * math.pi)
    winding = cloud_winding_number(points, normals, queries, areas)
    torch.testing.assert_close(winding.double(), dipoles.sum(1), atol=1e-4, rtol=0)
