"""Numba kernel of flatness: the value and its derivative in one pass over the edges.

Images lie side by side in vectors of ``LANES``: all share the edges, so that nothing is gathered, and LLVM turns the
loop over lanes into vector instructions.
"""

from __future__ import annotations

import numpy as np
from numba import njit

LANES = 16
_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(inline="always")
def _side(ax, ay, az, aa, root_a, bx, by, bz, eps, one):
    """Return of an opposite vertex: a.b, its cosine, sqrt(|b|^2 + eps), sqrt(1 - cos^2 + eps), and the residual."""
    ab = ax * bx + ay * by + az * bz
    root_b = np.sqrt(bx * bx + by * by + bz * bz + eps)
    cosine = ab / (root_a * root_b + eps)
    sine = np.sqrt(max(one - cosine * cosine, eps - eps) + eps)
    along = ab / (aa + eps)
    return ab, cosine, root_b, sine, bx - ax * along, by - ay * along, bz - az * along


@njit(inline="always")
def _side_backward(ax, ay, az, aa, root_a, ab, cosine, root_b, sine, px, py, pz, by_length, eps, one):
    """Return the derivatives by a.b, by |b|^2, and by |a|^2, given those by the residual (p) and by the length.

    The derivative by b is ``p + by_ab a + 2 by_bb b``, that by a gets ``by_ab b + 2 by_aa a - along p``.
    """
    along, pa = ab / (aa + eps), (px * ax + py * ay + pz * az) / (aa + eps)
    by_cosine = -by_length * root_b * cosine / sine if one - cosine * cosine >= eps - eps else eps - eps
    inverse = one / (root_a * root_b + eps)
    by_product = -by_cosine * cosine * inverse
    half = one / (one + one)
    by_ab = by_cosine * inverse - pa
    by_bb = half * (by_length * sine + by_product * root_a) / root_b
    by_aa = pa * along + half * by_product * root_b / root_a
    return by_ab, by_bb, by_aa, along


@njit(inline="always")
def _edge(va, vb, vc, vd, eps, one, value, push):
    """Add the edge's costs to ``value [LANES]`` and write its derivatives by a, b1 and b2 to ``push [9, LANES]``."""
    for i in range(LANES):
        x, y, z = va[0, i], va[1, i], va[2, i]
        ax, ay, az = vb[0, i] - x, vb[1, i] - y, vb[2, i] - z
        bx, by, bz = vc[0, i] - x, vc[1, i] - y, vc[2, i] - z
        dx, dy, dz = vd[0, i] - x, vd[1, i] - y, vd[2, i] - z
        aa = ax * ax + ay * ay + az * az
        root = np.sqrt(aa + eps)
        ab, cos_b, root_b, sin_b, rx, ry, rz = _side(ax, ay, az, aa, root, bx, by, bz, eps, one)
        ad, cos_d, root_d, sin_d, sx, sy, sz = _side(ax, ay, az, aa, root, dx, dy, dz, eps, one)
        length_b, length_d = root_b * sin_b, root_d * sin_d
        inverse = one / (length_b * length_d + eps)
        c = (rx * sx + ry * sy + rz * sz) * inverse
        value[i] += (c + one) * (c + one)
        g = (one + one) * (c + one) * inverse
        by_ab, by_bb, by_aa, along = _side_backward(
            ax, ay, az, aa, root, ab, cos_b, root_b, sin_b, g * sx, g * sy, g * sz, -g * c * length_d, eps, one
        )
        by_ad, by_dd, by_aa2, along2 = _side_backward(
            ax, ay, az, aa, root, ad, cos_d, root_d, sin_d, g * rx, g * ry, g * rz, -g * c * length_b, eps, one
        )
        two_aa, two_bb, two_dd = (one + one) * (by_aa + by_aa2), (one + one) * by_bb, (one + one) * by_dd
        push[0, i] = by_ab * bx + by_ad * dx + two_aa * ax - g * (along * sx + along2 * rx)
        push[1, i] = by_ab * by + by_ad * dy + two_aa * ay - g * (along * sy + along2 * ry)
        push[2, i] = by_ab * bz + by_ad * dz + two_aa * az - g * (along * sz + along2 * rz)
        push[3, i] = g * sx + by_ab * ax + two_bb * bx
        push[4, i] = g * sy + by_ab * ay + two_bb * by
        push[5, i] = g * sz + by_ab * az + two_bb * bz
        push[6, i] = g * rx + by_ad * ax + two_dd * dx
        push[7, i] = g * ry + by_ad * ay + two_dd * dy
        push[8, i] = g * rz + by_ad * az + two_dd * dz


@njit(**_OPTIONS)
def flatness(vertices, edges, eps, one, value, grad, lo, hi):
    """Write the cost of each mesh of ``[lo, hi)`` and its derivative by the vertices.

    Arrays and numbers:
        vertices: ``[images, vertices, 3]``; edges: ``[edges, 4]``, all with two faces; eps and one: of the type of the
        vertices; value: ``[images]`` in float64; grad: as the vertices.
    """
    count = vertices.shape[1]
    points = np.zeros((count, 3, LANES), vertices.dtype)
    by_points = np.empty_like(points)
    push = np.empty((9, LANES), vertices.dtype)
    total = np.empty(LANES, np.float64)
    for first in range(lo, hi, LANES):
        used = min(LANES, hi - first)
        for lane in range(used):
            for v in range(count):
                for axis in range(3):
                    points[v, axis, lane] = vertices[first + lane, v, axis]
        by_points[:] = eps - eps
        total[:] = 0.0
        for e in range(edges.shape[0]):
            a, b, c, d = edges[e, 0], edges[e, 1], edges[e, 2], edges[e, 3]
            _edge(points[a], points[b], points[c], points[d], eps, one, total, push)
            for axis in range(3):
                for i in range(LANES):
                    by_points[b, axis, i] += push[axis, i]
                for i in range(LANES):
                    by_points[c, axis, i] += push[axis + 3, i]
                for i in range(LANES):
                    by_points[d, axis, i] += push[axis + 6, i]
                for i in range(LANES):
                    by_points[a, axis, i] -= push[axis, i] + push[axis + 3, i] + push[axis + 6, i]
        for lane in range(used):
            value[first + lane] = total[lane]
            for v in range(count):
                for axis in range(3):
                    grad[first + lane, v, axis] = by_points[v, axis, lane]
