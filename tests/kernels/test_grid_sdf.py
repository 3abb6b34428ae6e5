"""The fused SDF network: values, normals and gradients are those of autograd on the definition in float64."""

from __future__ import annotations

import pytest
import torch

from shapewright.fields.grid_sdf import SQUAREPLUS_EPS, GridSdf, create_grid_sdf
from shapewright.kernels.levels import HashGrid, hash_levels
from shapewright.kernels.reference.grid_sdf import grid_sdf, network, squareplus

SIDE = 1.7
LEVELS = hash_levels(num_levels=4, log2_table_size=10, base_resolution=4, max_resolution=40)


def field(active=4, seed=0):
    """Return a field whose table matters: two levels are dense, two are hashed."""
    generator = torch.Generator().manual_seed(seed)
    parameters = create_grid_sdf(LEVELS, 16, 5, generator)
    parameters.table.uniform_(-0.5, 0.5, generator=generator)
    parameters.flat += 0.1 * torch.randn(len(parameters.flat), generator=generator)
    grid = GridSdf(parameters, LEVELS, SIDE)
    grid.active = active
    return grid


def points(count, seed=1):
    """Return positions in the unit cube and a little beyond it."""
    return torch.rand(3, count, generator=torch.Generator().manual_seed(seed)) * 1.1 - 0.05


def double_leaves(grid):
    parameters = grid.parameters
    leaves = [parameters.table, *parameters.layers()]
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


def reference(grid, where, leaves):
    """Return outputs and normals, feature-major, in float64."""
    table, *layers = leaves
    lattice = HashGrid(LEVELS, grid.active, smoothstep=False)
    outputs, slope = grid_sdf(where.T.double(), table, layers, lattice, SQUAREPLUS_EPS)
    return outputs.T, slope.T / SIDE


def relative_error(ours, theirs):
    return float((ours.double() - theirs).abs().max() / theirs.abs().max().clamp(min=1e-30))


def backward(grid, state, grad_outputs, grad_normals):
    """Return the gradients of the table and of the flat weights."""
    grad = grid.parameters.zeros_like()
    grad_inputs, direction = grid.backward(state, grad_outputs, grad_normals, grad)
    table = grad.table.view(-1)
    for level in range(grid.active):
        grid.scatter(state, grad_inputs, direction, table, level)
    return grad


@pytest.mark.parametrize("active", [4, 2, 1])
def test_values_and_normals_are_those_of_autograd(active):
    grid, where = field(active), points(700)
    state = grid.forward(where)
    outputs, normals = reference(grid, where, double_leaves(grid))
    assert relative_error(state.outputs, outputs.detach()) < 1e-5
    assert relative_error(state.normals, normals.detach()) < 1e-4
    assert relative_error(grid.values(where), outputs.detach()) < 1e-5


@pytest.mark.parametrize("active", [4, 2])
def test_gradients_of_values_and_normals_are_those_of_autograd(active):
    grid, where = field(active), points(700)
    generator = torch.Generator().manual_seed(2)
    grad_outputs = torch.randn(6, 700, generator=generator)
    grad_normals = torch.randn(3, 700, generator=generator)
    grad = backward(grid, grid.forward(where), grad_outputs, grad_normals)
    leaves = double_leaves(grid)
    outputs, normals = reference(grid, where, leaves)
    loss = (outputs * grad_outputs).sum() + (normals * grad_normals).sum()
    table, *layers = torch.autograd.grad(loss, leaves)
    assert relative_error(grad.table, table) < 1e-4
    for ours, theirs in zip(grad.layers(), layers, strict=True):
        assert relative_error(ours, theirs) < 1e-4
    assert not grad.table[LEVELS.starts[active] :].any() if active < 4 else grad.table[LEVELS.starts[3] :].any()


def test_an_eikonal_step_is_that_of_autograd():
    grid, where = field(), points(500)
    state = grid.forward(where)
    length = state.normals.norm(dim=0)
    grad_normals = 2.0 * (length - 1.0) * state.normals / length
    grad = backward(grid, state, torch.zeros_like(state.outputs), grad_normals)
    leaves = double_leaves(grid)
    _, normals = reference(grid, where, leaves)
    table, *layers = torch.autograd.grad(((normals.norm(dim=0) - 1.0) ** 2).sum(), leaves, materialize_grads=True)
    assert relative_error(grad.table, table) < 1e-4
    for ours, theirs in zip(grad.layers(), layers, strict=True):
        assert float((ours - theirs).abs().max()) < 1e-4 * float(layers[0].abs().max())


