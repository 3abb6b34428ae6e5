"""Hash grid on the CPU: numba loops over blocks of points, in three steps.

Step 1 finds the eight rows and the place in the cell for each point of a block (vectorised; the only step that tells
dense from hashed levels), step 2 turns places into weights or sums (vectorised), step 3 walks the table (scalar loads:
gather instructions are slow on many processors). Formulas: ``reference/hash_grid.py``. Along an axis, ``b`` is the
weight of the upper corner, ``a`` and ``c`` are its first and second derivative by position; corner ``4 z + 2 y + x``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from torch import Tensor

from shapewright.kernels.levels import HashGrid, HashLevels
from shapewright.kernels.pool import run_slices, run_tasks

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}
# Rows, places and weights of a block stay in the first-level cache; constant pitches let LLVM see that columns differ.
_BLOCK = np.uint64(256)
_P1, _P2, _P3, _P4, _P5, _P6, _P7 = (np.uint64(k * 256) for k in range(1, 8))
_U0, _U1, _U2, _U3, _U8 = (np.uint64(k) for k in (0, 1, 2, 3, 8))
_ONE = np.uint32(1)
_PRIME_Y = np.uint32(2654435761)
_PRIME_Z = np.uint32(805459861)


# Step 1: rows and places.


@njit(inline="always")
def _rows_dense(x, rows, b, first, count, scale, offset, start, resolution):
    # min after the cast is also the guard against NaN, whose integer is arbitrary.
    last = np.uint32(resolution - np.uint32(2))
    layer = np.uint32(resolution * resolution)
    for k in range(count):
        n = _U3 * (first + k)
        px, py, pz = x[n] * scale + offset, x[n + _U1] * scale + offset, x[n + _U2] * scale + offset
        ix = min(np.uint32(np.int32(px)), last)
        iy = min(np.uint32(np.int32(py)), last)
        iz = min(np.uint32(np.int32(pz)), last)
        b[k] = px - x.dtype.type(np.int32(ix))
        b[_P1 + k] = py - x.dtype.type(np.int32(iy))
        b[_P2 + k] = pz - x.dtype.type(np.int32(iz))
        row = np.uint32(start + np.uint32(ix + np.uint32(resolution * np.uint32(iy + np.uint32(resolution * iz)))))
        rows[k] = row
        rows[_P1 + k] = np.uint32(row + _ONE)
        rows[_P2 + k] = np.uint32(row + resolution)
        rows[_P3 + k] = np.uint32(row + np.uint32(resolution + _ONE))
        rows[_P4 + k] = np.uint32(row + layer)
        rows[_P5 + k] = np.uint32(row + np.uint32(layer + _ONE))
        rows[_P6 + k] = np.uint32(row + np.uint32(layer + resolution))
        rows[_P7 + k] = np.uint32(row + np.uint32(np.uint32(layer + resolution) + _ONE))


@njit(inline="always")
def _rows_hashed(x, rows, b, first, count, scale, offset, start, mask):
    for k in range(count):
        n = _U3 * (first + k)
        px, py, pz = x[n] * scale + offset, x[n + _U1] * scale + offset, x[n + _U2] * scale + offset
        jx, jy, jz = np.int32(px), np.int32(py), np.int32(pz)
        b[k] = px - x.dtype.type(jx)
        b[_P1 + k] = py - x.dtype.type(jy)
        b[_P2 + k] = pz - x.dtype.type(jz)
        x0, y0, z0 = np.uint32(jx), np.uint32(np.uint32(jy) * _PRIME_Y), np.uint32(np.uint32(jz) * _PRIME_Z)
        x1, y1, z1 = np.uint32(x0 + _ONE), np.uint32(y0 + _PRIME_Y), np.uint32(z0 + _PRIME_Z)
        rows[k] = np.uint32(start + np.uint32((x0 ^ y0 ^ z0) & mask))
        rows[_P1 + k] = np.uint32(start + np.uint32((x1 ^ y0 ^ z0) & mask))
        rows[_P2 + k] = np.uint32(start + np.uint32((x0 ^ y1 ^ z0) & mask))
        rows[_P3 + k] = np.uint32(start + np.uint32((x1 ^ y1 ^ z0) & mask))
        rows[_P4 + k] = np.uint32(start + np.uint32((x0 ^ y0 ^ z1) & mask))
        rows[_P5 + k] = np.uint32(start + np.uint32((x1 ^ y0 ^ z1) & mask))
        rows[_P6 + k] = np.uint32(start + np.uint32((x0 ^ y1 ^ z1) & mask))
        rows[_P7 + k] = np.uint32(start + np.uint32((x1 ^ y1 ^ z1) & mask))


@njit(inline="always")
def _cells(x, rows, bac, first, count, scale, offset, level, smooth):
    """Fill the rows and, in the three parts of ``bac``, the upper weights and their derivatives by position."""
    b, a, c = bac[0], bac[1], bac[2]
    start, resolution, size, dense = level[0], level[1], level[2], level[3]
    if dense:
        _rows_dense(x, rows, b, first, count, scale, offset, start, resolution)
    else:
        _rows_hashed(x, rows, b, first, count, scale, offset, start, np.uint32(size - _ONE))
    if smooth:
        one, three, six = x.dtype.type(1), x.dtype.type(3), x.dtype.type(6)
        for k in range(b.size):
            r = b[k]
            b[k] = r * r * (three - r - r)
            a[k] = scale * six * (r - r * r)
            c[k] = scale * scale * six * (one - r - r)


# Step 2: weights of the corners, and sums over corners of one number at each.


@njit(inline="always")
def _weights(b, w, count):
    one = b.dtype.type(1)
    for k in range(count):
        x1, y1, z1 = b[k], b[_P1 + k], b[_P2 + k]
        x0, y0, z0 = one - x1, one - y1, one - z1
        w[k], w[_P1 + k] = x0 * (y0 * z0), x1 * (y0 * z0)
        w[_P2 + k], w[_P3 + k] = x0 * (y1 * z0), x1 * (y1 * z0)
        w[_P4 + k], w[_P5 + k] = x0 * (y0 * z1), x1 * (y0 * z1)
        w[_P6 + k], w[_P7 + k] = x0 * (y1 * z1), x1 * (y1 * z1)


@njit(inline="always")
def _weights_along(b, a, v, w, first, count):
    one = b.dtype.type(1)
    for k in range(count):
        n = _U3 * (first + k)
        x1, y1, z1 = b[k], b[_P1 + k], b[_P2 + k]
        x0, y0, z0 = one - x1, one - y1, one - z1
        dx, dy, dz = v[n] * a[k], v[n + _U1] * a[_P1 + k], v[n + _U2] * a[_P2 + k]
        yz = dx * (y0 * z0), dx * (y1 * z0), dx * (y0 * z1), dx * (y1 * z1)
        s00, s10 = -(dy * z0 + dz * y0), dy * z0 - dz * y1
        s01, s11 = dz * y0 - dy * z1, dy * z1 + dz * y1
        w[k], w[_P1 + k] = x0 * s00 - yz[0], x1 * s00 + yz[0]
        w[_P2 + k], w[_P3 + k] = x0 * s10 - yz[1], x1 * s10 + yz[1]
        w[_P4 + k], w[_P5 + k] = x0 * s01 - yz[2], x1 * s01 + yz[2]
        w[_P6 + k], w[_P7 + k] = x0 * s11 - yz[3], x1 * s11 + yz[3]


@njit(inline="always")
def _slope(q, b, a, out, first, count):
    for k in range(count):
        y, z = b[_P1 + k], b[_P2 + k]
        d00, d10 = q[_P1 + k] - q[k], q[_P3 + k] - q[_P2 + k]
        d01, d11 = q[_P5 + k] - q[_P4 + k], q[_P7 + k] - q[_P6 + k]
        m00, m10 = q[k] + b[k] * d00, q[_P2 + k] + b[k] * d10
        m01, m11 = q[_P4 + k] + b[k] * d01, q[_P6 + k] + b[k] * d11
        dx0, dx1 = d00 + y * (d10 - d00), d01 + y * (d11 - d01)
        n = _U3 * (first + k)
        out[n] += a[k] * (dx0 + z * (dx1 - dx0))
        out[n + _U1] += a[_P1 + k] * (m10 - m00 + z * ((m11 - m01) - (m10 - m00)))
        out[n + _U2] += a[_P2 + k] * (m01 + y * (m11 - m01) - (m00 + y * (m10 - m00)))


@njit(inline="always")
def _slope_along(q, b, a, c, v, out, first, count):
    for k in range(count):
        y, z = b[_P1 + k], b[_P2 + k]
        d00, d10 = q[_P1 + k] - q[k], q[_P3 + k] - q[_P2 + k]
        d01, d11 = q[_P5 + k] - q[_P4 + k], q[_P7 + k] - q[_P6 + k]
        m00, m10 = q[k] + b[k] * d00, q[_P2 + k] + b[k] * d10
        m01, m11 = q[_P4 + k] + b[k] * d01, q[_P6 + k] + b[k] * d11
        dx0, dx1 = d00 + y * (d10 - d00), d01 + y * (d11 - d01)
        dy0, dy1 = m10 - m00, m11 - m01
        n = _U3 * (first + k)
        vx, vy, vz = v[n], v[n + _U1], v[n + _U2]
        ax, ay, az = a[k], a[_P1 + k], a[_P2 + k]
        xy = ax * ay * (d10 - d00 + z * ((d11 - d01) - (d10 - d00)))
        xz = ax * az * (dx1 - dx0)
        yz = ay * az * (dy1 - dy0)
        out[n] += c[k] * (dx0 + z * (dx1 - dx0)) * vx + xy * vy + xz * vz
        out[n + _U1] += xy * vx + c[_P1 + k] * (dy0 + z * (dy1 - dy0)) * vy + yz * vz
        out[n + _U2] += xz * vx + yz * vy + c[_P2 + k] * (m01 + y * dy1 - (m00 + y * dy0)) * vz


# Step 3: the table. Two features, the usual case, are written out: a row is read and written as one vector of two
# numbers, which LLVM does not find by itself and which takes a third less time.


def _element(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [index])


def _as_row(context: Any, builder: Any, array_type: Any, array: Any, row: Any) -> Any:
    number = context.get_value_type(array_type.dtype)
    table = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(table, ir.VectorType(number, 2).as_pointer()), [row])


def _pair_of(builder: Any, first: Any, second: Any) -> Any:
    pair = ir.Constant(ir.VectorType(first.type, 2), ir.Undefined)
    pair = builder.insert_element(pair, first, ir.Constant(ir.IntType(32), 0))
    return builder.insert_element(pair, second, ir.Constant(ir.IntType(32), 1))


@intrinsic
def _sum_rows(_typing: Any, table: Any, rows: Any, w: Any, k: Any) -> tuple[Any, Callable[..., Any]]:
    """Return ``sum_c w[c] table[rows[c]]`` over the eight corners of point ``k``."""

    def _generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        table_type, rows_type, w_type, _ = signature.args
        total = None
        for corner in range(8):
            place = builder.add(values[3], ir.Constant(ir.IntType(64), corner * int(_BLOCK)))
            row = builder.zext(builder.load(_element(context, builder, rows_type, values[1], place)), ir.IntType(64))
            weight = builder.load(_element(context, builder, w_type, values[2], place))
            pair = builder.load(_as_row(context, builder, table_type, values[0], row), align=4)
            part = builder.fmul(_pair_of(builder, weight, weight), pair, flags=("contract",))
            total = part if total is None else builder.fadd(total, part, flags=("contract",))
        halves = [builder.extract_element(total, ir.Constant(ir.IntType(32), f)) for f in range(2)]
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(table.dtype, 2)(table, rows, w, k), _generate


@intrinsic
def _add_row(_typing: Any, out: Any, row: Any, weight: Any, g0: Any, g1: Any) -> tuple[Any, Callable[..., Any]]:
    """Add ``weight (g0, g1)`` to a row."""

    def _generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = _as_row(context, builder, signature.args[0], values[0], values[1])
        weights, amounts = _pair_of(builder, values[2], values[2]), _pair_of(builder, values[3], values[4])
        part = builder.fmul(weights, amounts, flags=("contract",))
        builder.store(builder.fadd(builder.load(place, align=4), part, flags=("contract",)), place, align=4)
        return context.get_dummy_value()

    return types.void(out, row, weight, g0, g1), _generate


@njit(inline="always")
def _read(table, rows, w, y, features, column, first, count):
    if features == _U2:
        for k in range(count):
            place = (first + k) * column[1] + column[0]
            y[place], y[place + _U1] = _sum_rows(table, rows, w, k)
        return
    for k in range(count):
        for f in range(features):
            s = table.dtype.type(0)
            for corner in range(_U8):
                s += w[corner * _BLOCK + k] * table[features * np.uint64(rows[corner * _BLOCK + k]) + f]
            y[(first + k) * column[1] + column[0] + f] = s


@njit(inline="always")
def _dot(table, rows, g, q, features, column, first, count):
    if features == _U2:
        for k in range(count):
            place = (first + k) * column[1] + column[0]
            g0, g1 = g[place], g[place + _U1]
            for corner in range(_U8):
                row = _U2 * np.uint64(rows[corner * _BLOCK + k])
                q[corner * _BLOCK + k] = table[row] * g0 + table[row + _U1] * g1
        return
    for k in range(count):
        place = (first + k) * column[1] + column[0]
        for corner in range(_U8):
            s = table.dtype.type(0)
            for f in range(features):
                s += table[features * np.uint64(rows[corner * _BLOCK + k]) + f] * g[place + f]
            q[corner * _BLOCK + k] = s


@njit(inline="always")
def _add(out, rows, w, g, features, column, first, count, low, span):
    # Only rows low .. low + span belong to this task; the difference wraps around for rows below.
    if features == _U2:
        for k in range(count):
            place = (first + k) * column[1] + column[0]
            g0, g1 = g[place], g[place + _U1]
            for corner in range(_U8):
                if np.uint32(rows[corner * _BLOCK + k] - low) < span:
                    _add_row(out, np.uint64(rows[corner * _BLOCK + k]), w[corner * _BLOCK + k], g0, g1)
        return
    for k in range(count):
        place = (first + k) * column[1] + column[0]
        for corner in range(_U8):
            if np.uint32(rows[corner * _BLOCK + k] - low) < span:
                row = features * np.uint64(rows[corner * _BLOCK + k])
                for f in range(features):
                    out[row + f] += w[corner * _BLOCK + k] * g[place + f]


# The kernel: all points of a range, one level after the other, so that a level's rows stay in cache. One function does
# the three jobs, because the steps are compiled anew for every function that calls them.

_FORWARD, _PULL, _SCATTER = (np.uint64(k) for k in range(3))


@njit(**_OPTIONS)
def _run(job, x, table, g, v, out, tables, options, levels, points, shard, scratch):
    scales, offset, columns = tables
    features, smooth = options
    rows, w, bac = scratch
    width = features * np.uint64(scales.size)
    for level in range(levels[0], levels[1]):
        bac[1] = scales[level]
        column = features * level, width
        for first in range(points[0], points[1], _BLOCK):
            count = min(_BLOCK, points[1] - first)
            _cells(x, rows, bac, first, count, scales[level], offset, columns[level], smooth)
            if job == _PULL:
                _dot(table, rows, g, w, features, column, first, count)
                if v.size:
                    _slope_along(w, bac[0], bac[1], bac[2], v, out, first, count)
                else:
                    _slope(w, bac[0], bac[1], out, first, count)
                continue
            if v.size:
                _weights_along(bac[0], bac[1], v, w, first, count)
            else:
                _weights(bac[0], w, count)
            if job == _FORWARD:
                _read(table, rows, w, out, features, column, first, count)
            else:
                _add(out, rows, w, g, features, column, first, count, shard[0], shard[1])


# Entry points, called by ops.py. Results are made by numpy, which asks for huge pages (a third off a scatter into
# 49 MB) and, unlike torch, does not start a team of OpenMP threads that then spin beside ours.


def _real(dtype: torch.dtype) -> np.dtype:
    return np.dtype(str(dtype).removeprefix("torch."))


@lru_cache(maxsize=32)
def _tables(levels: HashLevels, real: np.dtype) -> tuple[np.ndarray, np.floating, np.ndarray]:
    columns = np.array([levels.starts, levels.resolutions, levels.sizes, levels.dense], np.uint32)
    return np.array(levels.scales, real), real.type(levels.offset), columns.T.copy()


def _flat(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().view(-1).numpy()


def _pair(first: int, second: int) -> tuple[np.uint64, np.uint64]:
    return np.uint64(first), np.uint64(second)


class _Call:
    """One of the three jobs with its arrays: flat, and alive until the job is done."""

    def __init__(
        self,
        job: np.uint64,
        x: Tensor,
        grid: HashGrid,
        out: np.ndarray,
        table: Tensor | None = None,
        g: Tensor | None = None,
        v: Tensor | None = None,
    ) -> None:
        self.grid, self.real = grid, out.dtype
        inputs = [np.empty(0, out.dtype) if tensor is None else _flat(tensor) for tensor in (x, table, g, v)]
        options = np.uint64(grid.levels.features), grid.smoothstep
        self.arguments = job, *inputs, out.reshape(-1), _tables(grid.levels, out.dtype), options

    def run(self, levels: tuple[int, int], points: tuple[int, int], shard: tuple[int, int] = (0, 0)) -> None:
        """Work on a range of levels and points; a scatter writes only ``shard[1]`` rows from ``shard[0]``."""
        scratch = np.empty(8 * 256, np.uint32), np.empty(8 * 256, self.real), np.zeros((3, 3 * 256), self.real)
        owned = np.uint32(shard[0]), np.uint32(shard[1])
        _run(*self.arguments, _pair(*levels), _pair(*points), owned, scratch)

    def run_points(self, count: int) -> None:
        """Work on all active levels, in ranges of whole blocks, so that results do not depend on where ranges end.

        Ranges are few and long, because every range reads the table into the cache anew.
        """
        size = int(_BLOCK)
        num_blocks = -(-count // size)

        def job(begin: int, end: int) -> None:
            self.run((0, self.grid.active), (begin * size, min(end * size, count)))

        run_slices(num_blocks, job, max(8, num_blocks // (2 * torch.get_num_threads())))


def forward(
    x: Float[Tensor, "n 3"], table: Float[Tensor, "rows features"], grid: HashGrid, v: Float[Tensor, "n 3"] | None
) -> Float[Tensor, "n width"]:
    """Return ``W(x) t``, or ``J v`` if ``v`` is given."""
    make = np.empty if grid.active == grid.levels.num_levels else np.zeros
    y = make((len(x), grid.levels.width), _real(x.dtype))
    _Call(_FORWARD, x, grid, y, table=table, v=v).run_points(len(x))
    return torch.from_numpy(y)


def pull(
    x: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    g: Float[Tensor, "n width"],
    grid: HashGrid,
    v: Float[Tensor, "n 3"] | None,
) -> Float[Tensor, "n 3"]:
    """Return ``J^T g``, or its derivative by ``x`` contracted with ``v``."""
    out = np.zeros((len(x), 3), _real(x.dtype))
    _Call(_PULL, x, grid, out, table=table, g=g, v=v).run_points(len(x))
    return torch.from_numpy(out)


def scatter(
    x: Float[Tensor, "n 3"], g: Float[Tensor, "n width"], grid: HashGrid, v: Float[Tensor, "n 3"] | None
) -> Float[Tensor, "rows features"]:
    """Return ``W(x)^T g``, or ``(dW.v)^T g`` if ``v`` is given.

    A task owns a range of rows of one level, so there are no atomics and additions come in the order of the points.
    """
    out = np.zeros((grid.levels.rows, grid.levels.features), _real(x.dtype))
    call = _Call(_SCATTER, x, grid, out, g=g, v=v)
    num_shards = 1 if len(x) < 2**14 else max(1, 2 * torch.get_num_threads() // max(grid.active, 1))
    tasks = []
    for level in range(grid.active):
        start, size = grid.levels.starts[level], grid.levels.sizes[level]
        edges = [start + size * shard // num_shards for shard in range(num_shards + 1)]
        for low, high in pairwise(edges):
            tasks.append(partial(call.run, (level, level + 1), (0, len(x)), (low, high - low)))
    run_tasks(tasks)
    return torch.from_numpy(out)
