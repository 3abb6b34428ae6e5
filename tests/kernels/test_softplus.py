"""Fused softplus: on every back end the function and the derivatives of the definition."""

import pytest
import torch

from shapewright.kernels import ops


def exact(x, beta):
    return torch.logaddexp(beta * x.double(), torch.zeros((), dtype=torch.float64, device=x.device)) / beta


@pytest.mark.parametrize("beta", [1.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
def test_value_and_derivative_are_those_of_the_definition(device, generator, dtype, tolerance, beta):
    x = torch.randn(3001, dtype=dtype, generator=generator).to(device).requires_grad_()
    y = ops.softplus(x, beta)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert (y - exact(x, beta)).abs().max() <= tolerance * 4
    assert (slope - torch.sigmoid(beta * x.double())).abs().max() <= tolerance * 4


def test_all_derivatives_up_to_the_third_are_right(device, generator):
    x = torch.randn(7, dtype=torch.float64, generator=generator).to(device).requires_grad_()

    def slope(t):
        return torch.autograd.grad(ops.softplus(t, 3.0).sum(), t, create_graph=True)[0]

    assert torch.autograd.gradcheck(lambda t: ops.softplus(t, 3.0), x)
    assert torch.autograd.gradgradcheck(lambda t: ops.softplus(t, 3.0), x)
    assert torch.autograd.gradgradcheck(slope, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extreme_numbers_stay_finite_and_nan_stays_nan(device, dtype):
    x = torch.tensor([-1e30, -1e3, -0.0, 0.0, 1e3, 1e30, torch.nan], dtype=dtype, device=device)
    y = ops.softplus(x, 100.0).cpu()
    assert y[:2].abs().max() < 1e-30
    assert torch.allclose(y[2:4], torch.full((2,), 0.6931471805599453 / 100, dtype=dtype))
    assert torch.equal(y[4:6], x[4:6].cpu())
    assert y[6].isnan()


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0, 2), (2, 3, 4)])
def test_any_shape_and_stride_is_taken(device, shape):
    x = torch.linspace(-1, 1, 24, device=device)[: torch.Size(shape).numel()].view(shape)
    assert ops.softplus(x, 2.0).shape == x.shape
    flipped = x.transpose(0, -1)
    assert torch.allclose(ops.softplus(flipped, 2.0), exact(flipped, 2.0).float())


def test_half_precision_runs_in_torch(device):
    x = torch.linspace(-2, 2, 9, dtype=torch.bfloat16, device=device)
    assert ops.softplus(x).dtype == torch.bfloat16


def test_a_sharpness_that_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="beta"):
        ops.softplus(torch.zeros(1), 0.0)