def test_gradients_are_added_to_what_is_there():
    grid, where = field(), points(50)
    ones, normals = torch.ones(6, 50), torch.ones(3, 50)
    once, twice = grid.parameters.zeros_like(), grid.parameters.zeros_like()
    grid.backward(grid.forward(where), ones, normals, once)
    for _ in range(2):
        grid.backward(grid.forward(where), ones, normals, twice)
    torch.testing.assert_close(twice.flat, 2.0 * once.flat)


@pytest.mark.parametrize("count", [0, 1])
def test_no_point_and_one_point_are_fine(count):
    grid, where = field(), points(count)
    state = grid.forward(where)
    grad = backward(grid, state, torch.ones(6, count), torch.ones(3, count))
    assert state.outputs.shape == (6, count)
    assert state.normals.shape == (3, count)
    assert bool(grad.flat.any()) == bool(count)


def test_features_do_not_change_beyond_the_cube_and_nan_stays_in_its_column():
    grid = field()
    where = torch.tensor([[1.0, 1.3, 0.5], [0.4, 0.4, 0.5], [0.0, -2.0, torch.nan]])
    encoded = grid.forward(where).inputs[:-3]
    assert torch.equal(encoded[:, 0], encoded[:, 1])
    assert encoded.isfinite().all(dim=0).tolist() == [True, True, False]


def test_a_linear_table_gives_its_exact_normal():
    """The first level stores 3 x - y, the network passes it on."""
    grid = field(active=1)
    parameters, size = grid.parameters, LEVELS.resolutions[0]
    index = torch.arange(size**3)
    vertex = torch.stack([index % size, index // size % size, index // size**2], dim=1)
    position = (vertex - LEVELS.offset) / LEVELS.scales[0]
    parameters.table[: size**3, 0] = 3.0 * position[:, 0] - position[:, 1]
    parameters.flat.zero_()
    w1, b1, w2, b2, w3, b3 = parameters.layers()
    w1[0, 0], w2[0, 0], w3[0, 0] = 1.0, 1.0, 1.0
    b1[0], b2[0], b3[0] = 100.0, 0.0, -100.0
    where = points(40).clamp(0.0, 1.0)
    state = grid.forward(where)
    torch.testing.assert_close(state.outputs[0], 3.0 * where[0] - where[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(state.normals, torch.tensor([[3.0], [-1.0], [0.0]]).expand(3, 40) / SIDE)


def test_the_definition_has_the_slope_of_finite_differences_to_second_order():
    grid = field()
    table, *layers = double_leaves(grid)
    lattice = HashGrid(LEVELS, 1, smoothstep=False)
    # Away from the borders of cells, where the slope jumps.
    cell = torch.tensor([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]], dtype=torch.float64)
    fraction = 0.3 + 0.4 * torch.rand(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    where = ((cell + fraction - LEVELS.offset) / LEVELS.scales[0]).requires_grad_()

    def both(x, w1):
        outputs, slope = grid_sdf(x, table.detach(), [w1, *(layer.detach() for layer in layers[1:])], lattice, 0.1)
        return torch.cat([outputs, slope], dim=1)

    assert torch.autograd.gradcheck(both, (where, layers[0]), fast_mode=True)
    assert torch.autograd.gradgradcheck(both, (where, layers[0]), fast_mode=True)


def test_squareplus_is_a_smooth_maximum_and_the_network_is_made_of_it():
    z = torch.tensor([-50.0, 0.0, 50.0], dtype=torch.float64)
    torch.testing.assert_close(squareplus(z, 4.0), torch.tensor([0.02, 1.0, 50.02]).double(), atol=1e-4, rtol=0)
    one = torch.ones(1, 1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    twice = network(one, [one, zero, one, zero, 2.0 * one, zero + 3.0], 0.0)
    assert float(twice) == 5.0
