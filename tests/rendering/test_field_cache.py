"""The cached field: what it marks, what it costs, what it skips."""

from __future__ import annotations

import pytest
import torch

from shapewright.rendering.field_cache import FieldCache
from shapewright.rendering.sphere_tracing import Rays, TracingConfig, trace
from shapewright.rendering.traced_rays import CountedField
from tests.rendering.test_sphere_tracing import random_rays


def two_balls(points: torch.Tensor) -> torch.Tensor:
    offset = torch.tensor([0.5, 0.0, 0.0])
    return torch.minimum((points - offset).norm(dim=-1), (points + offset).norm(dim=-1)) - 0.2


def filled(resolution: int) -> tuple[FieldCache, int]:
    cache, field = FieldCache(resolution, 1.0), CountedField(two_balls, 100_000)
    cache.refresh(field)
    return cache, field.num_evaluations


def axis_rays(offsets: list[float]) -> Rays:
    count = len(offsets)
    origins = torch.tensor([[-2.0, y, 0.0] for y in offsets])
    directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(count, 3)
    return Rays(origins, directions, torch.full((count,), 1.0), torch.full((count,), 3.0))


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_marked_cells_hold_the_surface_and_its_neighbours(resolution):
    cache, _ = filled(resolution)
    directions = torch.nn.functional.normalize(torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    surface = 0.2 * directions + torch.tensor([0.5, 0.0, 0.0])
    index = ((surface + 1) / cache.cell).long()
    for shift in (-1, 0, 1):
        x, y, z = (index + shift).clamp(0, resolution - 1).unbind(-1)
        assert bool(cache.occupied[x, y, z].all())


def test_values_near_the_surface_are_exact_and_a_refresh_is_cheap():
    cache, num_evaluations = filled(64)
    assert num_evaluations < 64**3 / 8
    centers = (torch.arange(64) + 0.5) * cache.cell - 1
    grid = torch.stack(torch.meshgrid(centers, centers, centers, indexing="ij"), dim=-1)
    truth = two_balls(grid.view(-1, 3)).view(64, 64, 64)
    near = truth.abs() < 0.02
    torch.testing.assert_close(cache.values[near], truth[near])
    assert (cache.values - truth).abs().max() < 2 * 3**0.5 / 16


def test_a_new_cache_skips_nothing():
    cache = FieldCache(16, 1.0)
    rays = axis_rays([0.0])
    distances, moved = cache.path(rays).skip(torch.tensor([0]), torch.tensor([1.7]))
    assert cache.is_outdated
    assert distances.item() == pytest.approx(1.7)
    assert not bool(moved)


def test_path_jumps_to_the_next_surface():
    cache, _ = filled(64)
    path = cache.path(axis_rays([0.0, 0.6]))
    rows = torch.tensor([0, 0, 1])
    # Before both balls; inside the gap between them; a ray that passes above both.
    distances, moved = path.skip(rows, torch.tensor([1.0, 2.0, 1.0]))
    assert moved.tolist() == [True, True, True]
    assert 1.3 - 5 * cache.cell < distances[0] < 1.3
    assert 2.3 - 5 * cache.cell < distances[1] < 2.3
    assert distances[2] == torch.inf


@pytest.mark.parametrize(("moved_by", "is_outdated"), [(0.0, False), (0.5, False), (1.3, True)])
def test_a_moved_surface_makes_the_cache_outdated(moved_by, is_outdated):
    cache, _ = filled(64)
    rays = random_rays(3000)
    moved = lambda points: two_balls(points) - moved_by * cache.cell  # noqa: E731
    traced = trace(moved, rays, TracingConfig(tracer="exact"))
    points = rays.points(traced.distances)
    cache.compare(points, moved(points))
    assert cache.is_outdated == is_outdated
    cache.refresh(CountedField(moved, 100_000))
    assert not cache.is_outdated


def test_state_goes_from_cache_to_cache():
    cache, _ = filled(32)
    copy = FieldCache(32, 1.0)
    copy.load_state_dict(cache.state_dict())
    assert torch.equal(copy.values, cache.values)
    assert torch.equal(copy.occupied, cache.occupied)
    assert not copy.is_outdated


def test_closest_finds_the_least_value_on_the_stretch():
    cache, _ = filled(64)
    rays = axis_rays([0.25])
    assert abs(abs(cache.closest(rays).item() - 2.0) - 0.5) <= cache.cell
    second = Rays(rays.origins, rays.directions, torch.tensor([2.0]), rays.far)
    assert abs(cache.closest(second).item() - 2.5) <= cache.cell


@pytest.mark.parametrize("resolution", [0, 8, 48, 100])
def test_other_resolutions_are_refused(resolution):
    with pytest.raises(ValueError, match="power of two"):
        FieldCache(resolution, 1.0)
