import numpy as np
import pytest
import torch

from shapewright.data.normalisation import normalise_by_masks
from shapewright.errors import UserError
from shapewright.geometry.voxels import (
    box_around,
    carve_box,
    dilate,
    hull_silhouette,
    resize_mask,
    silhouette_agreement,
    surface_samples,
    surface_voxels,
    visual_hull,
    voxel_centers,
)
from tests.data.ball import CENTER, RADIUS, ball_cameras, masks_of


def local_ball(count):
    """Return cameras and masks of the ball in a space where it has radius 0.7 around the origin."""
    cameras = ball_cameras(count, width=120, height=90)
    masks = [torch.from_numpy(mask) for mask in masks_of(cameras)]
    return cameras.transformed(RADIUS / 0.7, CENTER), masks


def test_voxel_centres_lie_in_the_middle_of_their_voxels_x_slowest():
    centers = voxel_centers(torch.zeros(3), torch.tensor([1.0, 2.0, 4.0]), 2)
    assert centers[0].tolist() == [0.25, 0.5, 1.0]
    assert centers[1].tolist() == [0.25, 0.5, 3.0]
    assert centers[4].tolist() == [0.75, 0.5, 1.0]


@pytest.mark.parametrize("count", [6, 11, 49])
def test_the_hull_of_a_ball_holds_the_ball_and_little_more(count):
    cameras, masks = local_ball(count)
    hull = visual_hull(cameras, masks, resolution=48, dilate_px=0)
    radius = voxel_centers(-torch.ones(3), torch.ones(3), 48).norm(dim=1).reshape(48, 48, 48)
    assert hull[radius < 0.7 - 0.06].all()
    assert hull.sum() < {6: 1.25, 11: 1.15, 49: 1.05}[count] * (radius < 0.7).sum()


def test_masks_grown_by_pixels_and_nearness_to_the_origin_bound_the_hull():
    cameras, masks = local_ball(11)
    hull = visual_hull(cameras, masks, resolution=32, dilate_px=0)
    grown = visual_hull(cameras, masks, resolution=32, dilate_px=3)
    assert (grown | ~hull).all()
    assert grown.sum() > 1.1 * hull.sum()
    assert visual_hull(cameras, masks, resolution=32, inside_radius=0.3).sum() < hull.sum() / 5


def test_voxels_that_too_few_views_see_are_left_out():
    cameras, masks = local_ball(6)
    shifted = cameras.transformed(1.0, torch.tensor([50.0, 0.0, 0.0]).double())
    assert visual_hull(shifted, masks, resolution=16).sum() == 0


def test_carving_forgives_one_wrong_mask_in_twenty_where_the_strict_hull_does_not():
    cameras, masks = local_ball(20)
    masks[3] = torch.zeros_like(masks[3])
    corner = torch.ones(3, dtype=torch.float64)
    assert visual_hull(cameras, masks, resolution=32).sum() == 0
    assert carve_box(cameras, masks, -corner, corner, 32).float().mean() == pytest.approx(0.18, abs=0.03)


@pytest.mark.parametrize("count", [6, 11, 49])
def test_normalising_a_ball_puts_its_hull_just_inside_the_unit_sphere(count):
    cameras = ball_cameras(count, width=120, height=90)
    report = normalise_by_masks(cameras, masks_of(cameras), [str(i) for i in range(count)])
    voxel = 2 * RADIUS / 64
    assert np.allclose(report.translation, CENTER, atol=4 * voxel if count < 49 else voxel)
    slack = {6: 0.25, 11: 0.15, 49: 0.06}[count]
    assert RADIUS - voxel <= report.scale / 1.05 <= RADIUS * (1 + slack)
    assert min(report.agreement) > 0.85
    assert any("median IoU" in line for line in report.lines())


def test_normalising_is_independent_of_the_worlds_units_and_place():
    cameras = ball_cameras(11)
    masks, names = masks_of(cameras), [str(i) for i in range(11)]
    here = normalise_by_masks(cameras, masks, names)
    far = torch.tensor([1e4, -2e4, 3e3], dtype=torch.float64)
    there = normalise_by_masks(cameras.transformed(1e-3, far), masks, names)
    assert there.scale == pytest.approx(1e3 * here.scale, rel=1e-3)
    assert np.allclose(there.translation, (here.translation - far.numpy()) * 1e3, atol=there.scale * 0.02)


