"""Numba kernels of the fused value and normal of a small SDF network on a hash grid.

Arrays are feature-major: ``[channels, samples]``, so every inner loop runs over samples. A range ``[lo, hi)`` of
samples is worked on, which lets callers slice. Two features per level are written out. The formulas are those of
``kernels.reference.grid_sdf``, which is the test oracle.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}
# Sums may be reordered into vector lanes; NaN and infinity keep their meaning.
_REDUCTION = {**_OPTIONS, "fastmath": {"contract", "reassoc", "nsz"}}
_PRIME_Y = np.uint32(2654435761)
_PRIME_Z = np.uint32(805459861)
_ONE = np.uint32(1)
_TWO = np.uint32(2)


@njit(inline="always")
def _cell(points, axis, i, scale, last):
    """Return the cell's index, the fraction inside it, and the derivative of their sum, which is 0 beyond the cube."""
    half = points.dtype.type(0.5)
    zero = points.dtype.type(0.0)
    one = points.dtype.type(1.0)
    position = points[axis, i]
    x = min(max(position, zero), one)
    p = x * scale + half
    cell = min(np.uint32(p), last)
    return cell, p - points.dtype.type(cell), scale if x == position else zero


@njit(inline="always")
def _corner_rows(ix, iy, iz, resolution, start, mask):
    """Return the flat table offsets of the eight corners of a cell, corner bit 0 = x, 1 = y, 2 = z."""
    if mask == np.uint32(0):
        y0 = np.uint32(resolution * iy)
        y1 = np.uint32(y0 + resolution)
        z0 = np.uint32(resolution * np.uint32(resolution * iz))
        z1 = np.uint32(z0 + np.uint32(resolution * resolution))
        base = np.uint32(start + ix)
        r0 = np.uint32(base + np.uint32(y0 + z0))
        r2 = np.uint32(base + np.uint32(y1 + z0))
        r4 = np.uint32(base + np.uint32(y0 + z1))
        r6 = np.uint32(base + np.uint32(y1 + z1))
        r1, r3, r5, r7 = np.uint32(r0 + _ONE), np.uint32(r2 + _ONE), np.uint32(r4 + _ONE), np.uint32(r6 + _ONE)
    else:
        jx = np.uint32(ix + _ONE)
        y0 = np.uint32(iy * _PRIME_Y)
        y1 = np.uint32(y0 + _PRIME_Y)
        z0 = np.uint32(iz * _PRIME_Z)
        z1 = np.uint32(z0 + _PRIME_Z)
        r0 = np.uint32(((ix ^ y0 ^ z0) & mask) + start)
        r1 = np.uint32(((jx ^ y0 ^ z0) & mask) + start)
        r2 = np.uint32(((ix ^ y1 ^ z0) & mask) + start)
        r3 = np.uint32(((jx ^ y1 ^ z0) & mask) + start)
        r4 = np.uint32(((ix ^ y0 ^ z1) & mask) + start)
        r5 = np.uint32(((jx ^ y0 ^ z1) & mask) + start)
        r6 = np.uint32(((ix ^ y1 ^ z1) & mask) + start)
        r7 = np.uint32(((jx ^ y1 ^ z1) & mask) + start)
    return r0, r1, r2, r3, r4, r5, r6, r7


