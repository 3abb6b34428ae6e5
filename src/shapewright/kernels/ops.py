"""The kernels as differentiable functions: back ends chosen by device, derivatives written once.

A hash grid is the linear map ``y = W(x) t`` of its table. Three autograd functions close under differentiation:
Encode (``W t``), Pull (``J^T g``) and Scatter (``W^T g``). The backward of Pull, that is the second derivative of the
encoding, uses the back ends' directional forms (``reference/hash_grid.py``); where somebody differentiates even that,
it runs through the reference, which is differentiable any number of times. ``torch.func`` is not supported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from shapewright.checks import check_range, check_shape
from shapewright.kernels.backends import choose, load
from shapewright.kernels.levels import HashGrid, HashLevels, hash_levels

__all__ = ["HashLevels", "encode", "hash_levels", "pull", "scatter", "softplus", "value_and_normal"]


def encode(
    points: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    levels: HashLevels,
    active: int | None = None,
    smoothstep: bool = False,
) -> Float[Tensor, "n width"]:
    """Return the features of points interpolated in a multi-resolution hash grid, ``y = W(x) t``.

    Instant NGP, arXiv:2201.05989, section 3. Twice differentiable by points and table on every back end, and further
    through the reference. Positions outside the cube are clamped, with derivative 0; NaN gives NaN features.

    Args:
        points: Positions in [0,1]^3.
        table: Features of all levels, float32 or float64, laid out by ``levels``.
        levels: The levels, from ``hash_levels``.
        active: How many levels take part, from the coarsest; the columns of the others are 0. ``None``: all.
        smoothstep: Interpolate by r^2 (3 - 2r), which makes the derivative continuous, instead of linearly.

    Raises:
        ValueError: if a shape, the type of the table or ``active`` does not fit.
    """
    grid = _grid(levels, active, smoothstep)
    _check(points, table, grid)
    return _Encode.apply(_inside(points, table), table, grid, choose(points.device.type))


def pull(
    points: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    gradient: Float[Tensor, "n width"],
    levels: HashLevels,
    active: int | None = None,
    smoothstep: bool = False,
) -> Float[Tensor, "n 3"]:
    """Return ``J^T g``: the gradient by points of ``<encode(points, table), gradient>``, without touching the table's.

    Args:
        points: Positions, as in ``encode``.
        table: Features of all levels.
        gradient: ``g``, one number for each feature of each point.
        levels: The levels of the table.
        active: How many levels take part.
        smoothstep: How to interpolate.

    Raises:
        ValueError: if a shape, the type of the table or ``active`` does not fit.
    """
    grid = _grid(levels, active, smoothstep)
    _check(points, table, grid)
    check_shape("gradient", gradient, (len(points), levels.width))
    name = choose(points.device.type)
    pulled = _Pull.apply(_inside(points, table), table, gradient.to(table.dtype), grid, name)
    return torch.where((points >= 0) & (points <= 1), pulled, torch.zeros_like(pulled))


def scatter(
    points: Float[Tensor, "n 3"],
    gradient: Float[Tensor, "n width"],
    levels: HashLevels,
    active: int | None = None,
    smoothstep: bool = False,
) -> Float[Tensor, "rows features"]:
    """Return ``W(x)^T g``: the gradient by the table of ``<encode(points, table), gradient>``.

    Args:
        points: Positions, as in ``encode``.
        gradient: ``g``, float32 or float64, one number for each feature of each point.
        levels: The levels of the table.
        active: How many levels take part.
        smoothstep: How to interpolate.

    Raises:
        ValueError: if a shape, the type of ``gradient`` or ``active`` does not fit.
    """
    check_shape("points", points, (None, 3))
    check_shape("gradient", gradient, (len(points), levels.width))
    _check_type("gradient", gradient)
    grid = _grid(levels, active, smoothstep)
    return _Scatter.apply(_inside(points, gradient), gradient, grid, choose(points.device.type))


def value_and_normal(
    head: Callable[[Tensor, Tensor], Tensor],
    points: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    levels: HashLevels,
    active: int | None = None,
    smoothstep: bool = False,
) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n 3"]]:
    """Return ``head(points, encode(points, table))`` and its gradient by points.

    Both are differentiable by everything, as with ``torch.autograd.grad(value, points, create_graph=True)``, but the
    table's gradient is not computed on the way: autograd would, since it cannot tell that only points are asked for.

    Args:
        head: Function of points and features, row by row, to one number a row.
        points: Positions, as in ``encode``.
        table: Features of all levels.
        levels: The levels of the table.
        active: How many levels take part.
        smoothstep: How to interpolate.
    """
    differentiable = torch.is_grad_enabled()
    if not differentiable:
        points, table = points.detach(), table.detach()
    with torch.enable_grad():
        # A view is a node of its own: asked for points itself, autograd would add the path through the features.
        x = points.view_as(points) if points.requires_grad else points.detach().requires_grad_()
        features = encode(points, table, levels, active, smoothstep)
        if not features.requires_grad:
            features.requires_grad_()
        value = head(x, features)
        by_x, by_features = torch.autograd.grad(
            value, (x, features), torch.ones_like(value), create_graph=differentiable, materialize_grads=True
        )
        normal = by_x + pull(points, table, by_features, levels, active, smoothstep)
    return (value, normal) if differentiable else (value.detach(), normal.detach())


def softplus(x: Float[Tensor, "*n"], beta: float = 1.0) -> Float[Tensor, "*n"]:
    """Return ``log(1 + exp(beta x)) / beta``, differentiable any number of times.

    One pass makes the value and its derivative; there is no threshold above which it is called linear, and no slow
    denormal numbers below.

    Args:
        x: Any floating-point tensor.
        beta: Sharpness, positive.

    Raises:
        ValueError: if ``beta`` is not positive.
    """
    check_range("beta", beta, 1e-12)
    name = choose(x.device.type) if x.dtype in (torch.float32, torch.float64) else "reference"
    return _Softplus.apply(x, beta, name)[0]


class _Encode(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, grid: HashGrid, name: str) -> Tensor:
        _keep(ctx, (x, table), grid, name)
        return load(name, "hash_grid").forward(x, table, grid, None)

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        if g is None:
            return None, None, None, None
        x, table = ctx.saved_tensors
        by_x = _Pull.apply(x, table, g, ctx.grid, ctx.name) if ctx.needs_input_grad[0] else None
        by_table = _Scatter.apply(x, g, ctx.grid, ctx.name) if ctx.needs_input_grad[1] else None
        return by_x, by_table, None, None


class _Pull(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, g: Tensor, grid: HashGrid, name: str) -> Tensor:
        _keep(ctx, (x, table, g), grid, name)
        return load(name, "hash_grid").pull(x, table, g, grid, None)

    @staticmethod
    def backward(ctx: Any, v: Tensor | None) -> tuple[Tensor | None, ...]:
        if v is None:
            return None, None, None, None, None
        # Gradients are enabled here only for a third derivative, which raw kernels would cut off silently.
        raw = load("reference" if torch.is_grad_enabled() else ctx.name, "hash_grid")
        x, table, g = ctx.saved_tensors
        by_x = raw.pull(x, table, g, ctx.grid, v) if ctx.needs_input_grad[0] else None
        by_table = raw.scatter(x, g, ctx.grid, v) if ctx.needs_input_grad[1] else None
        by_g = raw.forward(x, table, ctx.grid, v) if ctx.needs_input_grad[2] else None
        return by_x, by_table, by_g, None, None


class _Scatter(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor, grid: HashGrid, name: str) -> Tensor:
        _keep(ctx, (x, g), grid, name)
        return load(name, "hash_grid").scatter(x, g, grid, None)

    @staticmethod
    def backward(ctx: Any, u: Tensor | None) -> tuple[Tensor | None, ...]:
        if u is None:
            return None, None, None, None
        x, g = ctx.saved_tensors
        by_x = _Pull.apply(x, u, g, ctx.grid, ctx.name) if ctx.needs_input_grad[0] else None
        by_g = _Encode.apply(x, u, ctx.grid, ctx.name) if ctx.needs_input_grad[1] else None
        return by_x, by_g, None, None


class _Softplus(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, beta: float, name: str) -> tuple[Tensor, Tensor]:
        value, slope = load(name, "softplus").softplus(x, beta)
        ctx.save_for_backward(slope)
        ctx.beta = beta
        ctx.set_materialize_grads(False)
        return value, slope

    @staticmethod
    def backward(ctx: Any, by_value: Tensor | None, by_slope: Tensor | None) -> tuple[Tensor | None, None, None]:
        (slope,) = ctx.saved_tensors
        total = None if by_value is None else by_value * slope
        if by_slope is not None:
            curved = by_slope * (ctx.beta * slope * (1 - slope))
            total = curved if total is None else total + curved
        return total, None, None


def _keep(ctx: Any, tensors: tuple[Tensor, ...], grid: HashGrid, name: str) -> None:
    # Backward may run in a thread that does not know which back end was asked for.
    ctx.save_for_backward(*tensors)
    ctx.grid, ctx.name = grid, name
    ctx.set_materialize_grads(False)


def _grid(levels: HashLevels, active: int | None, smoothstep: bool) -> HashGrid:
    active = levels.num_levels if active is None else active
    check_range("active", active, 0, levels.num_levels)
    return HashGrid(levels, active, smoothstep)


def _inside(points: Tensor, like: Tensor) -> Tensor:
    return points.to(like.dtype).clamp(0, 1)


def _check(points: Tensor, table: Tensor, grid: HashGrid) -> None:
    check_shape("points", points, (None, 3))
    check_shape("table", table, (grid.levels.rows, grid.levels.features))
    _check_type("table", table)
    if points.device != table.device:
        raise ValueError(f"points are on {points.device} and table is on {table.device}; move one of them.")


def _check_type(name: str, value: Tensor) -> None:
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} must be float32 or float64, got {value.dtype}; half loses second derivatives.")
