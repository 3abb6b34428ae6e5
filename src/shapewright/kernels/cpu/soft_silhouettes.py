"""Numba kernels of soft silhouettes: every face covers each sample by a sigmoid of its distance, and all multiply.

Screens are ``[images, vertices, 3]`` in float64, x and y in samples, z the depth. Distances are measured in half
images. Every function loops over images ``[lo, hi)``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shapewright.kernels.cpu.rasterizer import OPTIONS, corners, face_area, sample_box


@njit(inline="always")
def _nearest_on_border(ax, ay, bx, by, cx, cy, x, y):
    """Return the squared distance of (x, y) to the border of a triangle, the nearest side, and where along it."""
    best, best_side, best_t = np.inf, 0, 0.0
    for side in range(3):
        if side == 0:
            ux, uy, vx, vy = ax, ay, bx, by
        elif side == 1:
            ux, uy, vx, vy = bx, by, cx, cy
        else:
            ux, uy, vx, vy = cx, cy, ax, ay
        dx, dy = vx - ux, vy - uy
        square = dx * dx + dy * dy
        t = ((x - ux) * dx + (y - uy) * dy) / square if square > 0.0 else 0.0
        t = min(max(t, 0.0), 1.0)
        qx, qy = x - ux - t * dx, y - uy - t * dy
        distance = qx * qx + qy * qy
        if distance < best:
            best, best_side, best_t = distance, side, t
    return best, best_side, best_t


@njit(inline="always")
def _is_inside(ax, ay, bx, by, cx, cy, x, y):
    a = (cx - bx) * (y - by) - (cy - by) * (x - bx)
    b = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
    c = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
    return (a >= 0.0 and b >= 0.0 and c >= 0.0) or (a <= 0.0 and b <= 0.0 and c <= 0.0)


@njit(**OPTIONS)
def soft_cover(screen, faces, near, sigma, cutoff, empty, lo, hi):
    """Multiply ``1 - sigmoid(+-d^2 / sigma)`` of every face into ``empty``, ``[images, n, n]`` filled with 1.

    Arrays and numbers:
        sigma: In squared half images; cutoff: outside, faces with a larger ``d^2 / sigma`` are left out.
    """
    n = empty.shape[1]
    scale = (2.0 / n) ** 2 / sigma
    margin = np.sqrt(cutoff / scale)
    for image in range(lo, hi):
        points = screen[image]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            if face_area(points, a, b, c, near) == 0.0:
                continue
            ax, ay, bx, by, cx, cy = corners(points, a, b, c)
            left, right, top, bottom = sample_box(ax, ay, bx, by, cx, cy, margin, n)
            for i in range(top, bottom + 1):
                for j in range(left, right + 1):
                    x, y = j + 0.5, i + 0.5
                    square, _, _ = _nearest_on_border(ax, ay, bx, by, cx, cy, x, y)
                    if _is_inside(ax, ay, bx, by, cx, cy, x, y):
                        empty[image, i, j] *= 1.0 / (1.0 + np.exp(scale * square))
                    elif scale * square <= cutoff:
                        empty[image, i, j] *= 1.0 / (1.0 + np.exp(-scale * square))


@njit(**OPTIONS)
def soft_backward(screen, faces, near, sigma, cutoff, empty, grad, by_screen, lo, hi):
    """Add ``grad * d(1 - empty) / d(x, y)`` of every vertex; ``dS/d(d^2) = empty D s / sigma`` needs no division.

    Arrays and numbers:
        empty: What :func:`soft_cover` wrote; grad: ``[images, n, n]`` by the samples.
    """
    n = empty.shape[1]
    scale = (2.0 / n) ** 2 / sigma
    margin = np.sqrt(cutoff / scale)
    for image in range(lo, hi):
        points = screen[image]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            if face_area(points, a, b, c, near) == 0.0:
                continue
            ax, ay, bx, by, cx, cy = corners(points, a, b, c)
            left, right, top, bottom = sample_box(ax, ay, bx, by, cx, cy, margin, n)
            for i in range(top, bottom + 1):
                for j in range(left, right + 1):
                    rest = float(empty[image, i, j]) * grad[image, i, j]
                    if rest == 0.0:
                        continue
                    x, y = j + 0.5, i + 0.5
                    square, side, t = _nearest_on_border(ax, ay, bx, by, cx, cy, x, y)
                    sign = 1.0 if _is_inside(ax, ay, bx, by, cx, cy, x, y) else -1.0
                    if sign < 0.0 and scale * square > cutoff:
                        continue
                    weight = -2.0 * rest * sign * scale / (1.0 + np.exp(-sign * scale * square))
                    u, v = faces[f, side], faces[f, (side + 1) % 3]
                    dx = weight * (x - points[u, 0] - t * (points[v, 0] - points[u, 0]))
                    dy = weight * (y - points[u, 1] - t * (points[v, 1] - points[u, 1]))
                    by_screen[image, u, 0] += (1.0 - t) * dx
                    by_screen[image, u, 1] += (1.0 - t) * dy
                    by_screen[image, v, 0] += t * dx
                    by_screen[image, v, 1] += t * dy
