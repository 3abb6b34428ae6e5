"""Compositing of packed samples: on every back end the product along each ray, with its derivatives."""

import pytest
import torch

from shapewright.kernels import ray_ops

DOUBLE = torch.float64
COUNTS = torch.tensor([0, 3, 1, 0, 0, 12, 40, 0])
STARTS = torch.cat([torch.zeros(1, dtype=torch.int64), COUNTS.cumsum(0)])


def random_alpha(generator, dtype=DOUBLE):
    return (0.9 * torch.rand(int(STARTS[-1]), dtype=DOUBLE, generator=generator)).to(dtype)


def naive(alpha, starts):
    """Composite in a loop."""
    weights, rest = torch.zeros_like(alpha), torch.ones(len(starts) - 1, dtype=alpha.dtype)
    for ray in range(len(starts) - 1):
        left = 1.0
        for i in range(int(starts[ray]), int(starts[ray + 1])):
            weights[i] = left * alpha[i]
            left *= 1 - alpha[i]
        rest[ray] = left
    return weights, rest


@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 1e-6)])
def test_weights_are_those_of_a_loop_and_leave_the_rest(device, generator, dtype, tolerance):
    alpha = random_alpha(generator, dtype)
    expected_weights, expected_rest = naive(alpha.double(), STARTS)
    weights, rest = ray_ops.composite(alpha.to(device), STARTS.to(device))
    assert weights.dtype == rest.dtype == dtype
    torch.testing.assert_close(weights.cpu().double(), expected_weights, rtol=0, atol=tolerance)
    torch.testing.assert_close(rest.cpu().double(), expected_rest, rtol=0, atol=tolerance)
    ones = torch.ones(len(alpha), 1, dtype=dtype, device=device)
    opacity = ray_ops.ray_sum(weights, ones, STARTS.to(device))[:, 0]
    torch.testing.assert_close(opacity + rest, torch.ones_like(rest), rtol=0, atol=tolerance)
    assert torch.equal(rest.cpu()[COUNTS == 0], torch.ones(int((COUNTS == 0).sum()), dtype=dtype))


def test_derivatives_are_those_of_finite_differences(device, generator):
    starts = STARTS.to(device)
    alpha = random_alpha(generator).to(device).requires_grad_()
    values = torch.randn(len(alpha), 3, dtype=DOUBLE, generator=generator).to(device).requires_grad_()
    assert torch.autograd.gradcheck(lambda a: ray_ops.composite(a, starts), alpha)
    assert torch.autograd.gradcheck(lambda a: ray_ops.composite_thickness(3 * a, starts), alpha)
    assert torch.autograd.gradcheck(lambda w, v: ray_ops.ray_sum(w, v, starts), (alpha, values))
    assert torch.autograd.gradgradcheck(lambda a: ray_ops.composite(a, starts), alpha, fast_mode=True)
    assert torch.autograd.gradgradcheck(lambda w, v: ray_ops.ray_sum(w, v, starts), (alpha, values), fast_mode=True)


def test_thin_samples_keep_their_digits_in_float32(device):
    starts = torch.tensor([0, 4], device=device)
    thickness = torch.full((4,), 1e-9, device=device)
    weights, rest = ray_ops.composite_thickness(thickness, starts)
    torch.testing.assert_close(weights, thickness, rtol=1e-6, atol=0)
    assert float(rest) == 1.0


