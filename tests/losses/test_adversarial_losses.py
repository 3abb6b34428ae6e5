"""Losses of codes and discriminators: published values, least values, and what flows back."""

import math

import pytest
import torch

from shapewright.geometry.cube_sphere import cube_sphere
from shapewright.geometry.icosphere import icosphere
from shapewright.losses.code_prior import code_prior_loss
from shapewright.losses.domain_confusion import (
    confusion_loss,
    directions,
    reverse_gradient,
    standardised,
    uniform_cross_entropy,
)
from shapewright.losses.inflation import inflation_loss
from shapewright.losses.view_prior import detection_loss, fooling_loss

DOUBLE = torch.float64


@pytest.mark.parametrize(("bins", "squares", "entropy"), [(24, 0.976459, 3.205535), (72, 0.992880, 4.286362)])
def test_confusion_has_the_published_values(bins, squares, entropy):
    logits = torch.zeros(3, bins, dtype=DOUBLE)
    logits[:, 1] = 1
    found = logits.log_softmax(1)
    assert float(confusion_loss(found)) == pytest.approx(squares, abs=1e-6)
    assert float(uniform_cross_entropy(found)) == pytest.approx(entropy, abs=1e-6)


@pytest.mark.parametrize("bins", [1, 2, 24])
def test_confusion_is_least_where_every_domain_is_as_likely(bins):
    uniform = torch.full((4, bins), 7.0, dtype=DOUBLE).log_softmax(1)
    assert float(confusion_loss(uniform)) == pytest.approx(0, abs=1e-20)
    assert float(uniform_cross_entropy(uniform)) == pytest.approx(math.log(bins))
    if bins > 1:
        other = torch.randn(4, bins, dtype=DOUBLE, generator=torch.Generator().manual_seed(0)).log_softmax(1)
        assert confusion_loss(other) > 0.1
        assert uniform_cross_entropy(other) > math.log(bins)


def test_a_reversed_gradient_is_turned_round_and_weighed():
    values = torch.randn(5, dtype=DOUBLE, requires_grad=True)
    reversed_values = reverse_gradient(values, 0.3)
    assert torch.equal(reversed_values, values)
    (grad,) = torch.autograd.grad((reversed_values.square()).sum(), values)
    assert torch.allclose(grad, -0.3 * 2 * values.detach())


def test_standardised_codes_have_no_mean_and_a_scale_that_no_gradient_flows_through():
    generator = torch.Generator().manual_seed(0)
    codes = (5 + torch.randn(8, 6, dtype=DOUBLE, generator=generator)).requires_grad_()
    found = standardised(codes)
    assert found.mean(0).abs().max() < 1e-12
    scale = codes.square().mean().sqrt().detach()
    weights = torch.randn(8, 6, dtype=DOUBLE, generator=generator)
    (grad,) = torch.autograd.grad((weights * found).sum(), codes)
    assert torch.allclose(grad, (weights - weights.mean(0)) / scale)
    assert torch.allclose(standardised(10 * codes), found)
    assert bool(standardised(torch.zeros(3, 2)).isfinite().all())


def test_codes_that_hardly_differ_are_not_blown_up():
    codes = 1 + 1e-6 * torch.randn(8, 6, dtype=DOUBLE)
    assert standardised(codes).abs().max() < 1e-5


def test_directions_do_not_change_when_codes_shrink_and_give_no_gradient_towards_it():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(8, 6, dtype=DOUBLE, generator=generator).requires_grad_()
    found = directions(codes)
    assert torch.allclose(found.norm(dim=1), torch.full((8,), 6**0.5, dtype=DOUBLE))
    assert torch.allclose(directions(0.01 * codes + 3), found)
    weights = torch.randn(8, 6, dtype=DOUBLE, generator=generator)
    (grad,) = torch.autograd.grad((weights * found).sum(), codes)
    assert grad.sum(0).abs().max() < 1e-12  # moving all codes
    assert abs(float((grad * codes.detach()).sum())) < 1e-12  # shrinking all codes
    assert bool(directions(torch.ones(3, 2)).isfinite().all())


def test_the_code_prior_is_the_mean_square_length():
    assert float(code_prior_loss(torch.tensor([[3.0, 4.0], [0.0, 1.0]]))) == 13


def test_detection_is_the_sum_of_two_cross_entropies():
    real, fake = torch.randn(2, 7, dtype=DOUBLE)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    expected = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    assert float(detection_loss(real, fake)) == pytest.approx(float(expected))
    assert float(fooling_loss(fake)) == pytest.approx(float(bce(fake, torch.ones_like(fake))))
    nothing = torch.zeros(3, 1, 4, 4)
    assert float(detection_loss(nothing, nothing)) == pytest.approx(2 * math.log(2))
    assert bool(detection_loss(torch.tensor([-1e4]), torch.tensor([1e4])).isfinite())


@pytest.mark.parametrize("template", [icosphere, cube_sphere])
def test_inflation_grows_a_sphere_evenly(template):
    mesh = template()
    vertices = (0.5 * mesh.vertices).expand(2, -1, -1).clone().requires_grad_()
    value = inflation_loss(vertices, mesh.faces)
    assert value.item() == pytest.approx(3 * mesh.num_faces * (1 + 1e-5) ** 0.5, rel=1e-5)
    (grad,) = torch.autograd.grad(value, vertices)
    push = -grad * len(vertices)
    degree = torch.bincount(mesh.faces.flatten())[:, None]
    along = (push * mesh.vertices).sum(-1) / degree[:, 0]
    # Each face pushes with a force of one along its normal, which is nearly the radius here.
    assert along.min() > 0.95
    assert along.max() < 1
    grown = vertices.detach() - 0.01 * grad
    assert bool((grown.norm(dim=-1) > 0.5).all())


def test_faces_wound_inwards_shrink_and_flat_ones_do_nothing():
    mesh = icosphere(1)
    vertices = mesh.vertices[None].clone().requires_grad_()
    out = torch.autograd.grad(inflation_loss(vertices, mesh.faces), vertices)[0]
    inwards = torch.autograd.grad(inflation_loss(vertices, mesh.faces.flip(1)), vertices)[0]
    assert torch.allclose(out, -inwards, atol=1e-5)
    line = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]], requires_grad=True)
    value = inflation_loss(line, torch.tensor([[0, 1, 2]]))
    value.backward()
    assert bool(value.isfinite())
    assert not bool(line.grad.any())
    assert float(inflation_loss(torch.zeros(0, 3, 3), torch.zeros(0, 3, dtype=torch.int64))) == 0
