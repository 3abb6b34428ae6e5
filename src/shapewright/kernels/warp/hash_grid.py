"""Hash grid in Warp; formulas in ``reference/hash_grid.py``.

Threads that share a level run together, so that one level stays in the second-level cache. Only ``scatter`` needs
atomic additions. Derivatives are written by hand: Warp's own are of first order only (NVIDIA/warp#72).
"""

from functools import lru_cache
from typing import Any

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor

from shapewright.kernels.levels import HashGrid, HashLevels
from shapewright.kernels.warp.device import launch

wp.set_module_options({"enable_backward": False})

PRIME_Y = wp.constant(wp.uint32(2654435761))
PRIME_Z = wp.constant(wp.uint32(805459861))


@wp.func
def locate(x: Any, scale: Any, offset: Any, resolution: wp.int32, dense: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the cell along an axis, and the place in it."""
    p = x * scale + offset
    cell = wp.int32(p)
    if dense != 0:
        cell = wp.clamp(cell, 0, resolution - 2)
    return cell, p - type(p)(cell)


@wp.func
def upper(r: Any, scale: Any, smooth: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the weight of the upper corner along an axis, and its first and second derivative by position."""
    if smooth != 0:
        b = r * r * (type(r)(3.0) - r - r)
        a = scale * type(r)(6.0) * (r - r * r)
        c = scale * scale * type(r)(6.0) * (type(r)(1.0) - r - r)
        return b, a, c
    return r, scale, type(r)(0.0)


@wp.func
def side(b: Any, bit: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the weight of the corner on one side."""
    return wp.where(bit == 1, b, type(b)(1.0) - b)


@wp.func
def signed(a: Any, bit: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the derivative of the weight of the corner on one side."""
    return wp.where(bit == 1, a, -a)


@wp.func
def find_row(ix: wp.int32, iy: wp.int32, iz: wp.int32, levels: wp.array2d(dtype=wp.int32), level: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the row of a vertex."""
    start, resolution, size, dense = levels[level, 0], levels[level, 1], levels[level, 2], levels[level, 3]
    if dense != 0:
        return start + ix + resolution * (iy + resolution * iz)
    h = wp.uint32(ix) ^ (wp.uint32(iy) * PRIME_Y) ^ (wp.uint32(iz) * PRIME_Z)
    return start + wp.int32(h & wp.uint32(size - 1))


@wp.func
def weight_along(bx: Any, by: Any, bz: Any, dx: Any, dy: Any, dz: Any, along: wp.int32):  # noqa: ANN201 - Warp infers it
    """Return the product of the weights, or its derivative along a direction if asked for."""
    if along != 0:
        return dx * by * bz + bx * (dy * bz + by * dz)
    return bx * by * bz


@wp.kernel
def forward_kernel(
    x: wp.array2d(dtype=Any),
    table: wp.array2d(dtype=Any),
    v: wp.array2d(dtype=Any),
    y: wp.array2d(dtype=Any),
    scales: wp.array2d(dtype=Any),
    levels: wp.array2d(dtype=wp.int32),
    smooth: wp.int32,
    along: wp.int32,
) -> None:
    """One thread for each level, point and feature."""
    level, n, f = wp.tid()
    scale, offset = scales[level, 0], scales[level, 1]
    ix, rx = locate(x[n, 0], scale, offset, levels[level, 1], levels[level, 3])
    iy, ry = locate(x[n, 1], scale, offset, levels[level, 1], levels[level, 3])
    iz, rz = locate(x[n, 2], scale, offset, levels[level, 1], levels[level, 3])
    bx, ax, _ = upper(rx, scale, smooth)
    by, ay, _ = upper(ry, scale, smooth)
    bz, az, _ = upper(rz, scale, smooth)
    if along != 0:
        ax, ay, az = ax * v[n, 0], ay * v[n, 1], az * v[n, 2]
    total = type(scale)(0.0)
    for corner in range(8):
        ox, oy, oz = corner & 1, (corner >> 1) & 1, corner >> 2
        row = find_row(ix + ox, iy + oy, iz + oz, levels, level)
        w = weight_along(
            side(bx, ox), side(by, oy), side(bz, oz), signed(ax, ox), signed(ay, oy), signed(az, oz), along
        )
        total += w * table[row, f]
    y[n, level * table.shape[1] + f] = total


@wp.kernel
def scatter_kernel(
    x: wp.array2d(dtype=Any),
    g: wp.array2d(dtype=Any),
    v: wp.array2d(dtype=Any),
    out: wp.array2d(dtype=Any),
    scales: wp.array2d(dtype=Any),
    levels: wp.array2d(dtype=wp.int32),
    smooth: wp.int32,
    along: wp.int32,
) -> None:
    """One thread for each level, point and feature; additions are atomic, in any order."""
    level, n, f = wp.tid()
    scale, offset = scales[level, 0], scales[level, 1]
    ix, rx = locate(x[n, 0], scale, offset, levels[level, 1], levels[level, 3])
    iy, ry = locate(x[n, 1], scale, offset, levels[level, 1], levels[level, 3])
    iz, rz = locate(x[n, 2], scale, offset, levels[level, 1], levels[level, 3])
    bx, ax, _ = upper(rx, scale, smooth)
    by, ay, _ = upper(ry, scale, smooth)
    bz, az, _ = upper(rz, scale, smooth)
    if along != 0:
        ax, ay, az = ax * v[n, 0], ay * v[n, 1], az * v[n, 2]
    amount = g[n, level * out.shape[1] + f]
    for corner in range(8):
        ox, oy, oz = corner & 1, (corner >> 1) & 1, corner >> 2
        row = find_row(ix + ox, iy + oy, iz + oz, levels, level)
        w = weight_along(
            side(bx, ox), side(by, oy), side(bz, oz), signed(ax, ox), signed(ay, oy), signed(az, oz), along
        )
        wp.atomic_add(out, row, f, w * amount)


@wp.kernel
def pull_kernel(
    x: wp.array2d(dtype=Any),
    table: wp.array2d(dtype=Any),
    g: wp.array2d(dtype=Any),
    v: wp.array2d(dtype=Any),
    out: wp.array2d(dtype=Any),
    scales: wp.array2d(dtype=Any),
    levels: wp.array2d(dtype=wp.int32),
    num_levels: wp.int32,
    smooth: wp.int32,
    along: wp.int32,
) -> None:
    """One thread for each point."""
    n = wp.tid()
    sx, sy, sz = type(x[n, 0])(0.0), type(x[n, 0])(0.0), type(x[n, 0])(0.0)
    vx, vy, vz = v[n, 0], v[n, 1], v[n, 2]
    features = table.shape[1]
    for level in range(num_levels):
        scale, offset = scales[level, 0], scales[level, 1]
        ix, rx = locate(x[n, 0], scale, offset, levels[level, 1], levels[level, 3])
        iy, ry = locate(x[n, 1], scale, offset, levels[level, 1], levels[level, 3])
        iz, rz = locate(x[n, 2], scale, offset, levels[level, 1], levels[level, 3])
        ux, ax, cx = upper(rx, scale, smooth)
        uy, ay, cy = upper(ry, scale, smooth)
        uz, az, cz = upper(rz, scale, smooth)
        for corner in range(8):
            ox, oy, oz = corner & 1, (corner >> 1) & 1, corner >> 2
            row = find_row(ix + ox, iy + oy, iz + oz, levels, level)
            q = type(scale)(0.0)
            for f in range(features):
                q += table[row, f] * g[n, level * features + f]
            bx, by, bz = side(ux, ox), side(uy, oy), side(uz, oz)
            dx, dy, dz = signed(ax, ox), signed(ay, oy), signed(az, oz)
            if along == 0:
                sx += q * dx * by * bz
                sy += q * bx * dy * bz
                sz += q * bx * by * dz
            else:
                sx += q * (vx * signed(cx, ox) * by * bz + dx * (vy * dy * bz + vz * by * dz))
                sy += q * (vy * bx * signed(cy, oy) * bz + dy * (vx * dx * bz + vz * bx * dz))
                sz += q * (vz * bx * by * signed(cz, oz) + dz * (vx * dx * by + vy * bx * dy))
    out[n, 0] = sx
    out[n, 1] = sy
    out[n, 2] = sz


@lru_cache(maxsize=32)
def _tables(levels: HashLevels, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    scales = torch.tensor([(scale, levels.offset) for scale in levels.scales], dtype=dtype, device=device)
    columns = zip(levels.starts, levels.resolutions, levels.sizes, levels.dense, strict=True)
    return scales, torch.tensor([tuple(map(int, row)) for row in columns], dtype=torch.int32, device=device)


def _options(grid: HashGrid, v: Tensor | None) -> tuple[int, int]:
    return int(grid.smoothstep), int(v is not None)


def forward(
    x: Float[Tensor, "n 3"], table: Float[Tensor, "rows features"], grid: HashGrid, v: Float[Tensor, "n 3"] | None
) -> Float[Tensor, "n width"]:
    """Return ``W(x) t``, or ``J v`` if ``v`` is given."""
    y = x.new_zeros(len(x), grid.levels.width)
    tables = _tables(grid.levels, x.dtype, x.device)
    size = grid.active, len(x), grid.levels.features
    launch(forward_kernel, size, (x, table, x if v is None else v, y, *tables, *_options(grid, v)), x.device)
    return y


def pull(
    x: Float[Tensor, "n 3"],
    table: Float[Tensor, "rows features"],
    g: Float[Tensor, "n width"],
    grid: HashGrid,
    v: Float[Tensor, "n 3"] | None,
) -> Float[Tensor, "n 3"]:
    """Return ``J^T g``, or its derivative by ``x`` contracted with ``v``."""
    out = x.new_empty(len(x), 3)
    tables = _tables(grid.levels, x.dtype, x.device)
    arguments = x, table, g, x if v is None else v, out, *tables, grid.active, *_options(grid, v)
    launch(pull_kernel, (len(x),), arguments, x.device)
    return out


def scatter(
    x: Float[Tensor, "n 3"], g: Float[Tensor, "n width"], grid: HashGrid, v: Float[Tensor, "n 3"] | None
) -> Float[Tensor, "rows features"]:
    """Return ``W(x)^T g``, or ``(dW.v)^T g`` if ``v`` is given."""
    out = x.new_zeros(grid.levels.rows, grid.levels.features)
    tables = _tables(grid.levels, x.dtype, x.device)
    size = grid.active, len(x), grid.levels.features
    launch(scatter_kernel, size, (x, g, x if v is None else v, out, *tables, *_options(grid, v)), x.device)
    return out
