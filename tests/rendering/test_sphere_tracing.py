"""Tracing against spheres and tori, whose intersections are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from shapewright.fields.config import SdfConfig
from shapewright.fields.encodings.frequency import FrequencyEncoding
from shapewright.fields.sdf_network import SdfNetwork
from shapewright.rendering import fast_tracer
from shapewright.rendering.field_cache import FieldCache
from shapewright.rendering.sphere_tracing import (
    Rays,
    TraceResult,
    TracingConfig,
    closest_approach,
    differentiable_distance,
    trace,
)
from shapewright.rendering.traced_rays import Brackets, CountedField, find_roots

RADIUS = 0.5
RING, TUBE = 0.5, 0.2
EXACT, FAST = TracingConfig(tracer="exact"), TracingConfig(tracer="fast")
SignedDistance = Callable[[torch.Tensor], torch.Tensor]


def sphere(points: torch.Tensor) -> torch.Tensor:
    return points.norm(dim=-1) - RADIUS


def torus(points: torch.Tensor) -> torch.Tensor:
    return torch.stack([points[..., :2].norm(dim=-1) - RING, points[..., 2]], dim=-1).norm(dim=-1) - TUBE


def random_rays(count: int) -> Rays:
    generator = torch.Generator().manual_seed(0)
    origins = 3.0 * torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    targets = 1.8 * torch.rand(count, 3, generator=generator) - 0.9
    directions = torch.nn.functional.normalize(targets - origins, dim=-1)
    return Rays.through_sphere(origins, directions, 1.0)


def filled_cache(sdf: SignedDistance, resolution: int = 64) -> FieldCache:
    cache = FieldCache(resolution, 1.0)
    cache.refresh(CountedField(sdf, 100_000))
    return cache


def torus_crossings(rays: Rays) -> list[float]:
    """Return the first intersection of each ray, by the quartic of the torus; NaN where there is none."""
    first = []
    for o, d in zip(rays.origins.double().numpy(), rays.directions.double().numpy(), strict=True):
        inner = np.polynomial.Polynomial([o @ o + RING**2 - TUBE**2, 2 * (o @ d), d @ d])
        across = np.polynomial.Polynomial([o[:2] @ o[:2], 2 * (o[:2] @ d[:2]), d[:2] @ d[:2]])
        roots = (inner**2 - 4 * RING**2 * across).roots()
        real = sorted(root.real for root in roots if abs(root.imag) < 1e-6 and root.real > 0)
        first.append(real[0] if real else math.nan)
    return first


TRACERS = {
    "exact": lambda sdf, rays: trace(sdf, rays, EXACT),
    "fast": lambda sdf, rays: trace(sdf, rays, FAST, filled_cache(sdf)),
    "fast without cache": lambda sdf, rays: trace(sdf, rays, FAST),
}


@pytest.fixture(params=TRACERS)
def tracer(request) -> Callable[[SignedDistance, Rays], TraceResult]:
    return TRACERS[request.param]


@pytest.mark.parametrize("sdf", [sphere, torus])
def test_hits_lie_on_the_surface(tracer, sdf):
    traced = tracer(sdf, random_rays(4000))
    points = traced.rays.points(traced.distances)[traced.hit]
    assert 0.2 < traced.hit.float().mean() < 0.5
    assert sdf(points).abs().max() <= 5e-5


def test_sphere_silhouette_and_distance_are_exact(tracer):
    rays = random_rays(4000)
    traced = tracer(sphere, rays)
    b = (rays.origins * rays.directions).sum(-1)
    offset = (rays.origins - b[:, None] * rays.directions).norm(dim=-1)
    clear = (offset - RADIUS).abs() > 1e-4
    assert torch.equal(traced.hit[clear], (offset < RADIUS)[clear])
    expected = -b - (RADIUS**2 - offset**2).clamp(min=0).sqrt()
    steep = traced.hit & (offset < 0.9 * RADIUS)
    torch.testing.assert_close(traced.distances[steep], expected[steep], atol=2e-4, rtol=0)


def test_torus_silhouette_and_distance_are_exact(tracer):
    rays = random_rays(600)
    traced = tracer(torus, rays)
    expected = torch.tensor(torus_crossings(rays), dtype=torch.float32)
    assert (traced.hit == expected.isfinite()).float().mean() >= 0.998
    both = traced.hit & expected.isfinite()
    difference = (traced.distances - expected)[both].abs()
    assert difference.median() < 1e-4
    # Only grazing rays may lie further off along the ray while they are near the surface.
    assert difference.quantile(0.99) < 2e-3


@pytest.mark.parametrize("sdf", [sphere, torus])
def test_fast_and_exact_tracer_agree(sdf):
    rays = random_rays(10_000)
    exact = trace(sdf, rays, EXACT)
    fast = trace(sdf, rays, FAST, filled_cache(sdf))
    assert (exact.hit == fast.hit).float().mean() >= 0.999
    assert fast.num_evaluations * 5 < exact.num_evaluations


@pytest.mark.parametrize("has_cache", [True, False])
def test_shrinking_the_list_less_often_changes_nothing(monkeypatch, has_cache):
    rays = random_rays(2000)
    cache = filled_cache(torus) if has_cache else None
    often = trace(torus, rays, FAST, cache)
    monkeypatch.setitem(fast_tracer.ROUNDS, "cpu", 4)
    seldom = trace(torus, rays, FAST, cache)
    assert torch.equal(often.hit, seldom.hit)
    assert torch.equal(often.distances[often.hit], seldom.distances[often.hit])
    torch.testing.assert_close(often.closest, seldom.closest, equal_nan=True)


def test_few_evaluations_find_the_surface_of_a_network():
    generator = torch.Generator().manual_seed(0)
    config = SdfConfig(width=64, num_layers=8, feature_size=1, skip_layer=4, radius=0.56)
    network = SdfNetwork(config, FrequencyEncoding(6), generator)
    # Of 2048 rays two thirds meet the bounding sphere, a fifth the surface.
    origins = 3.0 * torch.nn.functional.normalize(torch.randn(2048, 3, generator=generator), dim=-1)
    across = torch.linalg.cross(origins, torch.randn(2048, 3, generator=generator))
    offsets = 1.29 * torch.rand(2048, 1, generator=generator).sqrt() * torch.nn.functional.normalize(across, dim=-1)
    directions = torch.nn.functional.normalize(offsets - origins, dim=-1)
    rays = Rays.through_sphere(origins, directions, 1.0)
    with torch.no_grad():
        exact, fast = trace(network.sdf, rays, EXACT), trace(network.sdf, rays, FAST, filled_cache(network.sdf))
    assert torch.equal(exact.hit, fast.hit)
    assert 300 < int(fast.hit.sum()) < 600
    assert fast.num_evaluations <= 4500
    assert fast.num_evaluations * 5 < exact.num_evaluations


def test_evaluations_are_counted():
    asked = 0

    def counting(points: torch.Tensor) -> torch.Tensor:
        nonlocal asked
        asked += len(points)
        return sphere(points)

    for config in (EXACT, FAST):
        asked = 0
        assert trace(counting, random_rays(500), config).num_evaluations == asked > 0


def test_a_surface_moved_by_a_cell_is_still_found():
    rays = random_rays(4000)
    outdated = filled_cache(lambda points: points.norm(dim=-1) - RADIUS + 1 / 32)
    exact, stale = trace(sphere, rays, EXACT), trace(sphere, rays, FAST, outdated)
    assert (exact.hit == stale.hit).float().mean() >= 0.999
    assert (exact.distances - stale.distances)[exact.hit & stale.hit].abs().quantile(0.99) < 2e-3


def test_rays_that_land_inside_are_marched_again():
    rays = random_rays(4000)
    # The cache knows a smaller ball: behind its marked cells, rays land inside the true one.
    outdated = filled_cache(lambda points: points.norm(dim=-1) - 0.5 * RADIUS)
    stale, exact = trace(sphere, rays, FAST, outdated), trace(sphere, rays, EXACT)
    both = stale.hit & exact.hit
    assert 0.1 < both.float().mean() < exact.hit.float().mean()
    torch.testing.assert_close(stale.distances[both], exact.distances[both], atol=5e-3, rtol=0)


def test_surfaces_thinner_than_a_cell_are_found():
    def plate(points: torch.Tensor) -> torch.Tensor:
        outside = points.abs() - torch.tensor([0.4, 0.4, 0.004])
        return outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0)

    rays = random_rays(4000)
    exact, fast = trace(plate, rays, EXACT), trace(plate, rays, FAST, filled_cache(plate))
    assert exact.hit.float().mean() > 0.05
    assert (exact.hit == fast.hit).float().mean() >= 0.995


def test_overestimated_distances_still_give_the_first_crossing():
    rays = random_rays(3000)
    steep = lambda points: 1.25 * sphere(points)  # noqa: E731
    fast, exact = trace(steep, rays, FAST, filled_cache(steep)), trace(sphere, rays, EXACT)
    both = fast.hit & exact.hit
    assert (fast.hit == exact.hit).float().mean() >= 0.998
    assert (fast.distances - exact.distances)[both].abs().quantile(0.99) < 5e-3


def test_rays_from_inside_and_past_the_sphere(tracer):
    directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3)
    origins = torch.tensor([[0.1, 0.0, 0.0], [-3.0, 2.0, 0.0], [3.0, 0.0, 0.0]])
    traced = tracer(sphere, Rays.through_sphere(origins, directions, 1.0))
    assert traced.hit.tolist() == [True, False, False]
    assert traced.distances[0] == 0.0


def test_no_rays(tracer):
    rays = random_rays(4)[torch.zeros(4, dtype=torch.bool)]
    traced = tracer(sphere, rays)
    assert traced.hit.shape == (0,)
    assert closest_approach(sphere, traced, ~traced.hit, FAST).shape == (0,)


@pytest.mark.parametrize("has_cache", [True, False])
@pytest.mark.parametrize("config", [EXACT, FAST], ids=["exact", "fast"])
def test_closest_approach_is_about_a_sample_from_the_true_one(config, has_cache):
    rays = random_rays(3000)
    cache = filled_cache(sphere) if has_cache and config is FAST else None
    traced = trace(sphere, rays, config, cache)
    distances = closest_approach(sphere, traced, ~traced.hit, config, cache, torch.Generator().manual_seed(0))
    truth = -(rays.origins * rays.directions).sum(-1)
    missed = ~traced.hit
    error = (distances - truth)[missed].abs()
    spacing = 2.0 / 64 if cache is not None else 2.0 / EXACT.num_samples
    assert error.median() <= spacing
    assert error.quantile(0.97) <= 2 * spacing  # Random samples leave gaps; far from the surface the cache is coarse.
    excess = sphere(rays.points(distances)) - sphere(rays.points(truth))
    assert excess[missed].max() <= 0.025
    assert torch.equal(distances[traced.hit], traced.distances[traced.hit])


@pytest.mark.parametrize("config", [EXACT, FAST], ids=["exact", "fast"])
def test_closest_approach_of_hits_lies_deep_inside(config):
    rays = random_rays(2000)
    cache = filled_cache(sphere) if config is FAST else None
    traced = trace(sphere, rays, config, cache)
    distances = closest_approach(sphere, traced, traced.hit, config, cache, torch.Generator().manual_seed(0))
    deep = sphere(rays.points(distances))
    truth = (rays.origins - (rays.origins * rays.directions).sum(-1)[:, None] * rays.directions).norm(dim=-1) - RADIUS
    sampled = traced.hit & traced.closest.isnan()
    assert (deep - truth)[sampled].abs().max() <= 0.04


def test_differentiable_distance_has_the_derivatives_of_the_intersection():
    rays = random_rays(500)
    rays = rays[trace(sphere, rays, EXACT).hit]
    centers = rays.origins.double().requires_grad_()
    radius = torch.tensor(RADIUS, dtype=torch.float64, requires_grad=True)
    directions = torch.nn.functional.normalize(rays.directions.double(), dim=-1)
    b = (centers * directions).sum(-1).detach()
    t0 = -b - (b**2 - centers.detach().square().sum(-1) + RADIUS**2).sqrt()
    sdf = (centers + t0[:, None] * directions).norm(dim=-1) - radius
    normals = torch.nn.functional.normalize((centers + t0[:, None] * directions).detach(), dim=-1)
    t = differentiable_distance(t0, sdf, normals, directions)
    torch.testing.assert_close(t, t0)
    slope = (normals * directions).sum(-1)
    steep = slope < -0.05
    for ray in steep.nonzero().squeeze(-1)[:20].tolist():
        (by_radius,) = torch.autograd.grad(t[ray], radius, retain_graph=True)
        torch.testing.assert_close(by_radius, 1.0 / slope[ray])
        point = centers[ray] + t[ray] * directions[ray]
        jacobian = torch.stack([torch.autograd.grad(x, centers, retain_graph=True)[0][ray] for x in point])
        expected = torch.eye(3) - directions[ray, :, None] * normals[ray] / slope[ray]
        torch.testing.assert_close(jacobian, expected.double())


def test_grazing_rays_have_a_bounded_derivative():
    sdf = torch.zeros(2, requires_grad=True)
    gradients, directions = torch.tensor([[0.0, 1.0, 0.0]] * 2), torch.tensor([[1.0, 1e-9, 0.0], [1.0, -1e-9, 0.0]])
    differentiable_distance(torch.ones(2), sdf, gradients, directions).sum().backward()
    torch.testing.assert_close(sdf.grad, torch.tensor([-100.0, 100.0]))


def test_root_search_converges_and_halves_flat_brackets():
    rays = Rays(torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.zeros(2), torch.ones(2))
    rows, low, high = torch.arange(2), torch.tensor([0.4, 0.4]), torch.tensor([0.6, 0.6])
    field = CountedField(lambda points: (RADIUS - points[:, 0]) ** 3, 10)
    brackets = Brackets(rows, low, torch.full((2,), 1e-14), high, torch.tensor([-1e-14, -1e-3]))
    roots = find_roots(field, rays, brackets, rounds=8, threshold=0.0)
    assert roots[0].item() == pytest.approx(RADIUS, abs=1e-6)
    assert 0.4 <= roots[1] <= 0.6
