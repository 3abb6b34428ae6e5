"""Colours are compared at several sizes."""

import pytest
import torch

from shapewright.losses.colour_pyramid import colour_pyramid_loss


def test_equal_pictures_cost_nothing_and_a_constant_difference_itself():
    picture = torch.rand(2, 3, 16, 16)
    assert float(colour_pyramid_loss(picture, picture)) == 0
    assert float(colour_pyramid_loss(picture + 0.25, picture)) == pytest.approx(0.25, abs=1e-6)


def test_noise_counts_less_at_coarse_sizes():
    noise = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    fine, all_sizes = (float(colour_pyramid_loss(noise, torch.zeros_like(noise), levels)) for levels in (1, 5))
    assert all_sizes < 0.5 * fine


def test_halving_stops_at_one_pixel():
    drawn = torch.ones(1, 3, 2, 2)
    assert float(colour_pyramid_loss(drawn, torch.zeros_like(drawn), 5)) == 1
    with pytest.raises(ValueError, match="pictures"):
        colour_pyramid_loss(drawn, torch.zeros(1, 3, 4, 4))
