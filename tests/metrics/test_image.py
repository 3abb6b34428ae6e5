import math

import pytest
import torch

from shapewright.metrics.image import (
    constant_color_psnr,
    depth_error,
    object_box,
    psnr,
    silhouette_iou,
    ssim,
    view_metrics,
)

GENERATOR = torch.Generator().manual_seed(0)
PHOTO = torch.rand(40, 50, 3, generator=GENERATOR)
INSIDE = torch.zeros(40, 50, dtype=torch.bool)
INSIDE[8:30, 10:45] = True


def test_a_constant_error_gives_its_logarithm():
    assert psnr(PHOTO * 0 + 0.4, PHOTO * 0 + 0.5) == pytest.approx(20.0)


def test_equal_pictures_give_100_db():
    assert psnr(PHOTO, PHOTO) == 100.0


def test_only_the_chosen_pixels_count():
    wrong = torch.where(INSIDE[..., None], PHOTO + 0.01, PHOTO + 0.9)
    assert psnr(wrong, PHOTO, INSIDE) == pytest.approx(40.0, abs=1e-3)


def test_no_pixel_or_another_shape_is_refused():
    with pytest.raises(ValueError, match="at least one pixel"):
        psnr(PHOTO, PHOTO, torch.zeros_like(INSIDE))
    with pytest.raises(ValueError, match="prediction must have shape"):
        psnr(PHOTO[1:], PHOTO)


def test_the_best_constant_beats_other_constants():
    best = constant_color_psnr(PHOTO, INSIDE)
    assert best == pytest.approx(-10 * math.log10(1 / 12), abs=0.3)
    assert best > psnr(torch.full_like(PHOTO, 0.4), PHOTO, INSIDE)


def test_ssim_is_one_for_equal_and_symmetric_and_falls_with_noise():
    noisy = (PHOTO + 0.1 * torch.randn(PHOTO.shape, generator=GENERATOR)).clamp(0, 1)
    assert ssim(PHOTO, PHOTO) == pytest.approx(1.0)
    assert ssim(PHOTO, noisy) == pytest.approx(ssim(noisy, PHOTO))
    assert 0.5 < ssim(noisy, PHOTO) < 0.99


def test_ssim_of_flat_pictures_is_the_luminance_term():
    low, high, constant = 0.3, 0.6, 0.01**2
    expected = (2 * low * high + constant) / (low**2 + high**2 + constant)
    assert ssim(torch.full((20, 20, 3), low), torch.full((20, 20, 3), high)) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_a_tiny_picture_is_refused():
    with pytest.raises(ValueError, match="at least 11 pixels"):
        ssim(PHOTO[:10], PHOTO[:10])


def test_iou_of_two_halves_is_a_third():
    left, middle = torch.zeros(4, 8, dtype=torch.bool), torch.zeros(4, 8, dtype=torch.bool)
    left[:, :4] = True
    middle[:, 2:6] = True
    assert silhouette_iou(left, middle) == pytest.approx(1 / 3)
    assert silhouette_iou(~left & left, middle & ~middle) == 1.0


def test_the_box_is_tight_but_never_below_the_window():
    assert object_box(INSIDE) == (slice(8, 30), slice(10, 45))
    dot = torch.zeros(40, 50, dtype=torch.bool)
    dot[39, 0] = True
    assert object_box(dot) == (slice(29, 40), slice(0, 11))
    with pytest.raises(ValueError, match="empty mask"):
        object_box(torch.zeros_like(dot))


def test_a_perfect_render_is_perfect_in_every_metric():
    alpha = INSIDE.float()
    metrics = view_metrics(PHOTO * alpha[..., None], alpha, PHOTO, alpha)
    assert all(value == 100.0 for name, value in metrics.items() if name.startswith("psnr"))
    assert metrics["ssim"] == metrics["ssim_full"] == pytest.approx(1.0)
    assert metrics["silhouette_iou"] == 1.0


def test_missed_pixels_count_on_black_and_on_white_but_not_as_hit():
    alpha = INSIDE.float()
    opacity = alpha.clone()
    opacity[8:19] = 0  # the upper half is missed
    photo = torch.full_like(PHOTO, 0.25)
    metrics = view_metrics(photo * opacity[..., None], opacity, photo, alpha)
    assert metrics["psnr_hit"] == 100.0
    assert metrics["psnr_misses_black"] == pytest.approx(-10 * math.log10(0.25**2 / 2))
    assert metrics["psnr_misses_white"] == pytest.approx(-10 * math.log10(0.75**2 / 2))
    share = 11 * 35 / (40 * 50)
    assert metrics["psnr_full_white"] == pytest.approx(-10 * math.log10(0.75**2 * share))
    assert metrics["silhouette_iou"] == pytest.approx(0.5)


def test_an_empty_render_has_no_hit():
    alpha = INSIDE.float()
    metrics = view_metrics(PHOTO * 0, alpha * 0, PHOTO, alpha)
    assert metrics["psnr_hit"] == 0.0
    assert metrics["silhouette_iou"] == 0.0


def test_partly_covered_pixels_are_laid_on_the_same_background():
    alpha = INSIDE.float() * 0.75
    metrics = view_metrics(PHOTO * alpha[..., None], alpha, PHOTO, alpha)
    assert metrics["psnr_misses_white"] == pytest.approx(100.0)


def test_depth_error_is_relative_and_leaves_misses_out():
    truth = torch.full((10, 10), 2.0)
    depth = truth + 0.04
    depth[:2] = math.nan
    errors = depth_error(depth, truth, torch.ones(10, 10, dtype=torch.bool), object_size=4.0)
    assert errors["depth_error_median"] == pytest.approx(0.01, rel=1e-4)
    assert errors["depth_error_p90"] == pytest.approx(0.01, rel=1e-4)
    assert errors["depth_hit_share"] == pytest.approx(0.8)


def test_depth_without_a_hit_is_infinitely_wrong_and_without_truth_refused():
    nothing = torch.full((4, 4), math.nan)
    known = torch.ones(4, 4, dtype=torch.bool)
    assert depth_error(nothing, torch.ones(4, 4), known, 1.0)["depth_error_mean"] == math.inf
    with pytest.raises(ValueError, match="at least one known"):
        depth_error(nothing, nothing, ~known, 1.0)
