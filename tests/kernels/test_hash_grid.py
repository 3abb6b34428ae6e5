"""The hash grid: equal to a naive loop on every back end, with derivatives of every order that is promised."""

import os
import threading

import numpy as np
import pytest
import torch

from shapewright.kernels import ops
from shapewright.kernels.backends import backend, load
from shapewright.kernels.levels import HashGrid, hash_levels
from shapewright.kernels.reference import hash_grid as reference

DOUBLE = torch.float64
# Dense and hashed levels, neither with a whole number of cells.
LEVELS = hash_levels(5, 9, 3, 40)
JOBS = ("forward", "pull", "scatter")


def inner_points(levels, count, generator, dtype=DOUBLE):
    """Return positions at least a thousandth of a cell away from the faces of all cells."""
    points = torch.rand(64 * count, 3, dtype=DOUBLE, generator=generator)
    for scale in levels.scales:
        place = (points * scale + levels.offset).frac()
        points = points[((place > 2e-3) & (place < 1 - 2e-3)).all(dim=1)]
    return points[:count].to(dtype)


def random_table(levels, generator, dtype=DOUBLE):
    return torch.randn(levels.rows, levels.features, dtype=dtype, generator=generator)


def naive(x, table, levels, smoothstep):
    """Interpolate one point, straight from the definition."""
    features = []
    for level in range(levels.num_levels):
        place = [levels.scales[level] * float(x[axis]) + levels.offset for axis in range(3)]
        cell = [int(p) for p in place]
        if levels.dense[level]:
            cell = [min(i, levels.resolutions[level] - 2) for i in cell]
        total = torch.zeros(levels.features, dtype=DOUBLE)
        for corner in range(8):
            weight, vertex = 1.0, []
            for axis in range(3):
                bit = corner >> axis & 1
                r = place[axis] - cell[axis]
                r = r * r * (3 - 2 * r) if smoothstep else r
                weight *= r if bit else 1 - r
                vertex.append(cell[axis] + bit)
            a, b, c = vertex
            if levels.dense[level]:
                row = a + levels.resolutions[level] * (b + levels.resolutions[level] * c)
            else:
                row = (a ^ (b * 2654435761 % 2**32) ^ (c * 805459861 % 2**32)) % levels.sizes[level]
            total += weight * table[levels.starts[level] + row]
        features.append(total)
    return torch.cat(features)


def by_autograd(x, table, g, v, grid):
    """Return what each job returns, by differentiating the reference's features."""
    x, table, g = (tensor.detach().requires_grad_() for tensor in (x, table, g))
    y = reference.forward(x, table, grid)
    by_x, by_table = torch.autograd.grad((y * g).sum(), (x, table), create_graph=True)
    second = torch.autograd.grad((by_x * v).sum(), (g, x, table), allow_unused=True)
    plain = y.detach(), by_x.detach(), by_table.detach()
    return plain, [torch.zeros_like(p) if s is None else s for s, p in zip(second, plain, strict=True)]