def test_a_constant_density_gives_the_exponential_law(device):
    starts = torch.tensor([0, 1000], device=device)
    thickness = torch.full((1000,), 0.002, dtype=DOUBLE, device=device)
    weights, rest = ray_ops.composite_thickness(thickness, starts)
    passed = torch.exp(-0.002 * torch.arange(1001, dtype=DOUBLE, device=device))
    torch.testing.assert_close(weights, passed[:-1] - passed[1:], rtol=1e-10, atol=0)
    torch.testing.assert_close(rest[0], passed[-1], rtol=1e-10, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_an_opaque_sample_hides_all_behind_it(device, dtype):
    alpha = torch.tensor([0.25, 1.0, 0.5, 0.5], dtype=dtype, device=device).requires_grad_()
    weights, rest = ray_ops.composite(alpha, torch.tensor([0, 3, 4], device=device))
    expected = torch.tensor([0.25, 0.75, 0.0, 0.5], dtype=dtype, device=device)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(rest, torch.tensor([0.0, 0.5], dtype=dtype, device=device), rtol=0, atol=1e-6)
    (gradient,) = torch.autograd.grad(weights[2] + weights[3] + rest.sum(), alpha)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_bad_sample_spoils_its_own_ray_only(device, generator, bad):
    alpha = random_alpha(generator).to(device)
    spoilt = alpha.clone()
    spoilt[5] = bad
    spoilt.requires_grad_()
    starts = STARTS.to(device)
    ray = int((starts <= 5).sum()) - 1
    others = torch.arange(len(alpha), device=device)
    others = (others < starts[ray]) | (others >= starts[ray + 1])
    weights, rest = ray_ops.composite(spoilt, starts)
    right_weights, right_rest = ray_ops.composite(alpha, starts)
    torch.testing.assert_close(weights[others], right_weights[others])
    assert not weights[5:].cpu()[: int(starts[ray + 1]) - 5].isfinite().any()
    assert not rest[ray].isfinite()
    assert torch.equal(rest.isfinite().cpu(), torch.arange(len(rest)) != ray)
    torch.testing.assert_close(rest[rest.isfinite()], right_rest[rest.isfinite()])
    (gradient,) = torch.autograd.grad(weights[others].sum(), spoilt)
    assert gradient[others].isfinite().all()


def test_no_sample_and_no_ray(device):
    nothing = torch.zeros(0, device=device).requires_grad_()
    weights, rest = ray_ops.composite(nothing, torch.zeros(4, dtype=torch.int64, device=device))
    assert len(weights) == 0
    assert rest.tolist() == [1.0, 1.0, 1.0]
    (gradient,) = torch.autograd.grad(rest.sum() + weights.sum(), nothing)
    assert len(gradient) == 0
    weights, rest = ray_ops.composite(nothing, torch.zeros(1, dtype=torch.int64, device=device))
    assert len(rest) == 0
    sums = ray_ops.ray_sum(nothing, torch.zeros(0, 3, device=device), torch.zeros(4, dtype=torch.int64, device=device))
    assert torch.equal(sums, torch.zeros(3, 3, device=device))


def test_a_million_samples(device, generator):
    counts = torch.randint(0, 200, (10_000,), generator=generator)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]).to(device)
    alpha = (0.1 * torch.rand(int(starts[-1]), generator=generator)).to(device)
    assert len(alpha) > 900_000
    weights, rest = ray_ops.composite(alpha, starts)
    total = ray_ops.ray_sum(weights.double(), torch.ones(len(alpha), 1, dtype=DOUBLE, device=device), starts)
    assert (total[:, 0] + rest.double() - 1).abs().max() < 2e-6


def test_the_number_of_threads_changes_no_bit(generator):
    counts = torch.randint(0, 100, (1000,), generator=generator)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    alpha = (0.5 * torch.rand(int(starts[-1]), generator=generator)).requires_grad_()
    values = torch.randn(len(alpha), 3, generator=generator)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            weights, rest = ray_ops.composite(alpha, starts)
            sums = ray_ops.ray_sum(weights, values, starts)
            (gradient,) = torch.autograd.grad(sums.square().sum() + rest.sum(), alpha)
            results.append((weights, rest, sums, gradient))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(result, results[0], strict=True))


def test_shapes_that_do_not_fit_are_refused():
    starts = torch.tensor([0, 4])
    with pytest.raises(ValueError, match="alpha"):
        ray_ops.composite(torch.zeros(4, 1), starts)
    with pytest.raises(ValueError, match="weights"):
        ray_ops.ray_sum(torch.zeros(3), torch.zeros(4, 3), starts)