@njit(**_OPTIONS)
def encode_level(points, table, scale, resolution, start, mask, level, features, jacobian, lo, hi):
    """Write two features and their derivatives of one level.

    Arrays and numbers:
        points: ``[3, n]`` in [0, 1].
        table: flat table, two numbers a row.
        scale, resolution, start, mask: the level's constants; ``mask`` is 0 for a dense level, else ``rows - 1``.
        level: which level, so rows ``2 level`` and ``2 level + 1`` of the outputs.
        features: ``[channels, n]``, written.
        jacobian: ``[channels, 3, n]``, written; d feature / d point.
        lo, hi: the range of samples.
    """
    last = np.uint32(resolution - _TWO)
    for i in range(lo, hi):
        ix, rx, sx = _cell(points, 0, i, scale, last)
        iy, ry, sy = _cell(points, 1, i, scale, last)
        iz, rz, sz = _cell(points, 2, i, scale, last)
        r0, r1, r2, r3, r4, r5, r6, r7 = _corner_rows(ix, iy, iz, resolution, start, mask)
        for f in range(2):
            g = np.uint32(f)
            t0 = table[np.uint32(r0 * _TWO + g)]
            t2 = table[np.uint32(r2 * _TWO + g)]
            t4 = table[np.uint32(r4 * _TWO + g)]
            t6 = table[np.uint32(r6 * _TWO + g)]
            d0 = table[np.uint32(r1 * _TWO + g)] - t0
            d2 = table[np.uint32(r3 * _TWO + g)] - t2
            d4 = table[np.uint32(r5 * _TWO + g)] - t4
            d6 = table[np.uint32(r7 * _TWO + g)] - t6
            c0 = t0 + rx * d0
            c2 = t2 + rx * d2
            c4 = t4 + rx * d4
            c6 = t6 + rx * d6
            e0 = c2 - c0
            e1 = c6 - c4
            b0 = c0 + ry * e0
            b1 = c4 + ry * e1
            x0 = d0 + ry * (d2 - d0)
            x1 = d4 + ry * (d6 - d4)
            row = 2 * level + f
            features[row, i] = b0 + rz * (b1 - b0)
            jacobian[row, 0, i] = sx * (x0 + rz * (x1 - x0))
            jacobian[row, 1, i] = sy * (e0 + rz * (e1 - e0))
            jacobian[row, 2, i] = sz * (b1 - b0)


@njit(**_OPTIONS)
def encode_level_values(points, table, scale, resolution, start, mask, level, features, lo, hi):
    """Write two features of one level, without derivatives; arguments as in ``encode_level``."""
    last = np.uint32(resolution - _TWO)
    for i in range(lo, hi):
        ix, rx, _ = _cell(points, 0, i, scale, last)
        iy, ry, _ = _cell(points, 1, i, scale, last)
        iz, rz, _ = _cell(points, 2, i, scale, last)
        r0, r1, r2, r3, r4, r5, r6, r7 = _corner_rows(ix, iy, iz, resolution, start, mask)
        for f in range(2):
            g = np.uint32(f)
            t0 = table[np.uint32(r0 * _TWO + g)]
            t2 = table[np.uint32(r2 * _TWO + g)]
            t4 = table[np.uint32(r4 * _TWO + g)]
            t6 = table[np.uint32(r6 * _TWO + g)]
            c0 = t0 + rx * (table[np.uint32(r1 * _TWO + g)] - t0)
            c2 = t2 + rx * (table[np.uint32(r3 * _TWO + g)] - t2)
            c4 = t4 + rx * (table[np.uint32(r5 * _TWO + g)] - t4)
            c6 = t6 + rx * (table[np.uint32(r7 * _TWO + g)] - t6)
            b0 = c0 + ry * (c2 - c0)
            b1 = c4 + ry * (c6 - c4)
            features[2 * level + f, i] = b0 + rz * (b1 - b0)


@njit(**_OPTIONS)
def encode(points, table, scales, resolutions, starts, masks, features, jacobian):
    """Write features and derivatives of the levels whose constants are given, all samples; see ``encode_level``."""
    for level in range(scales.shape[0]):
        encode_level(
            points, table, scales[level], resolutions[level], starts[level], masks[level], level,
            features, jacobian, 0, points.shape[1],
        )  # fmt: skip


@njit(**_OPTIONS)
def encode_values(points, table, scales, resolutions, starts, masks, features):
    """Write features of the levels whose constants are given, all samples, without derivatives."""
    for level in range(scales.shape[0]):
        encode_level_values(
            points, table, scales[level], resolutions[level], starts[level], masks[level], level,
            features, 0, points.shape[1],
        )  # fmt: skip


