"""The kernels of the volume renderer: equal to plain torch in float64, and what marching promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shapewright.kernels.cpu import compositing
from shapewright.kernels.cpu.adam import adam_step
from shapewright.kernels.cpu.marching import march_band, march_lattice, place_samples
from shapewright.kernels.reference import adam as reference_adam
from shapewright.kernels.reference import compositing as reference_compositing
from shapewright.kernels.reference import marching, marching_band, volume_rendering

COUNTS = torch.tensor([0, 3, 5, 0, 0, 1, 20, 7, 0])
STARTS = torch.cat([torch.zeros(1, dtype=torch.int64), COUNTS.cumsum(0)])
RAYS, SAMPLES = len(COUNTS), int(COUNTS.sum())
OWNER = torch.repeat_interleave(torch.arange(RAYS), COUNTS)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def unit_rows(count, generator):
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)


def double(*tensors):
    return [tensor.double().requires_grad_() for tensor in tensors]


def arrays(*tensors):
    return [tensor.numpy() for tensor in tensors]


def close(ours, theirs, tolerance=2e-5):
    torch.testing.assert_close(ours.double(), theirs.detach(), atol=tolerance, rtol=tolerance)


# Opacities.


@pytest.mark.parametrize("sharpness", [1.0, 40.0, 700.0])
def test_opacities_and_their_derivatives_are_those_of_autograd(generator, sharpness):
    sdf = torch.randn(SAMPLES, generator=generator) * 4.0 / sharpness
    normals = torch.randn(3, SAMPLES, generator=generator)
    directions, steps = unit_rows(RAYS, generator), torch.rand(SAMPLES, generator=generator) * 2.0 / sharpness
    alpha, by_sdf, by_slope = (torch.empty(SAMPLES) for _ in range(3))
    compositing.neus_alpha(
        *arrays(sdf, normals, directions, STARTS, steps), np.float32(sharpness), *arrays(alpha, by_sdf, by_slope),
        0, RAYS,
    )  # fmt: skip
    value, slope = double(sdf, (normals.T * directions[OWNER]).sum(1))
    expected = volume_rendering.neus_alpha(value, slope, steps.double(), sharpness)
    expected_by_sdf, expected_by_slope = torch.autograd.grad(expected.sum(), (value, slope))
    close(alpha, expected)
    close(by_sdf / sharpness, expected_by_sdf / sharpness)
    close(by_slope, expected_by_slope)
    assert (alpha[slope > 0] == 0).all()


def test_opacity_is_that_of_the_logistic_distribution_across_a_plane():
    """Two samples that meet cut the light by S(-2) / S(2) together."""
    one = torch.ones(1, dtype=torch.float64)
    first, second = (volume_rendering.neus_alpha(sdf * one, -one, 2.0 * one, 1.0) for sdf in (1.0, -1.0))
    left = (1.0 - first) * (1.0 - second)
    expected = torch.sigmoid(-2.0 * one) / torch.sigmoid(2.0 * one)
    torch.testing.assert_close(left, expected, atol=1e-4, rtol=0)


# Compositing.


def test_compositing_is_a_product_along_the_ray_with_the_gradient_of_autograd(generator):
    alpha = torch.rand(SAMPLES, generator=generator)
    alpha[5], alpha[10] = 1.0, 0.0
    weights, before, rest = torch.empty(SAMPLES), torch.empty(SAMPLES), torch.empty(RAYS)
    compositing.composite(*arrays(alpha, STARTS, weights, before, rest), 0, RAYS)
    (leaf,) = double(alpha)
    expected_weights, expected_rest = _composite_by_loops(leaf)
    close(weights, expected_weights)
    close(rest, expected_rest)
    grad_weights, grad_rest = torch.randn(SAMPLES, generator=generator), torch.randn(RAYS, generator=generator)
    grad_alpha = torch.empty(SAMPLES)
    compositing.composite_backward(*arrays(alpha, STARTS, before, grad_weights, grad_rest, grad_alpha), 0, RAYS)
    total = (expected_weights * grad_weights).sum() + (expected_rest * grad_rest).sum()
    close(grad_alpha, torch.autograd.grad(total, leaf)[0])


def _composite_by_loops(alpha):
    weights, rest = [], []
    for ray in range(RAYS):
        light = torch.ones((), dtype=alpha.dtype)
        for i in range(int(STARTS[ray]), int(STARTS[ray + 1])):
            weights.append(light * alpha[i])
            light = light * (1.0 - alpha[i])
        rest.append(light)
    return torch.stack(weights), torch.stack(rest)


def test_heavy_samples_are_numbered_in_order():
    weights, slots = torch.tensor([0.5, 0.1, 0.0, 0.2, 0.11]), torch.empty(5, dtype=torch.int32)
    assert compositing.keep_heavy(weights.numpy(), np.float32(0.1), slots.numpy()) == 3
    assert slots.tolist() == [0, -1, -1, 1, 2]


def test_seeing_is_opacity_weight_and_choice_in_one(generator):
    sdf, normals = 0.1 * torch.randn(SAMPLES, generator=generator), torch.randn(3, SAMPLES, generator=generator)
    directions, steps = unit_rows(RAYS, generator), torch.rand(SAMPLES, generator=generator)
    columns, sharpness, least = arrays(sdf, normals, directions, STARTS, steps), np.float32(20.0), np.float32(1e-3)
    first, second = ([*torch.empty(5, SAMPLES), torch.empty(RAYS)] for _ in range(2))
    slots = torch.empty(2, SAMPLES, dtype=torch.int32)
    alpha, by_sdf, by_slope, weights, before, rest = arrays(*first)
    compositing.neus_alpha(*columns, sharpness, alpha, by_sdf, by_slope, 0, RAYS)
    compositing.composite(alpha, STARTS.numpy(), weights, before, rest, 0, RAYS)
    count = compositing.keep_heavy(weights, least, slots[0].numpy())
    assert compositing.see(*columns, sharpness, least, *arrays(*second), slots[1].numpy()) == count
    assert 0 < count < SAMPLES
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert torch.equal(slots[0], slots[1])


def kept_slots(generator):
    """Return slots of a random half of the samples, and which those are."""
    kept = torch.rand(SAMPLES, generator=generator) < 0.5
    slots = torch.where(kept, kept.cumsum(0) - 1, -1).to(torch.int32)
    return slots, kept.nonzero().squeeze(1)


def test_sums_along_rays_are_those_of_the_kept_samples_with_the_gradient_of_autograd(generator):
    slots, kept = kept_slots(generator)
    weights, values = torch.rand(SAMPLES, generator=generator), torch.rand(4, len(kept), generator=generator)
    sums, grad_sums = torch.empty(RAYS, 4), torch.randn(RAYS, 4, generator=generator)
    compositing.ray_sum(*arrays(weights, values, slots, STARTS, sums), 0, RAYS)
    grad_weights, grad_values = torch.empty(SAMPLES), torch.empty_like(values)
    compositing.ray_sum_backward(*arrays(weights, values, slots, STARTS, grad_sums, grad_weights, grad_values), 0, RAYS)
    weight, value = double(weights, values)
    kept_starts = torch.searchsorted(kept, STARTS)
    expected = reference_compositing.ray_sum(weight[kept], value.T, kept_starts)
    close(sums, expected)
    by_weight, by_value = torch.autograd.grad((expected * grad_sums).sum(), (weight, value))
    close(grad_weights, by_weight)
    close(grad_values, by_value)


# Colours.


def test_the_radiance_input_and_its_gradient_are_those_of_autograd(generator):
    slots, kept = kept_slots(generator)
    outputs, normals = torch.randn(6, SAMPLES, generator=generator), torch.randn(3, SAMPLES, generator=generator)
    directions, inputs = unit_rows(RAYS, generator), torch.empty(5 + 12, len(kept))
    compositing.radiance_input(*arrays(outputs, normals, directions, STARTS, slots, inputs), 0, RAYS)
    output, normal = double(outputs, normals)
    expected = volume_rendering.radiance_input(
        output.T[kept, 1:], normal.T[kept], directions.double()[OWNER[kept]]
    ).T  # fmt: skip
    close(inputs, expected)
    grad_inputs = torch.randn(17, len(kept), generator=generator)
    grad_outputs, grad_normals = torch.ones_like(outputs), torch.ones_like(normals)
    compositing.radiance_input_backward(
        *arrays(grad_inputs, inputs, normals, slots, grad_outputs, grad_normals), 0, SAMPLES
    )
    by_output, by_normal = torch.autograd.grad((expected * grad_inputs).sum(), (output, normal))
    close(grad_outputs - 1.0, by_output)
    close(grad_normals - 1.0, by_normal)


def test_gradients_of_opacities_are_added_to_the_sdf_and_along_the_ray(generator):
    grad_alpha, by_sdf, by_slope = (torch.randn(SAMPLES, generator=generator) for _ in range(3))
    directions = unit_rows(RAYS, generator)
    grad_sdf, grad_normals = torch.ones(SAMPLES), torch.ones(3, SAMPLES)
    compositing.add_alpha_gradient(
        *arrays(grad_alpha, by_sdf, by_slope, directions, STARTS, grad_sdf, grad_normals), 0, RAYS
    )
    torch.testing.assert_close(grad_sdf, 1.0 + grad_alpha * by_sdf)
    torch.testing.assert_close(grad_normals, 1.0 + grad_alpha * by_slope * directions[OWNER].T)


def test_pixel_losses_and_their_gradients_are_those_of_autograd(generator):
    rays, views = 60, torch.randint(3, (60,), generator=generator)
    colors, background = torch.rand(rays, 3, generator=generator), torch.rand(rays, 3, generator=generator)
    target, rest = torch.rand(rays, 3, generator=generator) * 1.5, torch.rand(rays, generator=generator)
    coverage = torch.rand(rays, generator=generator).round(decimals=1)
    coverage[:40] = coverage[:40].round()
    rest[:2], rest[2:4] = 0.0, 1.0
    gains = 0.5 + torch.rand(3, 3, generator=generator)
    grad_colors, grad_rest, grad_gains = torch.empty(rays, 3), torch.empty(rays), torch.zeros(3, 3)
    photo_weight, mask_weight = 0.7, 0.3
    totals = compositing.pixel_loss(
        *arrays(colors, rest, background, target.clamp(max=1.0), coverage, gains, views),
        tuple(np.float32(v) for v in (0.03, 0.98, photo_weight, mask_weight)),
        *arrays(grad_colors, grad_rest, grad_gains),
    )
    photo = target.clamp(max=1.0).double()
    color, left, gain = double(colors, rest, gains)
    cover = coverage.double()[:, None]
    wanted = cover * photo + (1.0 - cover) * background
    prediction = gain[views] * color + left[:, None] * background
    clipped = (photo >= 0.98) & (cover == 1.0)
    photometric = volume_rendering.photometric_error(prediction, wanted, clipped, 0.03).sum()
    mask = volume_rendering.mask_error(left, coverage.double()).sum()
    assert clipped.any()
    assert totals == pytest.approx((photometric.item(), mask.item()), rel=1e-5)
    loss = photo_weight * photometric + mask_weight * mask
    for ours, theirs in zip(
        (grad_colors, grad_rest, grad_gains), torch.autograd.grad(loss, (color, left, gain)), strict=True
    ):
        close(ours, theirs, 1e-4)


# Marching.

SIZE, SIDE, RADIUS = 32, 1.5, 0.45
CELL = SIDE / SIZE


def band_of(sharpness):
    return marching_band.Band(
        sharpness, outer=4.0 / sharpness + 0.5 * CELL, inner=-6.0 / sharpness - 0.5 * CELL,
        base=max(1.5 / sharpness, 0.003), longest_skip=0.04, coarse_step=0.03, coarse_limit=CELL,
    )  # fmt: skip


BAND = band_of(300.0)


def ball_cache():
    """Return the SDF of a ball at the centre of the unit cube, in world units."""
    centers = (torch.arange(SIZE) + 0.5) / SIZE
    position = torch.stack(torch.meshgrid(centers, centers, centers, indexing="ij"), dim=-1)
    return (position - 0.5).norm(dim=-1) * SIDE - RADIUS


def rays_at_the_cube(count, generator):
    """Return rays from around the cube towards random points of it."""
    origins = 0.5 + 1.5 * unit_rows(count, generator)
    towards = torch.rand(count, 3, generator=generator) - origins
    directions = torch.nn.functional.normalize(towards, dim=1) / SIDE
    wanted = torch.rand(count, generator=generator) < 0.5
    return marching_band.BandRays(origins, directions, torch.rand(count, generator=generator), wanted)


def march(rays, grid, band=BAND, capacity=100_000):
    starts = torch.empty(len(rays.origins) + 1, dtype=torch.int64)
    depths, steps = torch.empty(capacity), torch.empty(capacity)
    settings = tuple(np.float32(value) for value in band)
    dropped = march_band(*arrays(*rays), grid.numpy(), settings, *arrays(starts, depths, steps))
    return marching_band.BandSamples(starts, depths[: starts[-1]], steps[: starts[-1]], dropped)


@pytest.mark.parametrize("sharpness", [40.0, 300.0, 700.0])
@pytest.mark.parametrize("capacity", [100_000, 500])
def test_marching_is_that_of_the_definition(generator, sharpness, capacity):
    rays, grid, band = rays_at_the_cube(400, generator), ball_cache(), band_of(sharpness)
    ours, theirs = march(rays, grid, band, capacity), marching_band.march_band(rays, grid, band, capacity)
    assert torch.equal(ours.starts, theirs.starts)
    assert ours.dropped == theirs.dropped
    assert bool(ours.dropped) == (capacity == 500)
    torch.testing.assert_close(ours.depths, theirs.depths, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.steps, theirs.steps, atol=1e-5, rtol=1e-4)


def owners(samples):
    return torch.repeat_interleave(torch.arange(len(samples.starts) - 1), samples.starts.diff())


def test_samples_lie_in_the_band_one_after_the_other(generator):
    rays, grid = rays_at_the_cube(400, generator), ball_cache()
    rays = rays._replace(wanted=torch.zeros(400, dtype=torch.bool))
    samples = march(rays, grid)
    owner = owners(samples)
    first = samples.depths - 0.5 * samples.steps
    position = rays.origins[owner] + first[:, None] * rays.directions[owner]
    sdf = (position - 0.5).norm(dim=1) * SIDE - RADIUS
    interpolation_error = 0.5 * CELL
    assert sdf.max() < BAND.outer + interpolation_error
    assert sdf.min() > BAND.inner - interpolation_error
    same = owner[1:] == owner[:-1]
    assert (first[1:] - (first + samples.steps)[:-1])[same].min() > -1e-5
    # The cache's slope, by which steps are divided, is 1 up to interpolation.
    assert samples.steps.min() >= BAND.base * 0.98
    assert samples.steps.max() <= 3.0 * BAND.base * 1.001


def test_every_ray_that_meets_the_ball_has_samples_around_its_first_surface(generator):
    rays = rays_at_the_cube(400, generator)
    samples = march(rays, ball_cache())
    direction = rays.directions * SIDE
    offset = (rays.origins - 0.5) * SIDE
    middle = -(offset * direction).sum(1)
    inside = RADIUS**2 - offset.square().sum(1) + middle**2
    hits = inside > 0.01
    entry = middle - inside.clamp(min=0.0).sqrt()
    owner = owners(samples)
    gap = torch.ones(400).scatter_reduce(0, owner, (samples.depths - entry[owner]).abs(), "amin")
    assert hits.sum() > 50
    assert gap[hits].max() < 0.01


def test_wanted_rays_get_coarse_samples_and_others_none():
    empty = torch.full((8, 8, 8), 0.02)
    origins = torch.tensor([[-0.5, 0.5, 0.5]]).expand(3, 3).contiguous()
    directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3).contiguous()
    wanted = torch.tensor([True, False, True])
    band = marching_band.Band(4000.0, 0.0015, -0.002, 0.003, 0.04, 0.1, 0.03)
    rays = marching_band.BandRays(origins, directions, torch.tensor([0.25, 0.25, 0.75]), wanted)
    samples = march(rays, empty, band)
    assert samples.starts.tolist() == [0, 10, 10, 20]
    torch.testing.assert_close(samples.depths[:10], 0.5 + 0.025 + 0.05 + 0.1 * torch.arange(10), atol=1e-5, rtol=0)
    assert (samples.steps == 0.1).all()
    assert march(rays, empty + 0.02, band).starts.tolist() == [0, 0, 0, 0]


def test_rays_that_miss_the_cube_are_empty_and_parallel_ones_are_not_lost():
    grid = ball_cache()
    origins = torch.tensor([[-1.0, 2.0, 0.5], [0.5, 0.5, -1.0], [-0.0, 0.5, 1.5], [1.5, 0.5, 0.5]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]) / SIDE
    rays = marching_band.BandRays(origins, directions, torch.zeros(4), torch.ones(4, dtype=torch.bool))
    for samples in (march(rays, grid), marching_band.march_band(rays, grid, BAND, 1000)):
        assert samples.starts.diff().gt(0).tolist() == [False, True, False, False]


def test_a_ray_that_does_not_fit_gives_up_its_samples_and_a_shorter_one_takes_the_room():
    grid = torch.zeros(4, 4, 4)
    origins = torch.tensor([[-1.0, 0.5, 0.5], [-1.0, 0.5, 0.5], [0.9, 0.5, 0.5]])
    directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(3, 3).contiguous()
    rays = marching_band.BandRays(origins, directions, torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    # In a field of zeros the slope is 0, so steps are three times as long, and light is not lost.
    band = marching_band.Band(10.0, 0.4, -0.6, 0.01, 0.04, 0.1, 0.1)
    full = march(rays, grid, band).starts.diff().tolist()
    assert full[0] == full[1] > full[2] > 0
    for samples in (
        march(rays, grid, band, full[0] + full[2]),
        marching_band.march_band(rays, grid, band, full[0] + full[2]),
    ):
        assert samples.starts.diff().tolist() == [full[0], 0, full[2]]
        assert samples.dropped == 1


def test_samples_are_placed_on_their_rays(generator):
    rays = rays_at_the_cube(100, generator)
    samples = march(rays, ball_cache())
    points = torch.empty(3, len(samples.depths))
    place_samples(*arrays(rays.origins, rays.directions, samples.starts, samples.depths, points))
    owner = owners(samples)
    torch.testing.assert_close(points.T, rays.origins[owner] + samples.depths[:, None] * rays.directions[owner])


def test_the_lattice_in_occupied_cells_is_the_filtered_lattice(generator):
    rays = rays_at_the_cube(200, generator)
    directions = rays.directions.double()
    directions[:3] = torch.eye(3, dtype=torch.float64)
    lattice = marching.Lattice(
        rays.origins.double(), directions, torch.zeros(200).double(), torch.full((200,), 3.0).double(),
        rays.jitter.double(), 0.013,
    )  # fmt: skip
    occupied = torch.rand(8, 8, 8, generator=generator) < 0.3
    expected_starts, expected_depths = marching.march(lattice, occupied)
    columns = arrays(lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter)
    cells, starts = occupied.to(torch.uint8).numpy(), np.zeros(201, np.int64)
    march_lattice(*columns, lattice.step, cells, starts, np.empty(0), True)
    starts = np.cumsum(starts)
    depths = np.empty(starts[-1])
    march_lattice(*columns, lattice.step, cells, starts, depths, False)
    assert torch.equal(torch.from_numpy(starts), expected_starts)
    torch.testing.assert_close(torch.from_numpy(depths), expected_depths, atol=1e-9, rtol=0)


# Adam.


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adam_is_torchs_on_touched_entries_and_leaves_the_others(generator, decay):
    start = torch.randn(9000, generator=generator)
    ours, reference = ([start.clone(), torch.zeros(9000), torch.zeros(9000)] for _ in range(2))
    theirs = torch.nn.Parameter(start.clone())
    adam = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=decay)
    touched = torch.rand(9000, generator=generator) < 0.5
    for step in range(1, 5):
        gradient = torch.where(touched, torch.randn(9000, generator=generator), 0.0)
        theirs.grad = gradient.clone()
        adam.step()
        numbers = reference_adam.AdamNumbers.of_step(step, 0.01, (0.9, 0.99), 1e-8, decay)
        parameter, mean, square = reference
        reference_adam.adam_step(parameter, gradient.clone(), mean, square, numbers)
        parameter, mean, square = ours
        constants = [np.float32(number) for number in numbers]
        for lo, hi in ((0, 5000), (5000, 9000)):
            adam_step(*arrays(parameter, gradient, mean, square), *constants, lo, hi)
        assert not gradient.any()
    for parameter, mean, square in (ours, reference):
        torch.testing.assert_close(parameter[touched], theirs.detach()[touched])
        assert torch.equal(parameter[~touched], start[~touched])
        assert not mean[~touched].any()
        assert not square[~touched].any()


def test_adam_works_on_its_range_only():
    parameter, gradient, mean, square = torch.ones(10), torch.ones(10), torch.zeros(10), torch.zeros(10)
    numbers = [np.float32(v) for v in reference_adam.AdamNumbers.of_step(1, 0.1, (0.9, 0.99), 1e-8)]
    adam_step(*arrays(parameter, gradient, mean, square), *numbers, 3, 6)
    torch.testing.assert_close(parameter, torch.tensor([1.0] * 3 + [0.9] * 3 + [1.0] * 4))
    assert gradient.tolist() == [1.0] * 3 + [0.0] * 3 + [1.0] * 4
