import math

import pytest
import torch

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.free_space import (
    FREE,
    HIDDEN,
    SURFACE,
    DepthView,
    PartialScan,
    observe,
    sample_free_space,
    scan_from_cloud,
    view_from_points,
)

RADIUS = 0.5
EYE = torch.tensor([0.0, 0.0, 3.0])


def camera(pixels=64, fov_deg=40.0):
    return Cameras.from_look_at(
        EYE[None], torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]), fov_deg, torch.tensor([[pixels, pixels]])
    )


def sphere_view(pixels=64):
    """Return the exact depths of a sphere."""
    view = camera(pixels)
    origins, directions = view.image_rays(0)
    middle = -(origins * directions).sum(-1)
    square = middle**2 - (origins**2).sum(-1) + RADIUS**2
    lengths = torch.where(square > 0, middle - square.clamp(min=0).sqrt(), math.inf)
    return DepthView(view, lengths.reshape(pixels, pixels))


def sphere_scan(pixels=64):
    view = sphere_view(pixels)
    lengths = view.lengths.reshape(-1)
    origins, directions = view.rays()
    hit = lengths.isfinite()
    points = (origins + torch.where(hit, lengths, 0.0)[:, None] * directions)[hit]
    return PartialScan(points, points / RADIUS, EYE, view)


def test_points_before_on_and_behind_the_surface_are_told_apart():
    points = torch.tensor([[0.0, 0.0, 0.6], [0.0, 0.0, 0.502], [0.0, 0.0, 0.3], [0.9, 0.0, 0.0], [0.0, 0.0, -0.8]])
    state, distance = observe(sphere_view(), points)
    assert state.tolist() == [FREE, SURFACE, HIDDEN, FREE, HIDDEN]
    assert torch.allclose(distance[:2], torch.tensor([0.1, 0.002]), atol=2e-3)
    assert distance[2:].tolist() == pytest.approx([-0.1, 0.1, -0.1])


def test_what_the_picture_does_not_hold_is_hidden():
    beyond = torch.tensor([[0.0, 0.0, 3.5], [2.5, 0.0, 0.0]])
    state, distance = observe(sphere_view(), beyond)
    assert state.tolist() == [HIDDEN, HIDDEN]
    assert (distance < 0).all()


def test_pixels_without_measurement_are_hidden_all_along():
    view = sphere_view()
    blind = DepthView(view.camera, torch.zeros_like(view.lengths))
    state, _ = observe(blind, torch.tensor([[0.0, 0.0, 0.9], [0.0, 0.0, 0.0]]))
    assert state.tolist() == [HIDDEN, HIDDEN]


def test_between_pixels_a_plane_is_exact():
    view = camera(pixels=16)
    origins, directions = view.image_rays(0)
    normal = torch.nn.functional.normalize(torch.tensor([0.5, 0.2, 1.0]), dim=0)
    lengths = -(origins @ normal) / (directions @ normal)
    generator = torch.Generator().manual_seed(0)
    uv = 1.0 + 14.0 * torch.rand(200, 2, generator=generator)
    start, along = view.rays(0, uv)
    exact = -(start @ normal) / (along @ normal)
    points = start + (exact - 0.03)[:, None] * along
    _, distance = observe(DepthView(view, lengths.reshape(16, 16)), points)
    assert torch.allclose(distance, torch.full((200,), 0.03), atol=1e-5)


def test_free_rays_stay_in_the_unit_sphere_and_end_at_the_surface():
    rays = sphere_scan().free_rays
    ends = rays.origins + rays.lengths[:, None] * rays.directions
    assert torch.allclose(rays.origins.norm(dim=-1), torch.ones(len(ends)), atol=1e-4)
    assert torch.allclose(ends[rays.hits].norm(dim=-1), torch.tensor(RADIUS), atol=1e-4)
    assert torch.allclose(ends[~rays.hits].norm(dim=-1), torch.tensor(1.0), atol=1e-4)
    assert rays.hits.any()
    assert not rays.hits.all()


@pytest.mark.parametrize("with_view", [True, False])
def test_samples_of_free_space_are_free(with_view):
    scan = sphere_scan()
    if not with_view:
        scan = PartialScan(scan.points, scan.normals, EYE)
    points = sample_free_space(scan, 5000, torch.Generator().manual_seed(0), margin=0.02)
    assert points.shape == (5000, 3)
    assert (points.norm(dim=-1) <= 1 + 1e-5).all()
    assert (points.norm(dim=-1) > RADIUS).all()
    towards = points[(points[:, :2].norm(dim=-1) < 0.1) & (points[:, 2] > 0)]
    assert towards.norm(dim=-1).min() > RADIUS + 0.019
    assert bool((points[:, 2] < -0.3).any()) == with_view
    assert (observe(scan.view or sphere_view(), points)[0] == FREE).float().mean() > 0.98


def test_a_scan_without_camera_knows_no_free_space():
    scan = PartialScan(torch.eye(3), torch.eye(3))
    assert len(scan.free_rays.lengths) == 0
    with pytest.raises(ValueError, match="no free ray"):
        sample_free_space(scan, 10, torch.Generator())
    with pytest.raises(ValueError, match="camera of the scan is unknown"):
        _ = scan.hit_distances


def test_a_moved_scan_sees_the_same():
    scan = sphere_scan()
    shift = torch.tensor([0.2, -0.1, 0.05])
    moved = scan.transformed(2.0, shift)
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) - 0.5
    state, distance = observe(scan.view, points)
    moved_state, moved_distance = observe(moved.view, 2.0 * points + shift, margin=0.02, truncation=0.2)
    assert torch.equal(moved_state, state)
    assert torch.allclose(moved_distance, 2.0 * distance, atol=1e-4)
    assert torch.allclose(moved.hit_distances, 2.0 * scan.hit_distances, atol=1e-4)


def test_a_cloud_seen_from_one_place_hides_what_lies_behind():
    scan = sphere_scan(pixels=128)
    view = view_from_points(scan.points, EYE)
    state, _ = observe(view, torch.cat([0.9 * scan.points, 1.2 * scan.points[scan.points[:, 2] > 0.3]]), margin=0.02)
    behind, before = state[: scan.num_points], state[scan.num_points :]
    assert (behind == FREE).float().mean() < 0.02
    assert (before == FREE).float().mean() > 0.8
    assert scan_from_cloud(scan.points, scan.normals).view is None
    assert scan_from_cloud(scan.points, scan.normals, EYE).view is not None


def test_wrong_views_are_refused():
    view = camera(8)
    with pytest.raises(ValueError, match="must have shape"):
        DepthView(view, torch.zeros(4, 4))
    with pytest.raises(ValueError, match="negative or NaN"):
        DepthView(view, torch.full((8, 8), math.nan))
    with pytest.raises(ValueError, match="scale must be positive"):
        sphere_scan(8).transformed(0.0, torch.zeros(3))
