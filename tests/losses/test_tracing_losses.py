"""The losses of traced rays against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from shapewright.losses.eikonal import eikonal_loss
from shapewright.losses.photometric import photometric_loss
from shapewright.losses.silhouette import silhouette_loss


def test_eikonal_loss_is_the_mean_squared_deviation_from_length_1():
    gradients = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert eikonal_loss(gradients).item() == pytest.approx(2.0)


def test_eikonal_loss_is_zero_for_a_distance():
    points = torch.randn(20, 3, generator=torch.Generator().manual_seed(0))
    assert eikonal_loss(torch.nn.functional.normalize(points, dim=-1)).item() == pytest.approx(0.0, abs=1e-12)


def test_silhouette_loss_is_the_papers_sum():
    sdf = torch.tensor([0.02, -0.01, 0.3, 0.0])
    is_object = torch.tensor([True, False, False, True])
    is_surface = torch.tensor([False, False, False, True])
    expected = math.log(1 + math.exp(1.0)) + math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-15.0))
    assert silhouette_loss(sdf, is_object, is_surface, 50.0).item() == pytest.approx(expected / (50.0 * 4))


def test_silhouette_loss_tends_to_the_violation_of_the_mask():
    sdf = torch.tensor([0.2, -0.3, -0.4, 0.5], dtype=torch.float64)
    is_object = torch.tensor([True, True, False, False])
    nowhere = torch.zeros(4, dtype=torch.bool)
    loss = silhouette_loss(sdf, is_object, nowhere, 1e4)
    assert loss.item() == pytest.approx((0.2 + 0.4) / 4, abs=1e-5)


def test_silhouette_loss_moves_the_surface_the_right_way():
    sdf = torch.tensor([0.1, -0.1], requires_grad=True)
    silhouette_loss(sdf, torch.tensor([True, False]), torch.tensor([False, False]), 50.0).backward()
    assert sdf.grad is not None
    assert sdf.grad[0] > 0 > sdf.grad[1]


def test_photometric_loss_divides_by_all_rays():
    colors, targets = torch.zeros(2, 3), torch.tensor([[0.1, 0.2, 0.3], [0.0, 0.0, -0.6]])
    assert photometric_loss(colors, targets, 4).item() == pytest.approx(1.2 / 4)


def test_losses_of_nothing_are_zero():
    nothing = torch.zeros(0, 3)
    no_ray = torch.zeros(0, dtype=torch.bool)
    assert photometric_loss(nothing, nothing, 0).item() == 0.0
    assert silhouette_loss(torch.zeros(0), no_ray, no_ray, 50.0).item() == 0.0
    every = torch.ones(3, dtype=torch.bool)
    assert silhouette_loss(torch.ones(3), every, every, 50.0).item() == 0.0
