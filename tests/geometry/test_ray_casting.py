import math

import pytest
import torch

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.ray_casting import RAYS_PER_CALL, RayCaster, fibonacci_directions

# Two parallel triangles, at heights 0 and 1.
STACK = Mesh(
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 1], [0, 1, 1]]),
    torch.tensor([[0, 1, 2], [3, 4, 5]]),
)


def test_a_ray_meets_the_nearest_triangle_first_from_either_side():
    origins = torch.tensor([[0.2, 0.2, 3.0], [0.2, 0.2, -2.0], [0.2, 0.2, 0.5], [0.9, 0.9, 3.0]])
    directions = torch.tensor([[0.0, 0, -1], [0, 0, 1], [0, 0, -1], [0, 0, -1]])
    caster = RayCaster(STACK)
    face, distance = caster.first_hit(origins, directions)
    assert face.tolist() == [1, 0, 0, -1]
    assert distance.tolist() == pytest.approx([2.0, 2.0, 0.5, math.inf])
    assert caster.any_hit(origins, directions).tolist() == [True, True, True, False]


def test_distances_are_told_in_lengths_of_the_direction():
    face, distance = RayCaster(STACK).first_hit(torch.tensor([[0.2, 0.2, 3.0]]), torch.tensor([[0.0, 0, -4]]))
    assert distance.item() == pytest.approx(0.5)
    assert face.dtype == torch.int64


def test_a_mesh_without_triangles_is_never_hit():
    caster = RayCaster(Mesh(torch.zeros(3, 3), torch.empty(0, 3, dtype=torch.int64)))
    origins, directions = torch.zeros(2, 3), torch.ones(2, 3)
    assert not caster.any_hit(origins, directions).any()
    assert caster.first_hit(origins, directions)[0].tolist() == [-1, -1]


def test_no_ray_and_more_rays_than_are_cast_at_once_are_answered():
    caster = RayCaster(STACK)
    assert caster.any_hit(torch.zeros(0, 3), torch.zeros(0, 3)).shape == (0,)
    count = RAYS_PER_CALL + 1
    origins = torch.tensor([0.2, 0.2, 3.0]).repeat(count, 1)
    origins[-1] = 9
    face, _ = caster.first_hit(origins, torch.tensor([0.0, 0, -1]).repeat(count, 1))
    assert bool((face[:-1] == 1).all())
    assert face[-1] == -1


def test_fibonacci_directions_are_spread_evenly():
    directions = fibonacci_directions(100)
    assert torch.allclose(directions.norm(dim=1), torch.ones(100, dtype=torch.float64))
    assert directions.mean(0).norm() < 0.02
    closest = (directions @ directions.T - 2 * torch.eye(100)).amax(1)
    assert closest.max() < math.cos(math.radians(15))
    azimuth = math.pi * (3 - math.sqrt(5))
    first = torch.tensor([math.sqrt(1 - 0.99**2) * math.cos(azimuth), -0.99])
    assert torch.allclose(directions[0, :2], first.double(), atol=1e-7)