@njit(**_OPTIONS)
def scatter_level(points, grad_features, pulled, direction, scale, resolution, start, mask, level, grad_table, lo, hi):
    """Add one level's share of ``W^T grad_features + (dW . direction)^T pulled`` to the flat table gradient.

    Where a position lies beyond the cube along an axis, that component of ``direction`` must be 0.
    Additions run in the order of the samples, so the sum does not depend on threads as long as one caller owns a level.
    """
    last = np.uint32(resolution - _TWO)
    one = points.dtype.type(1.0)
    for i in range(lo, hi):
        ix, rx, _ = _cell(points, 0, i, scale, last)
        iy, ry, _ = _cell(points, 1, i, scale, last)
        iz, rz, _ = _cell(points, 2, i, scale, last)
        r0, r1, r2, r3, r4, r5, r6, r7 = _corner_rows(ix, iy, iz, resolution, start, mask)
        qx, qy, qz = one - rx, one - ry, one - rz
        vx, vy, vz = scale * direction[0, i], scale * direction[1, i], scale * direction[2, i]
        # Weights of the four y-z corners and their derivative along the direction.
        w00, w10, w01, w11 = qy * qz, ry * qz, qy * rz, ry * rz
        v00 = -vy * qz - vz * qy
        v10 = vy * qz - vz * ry
        v01 = -vy * rz + vz * qy
        v11 = vy * rz + vz * ry
        for f in range(2):
            g = np.uint32(f)
            a = grad_features[2 * level + f, i]
            b = pulled[2 * level + f, i]
            grad_table[np.uint32(r0 * _TWO + g)] += a * qx * w00 + b * (qx * v00 - vx * w00)
            grad_table[np.uint32(r1 * _TWO + g)] += a * rx * w00 + b * (rx * v00 + vx * w00)
            grad_table[np.uint32(r2 * _TWO + g)] += a * qx * w10 + b * (qx * v10 - vx * w10)
            grad_table[np.uint32(r3 * _TWO + g)] += a * rx * w10 + b * (rx * v10 + vx * w10)
            grad_table[np.uint32(r4 * _TWO + g)] += a * qx * w01 + b * (qx * v01 - vx * w01)
            grad_table[np.uint32(r5 * _TWO + g)] += a * rx * w01 + b * (rx * v01 + vx * w01)
            grad_table[np.uint32(r6 * _TWO + g)] += a * qx * w11 + b * (qx * v11 - vx * w11)
            grad_table[np.uint32(r7 * _TWO + g)] += a * rx * w11 + b * (rx * v11 + vx * w11)


@njit(**_OPTIONS)
def pull_jacobian(jacobian, pulled, out):
    """Write ``out[d] = sum_c jacobian[c, d] pulled[c]``; the rows of ``pulled`` beyond the jacobian's are ignored."""
    channels, _, n = jacobian.shape
    for d in range(3):
        for i in range(n):
            out[d, i] = jacobian[0, d, i] * pulled[0, i]
    for c in range(1, channels):
        for d in range(3):
            for i in range(n):
                out[d, i] += jacobian[c, d, i] * pulled[c, i]


@njit(**_OPTIONS)
def push_jacobian(jacobian, direction, out):
    """Write ``out[c] = sum_d jacobian[c, d] direction[d]`` for the jacobian's channels."""
    channels, _, n = jacobian.shape
    for c in range(channels):
        for i in range(n):
            out[c, i] = (
                jacobian[c, 0, i] * direction[0, i]
                + jacobian[c, 1, i] * direction[1, i]
                + jacobian[c, 2, i] * direction[2, i]
            )


@njit(**_OPTIONS)
def squareplus_forward(pre, bias, eps, hidden, slope):
    """Write ``hidden = (z + r) / 2``, ``slope = (1 + z / r) / 2`` with ``z = pre + bias``, ``r = sqrt(z^2 + eps)``."""
    half = pre.dtype.type(0.5)
    one = pre.dtype.type(1.0)
    channels, n = pre.shape
    for c in range(channels):
        b = bias[c]
        for i in range(n):
            z = pre[c, i] + b
            r = np.sqrt(z * z + eps)
            hidden[c, i] = half * (z + r)
            slope[c, i] = half * (one + z / r)