@pytest.mark.parametrize("form", ["half-cell", "paper"])
@pytest.mark.parametrize("smoothstep", [False, True])
def test_features_are_those_of_a_naive_loop(device, generator, form, smoothstep):
    levels = hash_levels(4, 9, 3, 40, form=form)
    x = torch.rand(9, 3, dtype=DOUBLE, generator=generator)
    x[0], x[1] = 0.0, 1.0
    table = random_table(levels, generator)
    expected = torch.stack([naive(point, table, levels, smoothstep) for point in x])
    features = ops.encode(x.to(device), table.to(device), levels, smoothstep=smoothstep)
    torch.testing.assert_close(features.cpu(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("features", [1, 2, 4, 8])
@pytest.mark.parametrize("smoothstep", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(DOUBLE, 1e-12), (torch.float32, 2e-5)])
def test_every_job_is_a_derivative_of_the_reference(device, generator, features, smoothstep, dtype, tolerance):
    levels = hash_levels(5, 9, 3, 40, features=features)
    grid = HashGrid(levels, 4, smoothstep)
    x = inner_points(levels, 300, generator)
    table = random_table(levels, generator)
    g, v = (torch.randn(300, width, dtype=DOUBLE, generator=generator) for width in (levels.width, 3))
    plain, along = by_autograd(x, table, g, v, grid)
    x, table, g, v = (tensor.to(device, dtype) for tensor in (x, table, g, v))
    module = load(ops.choose(device.type), "hash_grid")
    for direction, expected in ((None, plain), (v, along)):
        results = (
            module.forward(x, table, grid, direction),
            module.pull(x, table, g, grid, direction),
            module.scatter(x, g, grid, direction),
        )
        for job, result, target in zip(JOBS, results, expected, strict=True):
            error = (result.cpu().double() - target).abs().max() / target.abs().max()
            assert error < tolerance, job


@pytest.mark.parametrize("smoothstep", [False, True])
def test_first_and_second_derivatives_are_those_of_finite_differences(device, generator, smoothstep):
    levels = hash_levels(3, 7, 3, 12)
    x = inner_points(levels, 12, generator)
    table = random_table(levels, generator)
    g = torch.randn(12, levels.width, dtype=DOUBLE, generator=generator)
    x, table, g = (tensor.to(device).requires_grad_() for tensor in (x, table, g))
    cases = (
        (lambda x, t: ops.encode(x, t, levels, smoothstep=smoothstep), (x, table)),
        (lambda x, t, g: ops.pull(x, t, g, levels, smoothstep=smoothstep), (x, table, g)),
        (lambda x, g: ops.scatter(x, g, levels, smoothstep=smoothstep), (x, g)),
    )
    for function, inputs in cases:
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def make_head(width, generator, device, dtype=DOUBLE):
    """Return a small curved function of points and features, and its parameters."""
    first = torch.randn(3 + width, 8, dtype=dtype, generator=generator).to(device).requires_grad_()
    second = torch.randn(8, 1, dtype=dtype, generator=generator).to(device).requires_grad_()
    return lambda x, y: torch.tanh(torch.cat([x, y], dim=1) @ first) @ second, [first, second]


def eikonal_loss(normal):
    return ((normal.norm(dim=1) - 1) ** 2).mean()


@pytest.mark.parametrize("smoothstep", [False, True])
@pytest.mark.parametrize("points_need_gradient", [False, True])
def test_the_eikonal_gradient_through_a_head_is_autograds(device, generator, smoothstep, points_need_gradient):
    head, parameters = make_head(LEVELS.width, generator, device)
    grid = HashGrid(LEVELS, LEVELS.num_levels, smoothstep)
    x = inner_points(LEVELS, 40, generator).to(device).requires_grad_()
    table = random_table(LEVELS, generator).to(device).requires_grad_()
    wanted = [table, *parameters, *([x] if points_need_gradient else [])]

    value = head(x, reference.forward(x, table, grid))
    normal = torch.autograd.grad(value.sum(), x, create_graph=True)[0]
    expected = torch.autograd.grad(eikonal_loss(normal) + value.sin().sum(), wanted)

    points = x if points_need_gradient else x.detach()
    fast_value, fast_normal = ops.value_and_normal(head, points, table, LEVELS, smoothstep=smoothstep)
    fast = torch.autograd.grad(eikonal_loss(fast_normal) + fast_value.sin().sum(), wanted)

    features = ops.encode(x, table, LEVELS, smoothstep=smoothstep)
    plain_value = head(x, features)
    plain_normal = torch.autograd.grad(plain_value.sum(), x, create_graph=True)[0]
    plain = torch.autograd.grad(eikonal_loss(plain_normal) + plain_value.sin().sum(), wanted)

    torch.testing.assert_close(fast_value, value)
    torch.testing.assert_close(fast_normal, normal)
    for by_fast, by_plain, target in zip(fast, plain, expected, strict=True):
        torch.testing.assert_close(by_fast, target, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(by_plain, target, rtol=1e-10, atol=1e-12)


def test_value_and_normal_scatter_nothing(generator, monkeypatch):
    monkeypatch.setattr(load("cpu", "hash_grid"), "scatter", None)
    head, _ = make_head(LEVELS.width, generator, "cpu")
    table = random_table(LEVELS, generator).requires_grad_()
    with backend("cpu"):
        _, normal = ops.value_and_normal(head, inner_points(LEVELS, 10, generator), table, LEVELS)
    assert normal.requires_grad


def test_value_and_normal_of_a_frozen_table_train_the_head(device, generator):
    head, parameters = make_head(LEVELS.width, generator, device)
    table = random_table(LEVELS, generator).to(device)
    x = inner_points(LEVELS, 10, generator).to(device)
    value, normal = ops.value_and_normal(head, x, table, LEVELS)
    gradients = torch.autograd.grad(eikonal_loss(normal), parameters)
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    with torch.no_grad():
        again = ops.value_and_normal(head, x, table.requires_grad_(), LEVELS)
    assert not again[0].requires_grad
    assert not again[1].requires_grad
    assert torch.equal(again[0], value)
    assert torch.equal(again[1], normal)


@pytest.mark.parametrize("smoothstep", [False, True])
def test_third_derivatives_are_those_of_the_reference(device, generator, smoothstep):
    head, _ = make_head(LEVELS.width, generator, device)
    grid = HashGrid(LEVELS, LEVELS.num_levels, smoothstep)
    x = inner_points(LEVELS, 20, generator).to(device)
    table = random_table(LEVELS, generator).to(device)

    def third(encode, run):
        own_x, own_table = x.clone().requires_grad_(), table.clone().requires_grad_()
        first = torch.autograd.grad(head(own_x, encode(own_x, own_table)).sum(), own_x, create_graph=True)[0]
        second = torch.autograd.grad((first**2).sum(), own_x, create_graph=True)[0]
        return run((second**2).sum(), own_x, own_table)

    def by_grad(loss, own_x, own_table):
        return torch.autograd.grad(loss, (own_x, own_table))

    def by_backward(loss, own_x, own_table):
        loss.backward()
        return own_x.grad, own_table.grad

    expected = third(lambda a, t: reference.forward(a, t, grid), by_grad)
    for run in (by_grad, by_backward):
        results = third(lambda a, t: ops.encode(a, t, LEVELS, smoothstep=smoothstep), run)
        for result, target in zip(results, expected, strict=True):
            torch.testing.assert_close(result, target, rtol=1e-9, atol=1e-9 * float(target.abs().max()))


@pytest.mark.parametrize("smoothstep", [False, True])
def test_jobs_are_adjoint_at_full_size(device, generator, smoothstep):
    if ops.choose(device.type) == "reference" and device.type == "cpu":
        pytest.skip("the reference takes minutes at this size")
    levels = hash_levels(16, 15, 16, 2048)
    grid = HashGrid(levels, 16, smoothstep)
    x, v = (torch.rand(2**16, 3, generator=generator).to(device) for _ in range(2))
    g = torch.randn(2**16, levels.width, generator=generator).to(device)
    u = random_table(levels, generator, torch.float32).to(device)
    module = load(ops.choose(device.type), "hash_grid")

    def product(a, b):
        return float((a.double() * b.double()).sum())

    def close(a, b, scale):
        assert abs(a - b) < 1e-5 * float(scale)

    y = module.forward(x, u, grid, None)
    close(product(y, g), product(u, module.scatter(x, g, grid, None)), y.double().norm() * g.double().norm())
    pulled, pushed = module.pull(x, u, g, grid, None), module.forward(x, u, grid, v)
    close(product(pushed, g), product(v, pulled), v.double().norm() * pulled.double().norm())
    close(product(pushed, g), product(u, module.scatter(x, g, grid, v)), pushed.double().norm() * g.double().norm())


def test_a_linear_function_on_a_dense_level_is_reproduced_with_its_gradient(device, generator):
    levels = hash_levels(1, 12, 9, 9, features=1)
    axis = (torch.arange(levels.resolutions[0], dtype=DOUBLE) - levels.offset) / levels.scales[0]
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    table = (1.0 + 2.0 * x - 3.0 * y + 0.5 * z).reshape(-1, 1).to(device)
    points = torch.rand(50, 3, dtype=DOUBLE, generator=generator).to(device).requires_grad_()
    slope = points.new_tensor([2.0, -3.0, 0.5])
    value = ops.encode(points, table, levels)
    (gradient,) = torch.autograd.grad(value.sum(), points)
    torch.testing.assert_close(value, 1.0 + (points @ slope)[:, None])
    torch.testing.assert_close(gradient, slope.expand(50, 3))


# Edges.


@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one_point(device, generator, count):
    x = torch.rand(count, 3, dtype=DOUBLE, generator=generator).to(device).requires_grad_()
    table = random_table(LEVELS, generator).to(device).requires_grad_()
    y = ops.encode(x, table, LEVELS)
    by_x, by_table = torch.autograd.grad(y.sum(), (x, table), create_graph=True)
    (second,) = torch.autograd.grad((by_x**2).sum(), table)
    assert y.shape == (count, LEVELS.width)
    assert by_x.shape == (count, 3)
    assert by_table.shape == second.shape == table.shape


def test_strides_do_not_matter(device, generator):
    x = torch.rand(3, 40, dtype=DOUBLE, generator=generator).to(device).T
    table = random_table(LEVELS, generator).to(device)
    features = ops.encode(x, table.T.contiguous().T, LEVELS)
    assert torch.equal(features, ops.encode(x.contiguous(), table, LEVELS))
    g = torch.ones(1, 1, dtype=DOUBLE, device=device).expand(40, LEVELS.width)
    assert torch.equal(ops.pull(x, table, g, LEVELS), ops.pull(x, table, g.contiguous(), LEVELS))
    assert torch.equal(ops.scatter(x, g, LEVELS), ops.scatter(x, g.contiguous(), LEVELS))


def test_positions_outside_are_clamped_with_derivative_zero(device, generator):
    table = random_table(LEVELS, generator).to(device)
    x = torch.tensor([[1.5, 0.3, -0.2], [-torch.inf, 0.3, torch.inf]], dtype=DOUBLE, device=device).requires_grad_()
    y = ops.encode(x, table, LEVELS)
    torch.testing.assert_close(y, ops.encode(x.detach().clamp(0, 1), table, LEVELS))
    (by_x,) = torch.autograd.grad(y.sum(), x)
    outside = [[True, False, True], [True, False, True]]
    assert torch.equal(by_x == 0, torch.tensor(outside, device=device))
    assert torch.equal(by_x, ops.pull(x.detach(), table, torch.ones_like(y), LEVELS))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_nan_makes_nan_features_and_no_crash(device, generator, dtype):
    table = random_table(LEVELS, generator, dtype).to(device)
    x = torch.rand(5, 3, dtype=dtype, generator=generator)
    x[1, 0] = x[3, 2] = torch.nan
    y = ops.encode(x.to(device), table, LEVELS).isnan().cpu()
    assert torch.equal(y, torch.tensor([0, 1, 0, 1, 0]).bool()[:, None].expand_as(y))
    assert ops.scatter(x.to(device), torch.ones_like(y, dtype=dtype).to(device), LEVELS).shape == table.shape
    assert ops.pull(x.to(device), table, torch.ones_like(y, dtype=dtype).to(device), LEVELS).shape == x.shape


@pytest.mark.parametrize("active", range(LEVELS.num_levels + 1))
def test_levels_that_take_no_part_give_exact_zeros(device, generator, active):
    x = torch.rand(30, 3, dtype=DOUBLE, generator=generator).to(device).requires_grad_()
    table = random_table(LEVELS, generator).to(device).requires_grad_()
    full, part = ops.encode(x, table, LEVELS), ops.encode(x, table, LEVELS, active=active)
    width = active * LEVELS.features
    assert torch.equal(part[:, :width], full[:, :width])
    assert (part[:, width:] == 0).all()
    by_x, by_table = torch.autograd.grad(part.sum(), (x, table), create_graph=True)
    end = LEVELS.starts[active] if active < LEVELS.num_levels else LEVELS.rows
    assert (by_table[end:] == 0).all()
    assert (by_x == 0).all() == (active == 0)
    (second,) = torch.autograd.grad((by_x**2).sum(), table, create_graph=True)
    assert (second[end:] == 0).all()


def test_every_level_gets_a_gradient(device, generator):
    levels = hash_levels(16, 15, 16, 2048)
    x = torch.rand(200, 3, generator=generator).to(device)
    by_table = ops.scatter(x, torch.ones(200, levels.width, device=device), levels)
    for start, size in zip(levels.starts, levels.sizes, strict=True):
        assert by_table[start : start + size].abs().max() > 0


@pytest.mark.parametrize("form", ["half-cell", "paper"])
def test_features_are_continuous_and_the_rim_is_not_flat(device, generator, form):
    levels = hash_levels(4, 9, 3, 40, form=form)
    table = random_table(levels, generator).to(device)
    along = torch.linspace(0, 1, 20_001, dtype=DOUBLE, device=device)
    line = torch.stack([along, 0.3 + 0 * along, 0.7 - 0.1 * along], dim=1).requires_grad_()
    y = ops.encode(line, table, levels)
    steepest = 2 * table.abs().max() * (levels.scales[-1] + 1) * 2
    assert y.diff(dim=0).abs().max() <= steepest * 1e-4
    for column in (0, 2, 4, 6):
        (slope,) = torch.autograd.grad(y[:, column].sum(), line, retain_graph=True)
        assert (slope[1:-1, 0].abs() > 1e-9).all()


def test_smoothstep_has_a_continuous_gradient_across_cells(device, generator):
    levels = hash_levels(1, 12, 9, 9)
    table = random_table(levels, generator).to(device)
    face = (4 - levels.offset) / levels.scales[0]
    beside = torch.tensor([[face - 1e-9, 0.3, 0.6], [face + 1e-9, 0.3, 0.6]], dtype=DOUBLE, device=device)
    ones = torch.ones(2, levels.width, dtype=DOUBLE, device=device)
    smooth = ops.pull(beside, table, ones, levels, smoothstep=True)
    linear = ops.pull(beside, table, ones, levels)
    assert (smooth[0] - smooth[1]).abs().max() < 1e-5
    assert abs(float(smooth[0, 0])) < 1e-5
    assert (linear[0] - linear[1]).abs().max() > 0.1


def test_hashing_spreads_vertices_over_the_table():
    levels = hash_levels(1, 12, 17, 17)
    hashed = HashGrid(levels, 1, smoothstep=False)
    assert not levels.dense[0]
    vertex = torch.cartesian_prod(*[torch.arange(17)] * 3)
    wide = hash_levels(1, 15, 33, 33)
    rows = reference._row(vertex, HashGrid(wide, 1, smoothstep=False), 0)
    assert len(rows.unique()) >= 4450
    assert len(reference._row(vertex, hashed, 0).unique()) > 2500


# Threads, processes and types.


def results_of_all_jobs(x, table, g, v, grid):
    module = load("cpu", "hash_grid")
    with backend("cpu"):
        return [
            result
            for direction in (None, v)
            for result in (
                module.forward(x, table, grid, direction),
                module.pull(x, table, g, grid, direction),
                module.scatter(x, g, grid, direction),
            )
        ]


@pytest.mark.parametrize("features", [2, 3])
@pytest.mark.parametrize("count", [5000, 40_000])
def test_the_number_of_threads_changes_no_bit(generator, features, count):
    levels = hash_levels(3, 12, 8, 64, features=features)
    grid = HashGrid(levels, 3, smoothstep=False)
    x, v = (torch.rand(count, 3, generator=generator) for _ in range(2))
    g = torch.randn(count, levels.width, generator=generator)
    table = random_table(levels, generator, torch.float32)
    before = torch.get_num_threads()
    results = {}
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results[threads] = results_of_all_jobs(x, table, g, v, grid)
    finally:
        torch.set_num_threads(before)
    for threads in (2, 5):
        assert all(torch.equal(a, b) for a, b in zip(results[threads], results[1], strict=True))


def test_four_threads_may_call_at_once(generator):
    grid = HashGrid(LEVELS, LEVELS.num_levels, smoothstep=False)
    x, v = (torch.rand(20_000, 3, generator=generator) for _ in range(2))
    g, table = torch.randn(20_000, LEVELS.width, generator=generator), random_table(LEVELS, generator, torch.float32)
    expected = results_of_all_jobs(x, table, g, v, grid)
    right = []

    def call():
        results = results_of_all_jobs(x, table, g, v, grid)
        right.append(all(torch.equal(a, b) for a, b in zip(results, expected, strict=True)))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert right == [True] * 4


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_may_call_after_its_parent(generator):
    grid = HashGrid(LEVELS, LEVELS.num_levels, smoothstep=False)
    x, v = (torch.rand(20_000, 3, generator=generator) for _ in range(2))
    g, table = torch.randn(20_000, LEVELS.width, generator=generator), random_table(LEVELS, generator, torch.float32)
    expected = results_of_all_jobs(x, table, g, v, grid)
    torch.rand(200_000, generator=generator).sin()  # on torch's threads
    child = os.fork()
    if child == 0:
        # Without torch: a child forked after the first use of its threads waits for them for ever.
        found = results_of_all_jobs(x, table, g, v, grid)
        same = all(np.array_equal(a.numpy(), b.numpy()) for a, b in zip(found, expected, strict=True))
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_autocast_and_other_types_of_points_end_in_the_tables_type(device, generator):
    table = random_table(LEVELS, generator, torch.float32).to(device).requires_grad_()
    x = torch.rand(8, 3, dtype=DOUBLE, generator=generator).to(device).requires_grad_()
    with torch.autocast(device.type, dtype=torch.bfloat16):
        features = ops.encode(x, table, LEVELS)
        loss = (features @ torch.ones(LEVELS.width, 2, device=device)).float().sum()
    by_x, by_table = torch.autograd.grad(loss, (x, table))
    assert features.dtype == by_table.dtype == torch.float32
    assert by_x.dtype == DOUBLE


@pytest.mark.parametrize(
    ("points", "rows", "dtype", "active", "message"),
    [
        ((4, 2), LEVELS.rows, DOUBLE, None, "points"),
        ((4,), LEVELS.rows, DOUBLE, None, "points"),
        ((4, 3), LEVELS.rows + 1, DOUBLE, None, "table"),
        ((4, 3), LEVELS.rows, torch.bfloat16, None, "float32 or float64"),
        ((4, 3), LEVELS.rows, DOUBLE, 6, "active"),
        ((4, 3), LEVELS.rows, DOUBLE, -1, "active"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(points, rows, dtype, active, message):
    x, table = torch.zeros(points), torch.zeros(rows, 2, dtype=dtype)
    with pytest.raises(ValueError, match=message):
        ops.encode(x, table, LEVELS, active)


def test_gradients_that_do_not_fit_are_refused():
    x, table = torch.zeros(4, 3), torch.zeros(LEVELS.rows, 2)
    with pytest.raises(ValueError, match="gradient"):
        ops.pull(x, table, torch.zeros(4, 9), LEVELS)
    with pytest.raises(ValueError, match="gradient"):
        ops.scatter(x, torch.zeros(3, LEVELS.width), LEVELS)
    with pytest.raises(ValueError, match="gradient"):
        ops.scatter(x, torch.zeros(4, LEVELS.width, dtype=torch.int64), LEVELS)