def test_an_empty_hull_names_the_views_that_disagree():
    cameras = ball_cameras(6)
    corners = [np.zeros((60, 80), dtype=bool) for _ in range(6)]
    for view, mask in enumerate(corners):
        mask[(slice(9), slice(-9, None))[view % 2], (slice(9), slice(-9, None))[view // 2 % 2]] = True
    with pytest.raises(UserError, match=r"no voxel lies inside 90 % of the masks; .*lowest: view 0") as caught:
        normalise_by_masks(cameras, corners, [f"view {i}" for i in range(6)])
    assert "order" in caught.value.hint


def test_a_hull_that_reaches_the_box_between_the_cameras_is_an_error():
    cameras = ball_cameras(11, fov_deg=90.0)
    inverted = [~mask for mask in masks_of(cameras)]
    with pytest.raises(UserError, match="reaches the border of the box") as caught:
        normalise_by_masks(cameras, inverted, [str(i) for i in range(11)])
    assert "inverted" in caught.value.hint


def test_the_box_around_a_voxel_is_one_voxel_wider():
    hull = torch.zeros(8, 8, 8, dtype=torch.bool)
    hull[2, 3, 4] = True
    lower, upper = box_around(hull, torch.zeros(3), torch.full((3,), 8.0))
    assert lower.tolist() == [1.0, 2.0, 3.0]
    assert upper.tolist() == [4.0, 5.0, 6.0]


def test_the_surface_of_a_cube_is_its_shell():
    hull = torch.zeros(7, 7, 7, dtype=torch.bool)
    hull[1:6, 1:6, 1:6] = True
    assert len(surface_voxels(hull)) == 5**3 - 3**3
    assert len(surface_voxels(torch.ones(4, 4, 4, dtype=torch.bool))) == 4**3 - 2**3
    assert len(surface_voxels(torch.zeros(4, 4, 4, dtype=torch.bool))) == 0
    samples, spacing = surface_samples(hull, torch.zeros(3), torch.full((3,), 7.0))
    assert (samples.min().item(), samples.max().item()) == pytest.approx((1 + 1 / 6, 6 - 1 / 6), abs=1e-5)
    assert spacing == pytest.approx(1 / 3)


def test_the_outline_of_a_ball_of_voxels_is_its_mask_without_holes():
    cameras, masks = local_ball(8)
    corner = torch.ones(3, dtype=torch.float64)
    ball = (voxel_centers(-corner, corner, 64).norm(dim=1) < 0.7).reshape(64, 64, 64)
    scores = silhouette_agreement(ball, -corner, corner, cameras, masks)
    assert min(scores) > 0.93
    samples, spacing = surface_samples(ball, -corner, corner)
    outline = hull_silhouette(samples, spacing, cameras, 0)
    rows, columns = outline.nonzero().double().mean(0)
    assert outline[int(rows), int(columns)]
    wrong = silhouette_agreement(ball, -corner, corner, cameras, [torch.roll(mask, 20, 1) for mask in masks])
    assert max(wrong) < 0.8


def test_a_hull_behind_the_cameras_has_no_outline():
    cameras, masks = local_ball(4)
    corner = torch.ones(3, dtype=torch.float64)
    away = cameras.transformed(1.0, torch.tensor([100.0, 0.0, 0.0]).double())
    hull = torch.ones(4, 4, 4, dtype=torch.bool)
    assert max(silhouette_agreement(hull, -corner, corner, away, masks)) < 0.1


def test_dilation_grows_by_a_square():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[4, 4] = True
    assert dilate(mask, 0) is mask
    grown = dilate(mask, 2)
    assert grown.sum() == 25
    assert grown[2:7, 2:7].all()


def test_masks_are_resized_by_their_pixel_centres():
    mask = torch.tensor([[True, False], [False, True]])
    assert resize_mask(mask, 4, 2).tolist() == [[True, True, False, False], [False, False, True, True]]
    assert torch.equal(resize_mask(resize_mask(mask, 6, 4), 2, 2), mask)