@njit(**_OPTIONS)
def squareplus_value(pre, bias, eps):
    """Replace ``pre`` by ``squareplus(pre + bias)``."""
    half = pre.dtype.type(0.5)
    channels, n = pre.shape
    for c in range(channels):
        b = bias[c]
        for i in range(n):
            z = pre[c, i] + b
            pre[c, i] = half * (z + np.sqrt(z * z + eps))


@njit(inline="always")
def _curvature(slope, scale):
    """Return squareplus'' from squareplus': eps / (2 r^3) = (1 - q^2)^1.5 / (2 sqrt(eps)), q = 2 slope - 1."""
    # Doubling twice keeps the type of the argument, which has none to ask for its own constants.
    s = slope - slope * slope
    s = max(s + s + s + s, s - s)
    return scale * s * np.sqrt(s)


@njit(**_OPTIONS)
def first_layer_second_order(grad_outer, slope, inner, curvature_scale, grad_inner, grad_pre):
    """Write ``grad_inner = grad_outer * slope`` and ``grad_pre = grad_outer * inner * squareplus''``."""
    channels, n = slope.shape
    for c in range(channels):
        for i in range(n):
            s = slope[c, i]
            grad_inner[c, i] = grad_outer[c, i] * s
            grad_pre[c, i] = grad_outer[c, i] * inner[c, i] * _curvature(s, curvature_scale)


@njit(**_REDUCTION)
def second_layer_backward(grad_hidden, slope, grad_slope_input, weight, curvature_scale, grad_weight, grad_bias):
    """Turn ``grad_hidden`` into the gradient of the pre-activation of layer two, in place.

    ``grad_pre = grad_hidden * slope + weight * grad_slope_input * squareplus''``; adds ``sum grad_slope_input * slope``
    to ``grad_weight`` and ``sum grad_pre`` to ``grad_bias``.
    """
    channels, n = slope.shape
    for c in range(channels):
        w = weight[c]
        total_weight = slope.dtype.type(0.0)
        total_bias = slope.dtype.type(0.0)
        for i in range(n):
            s = slope[c, i]
            a = grad_slope_input[c, i]
            z = grad_hidden[c, i] * s + w * a * _curvature(s, curvature_scale)
            total_weight += a * s
            total_bias += z
            grad_hidden[c, i] = z
        grad_weight[c] += total_weight
        grad_bias[c] += total_bias


@njit(**_REDUCTION)
def first_layer_backward(grad_hidden, slope, grad_pre, grad_bias):
    """Write ``grad_pre += grad_hidden * slope`` and add its sums to ``grad_bias``."""
    channels, n = slope.shape
    for c in range(channels):
        total = grad_hidden.dtype.type(0.0)
        for i in range(n):
            z = grad_pre[c, i] + grad_hidden[c, i] * slope[c, i]
            grad_pre[c, i] = z
            total += z
        grad_bias[c] += total


@njit(**_OPTIONS)
def relu_forward(pre, bias):
    """Replace ``pre`` by ``max(pre + bias, 0)``."""
    zero = pre.dtype.type(0.0)
    channels, n = pre.shape
    for c in range(channels):
        b = bias[c]
        for i in range(n):
            pre[c, i] = max(pre[c, i] + b, zero)


@njit(**_REDUCTION)
def relu_backward(grad_hidden, hidden, grad_bias):
    """Zero ``grad_hidden`` where ``hidden`` is zero and add its sums to ``grad_bias``."""
    zero = hidden.dtype.type(0.0)
    channels, n = hidden.shape
    for c in range(channels):
        total = grad_hidden.dtype.type(0.0)
        for i in range(n):
            g = grad_hidden[c, i] if hidden[c, i] > zero else zero
            grad_hidden[c, i] = g
            total += g
        grad_bias[c] += total
