"""Numba kernel of the Neural Mesh Renderer's gradient for pictures; formulas in ``reference/nmr_pictures.py``."""

from __future__ import annotations

import numpy as np
from numba import njit

from shapewright.kernels.cpu.rasterizer import OPTIONS, face_area
from shapewright.kernels.cpu.silhouettes import edge_lines, far_sample, last_inside, push


@njit(inline="always")
def _gain(colors, slopes, d0, d1, other):
    """Return what the loss gains if the sample (d0, d1) shows what the sample (d0, other) does."""
    total = 0.0
    for c in range(colors.shape[2]):
        total += (colors[d0, d1, c] - colors[d0, other, c]) * slopes[d0, d1, c]
    return total


@njit(**OPTIONS)
def _edge(a0, a1, b0, b1, c0, c1, f, ids, colors, slopes, eps):
    """Return the gradient along d1 of both ends of one edge of the face ``f``."""
    n = ids.shape[0]
    by_a, by_b = 0.0, 0.0
    slope, outward, first, last = edge_lines(a0, a1, b0, b1, c0, c1, n)
    for d0 in range(first, last + 1):
        crossing = a1 + slope * (d0 - a0)
        inner = last_inside(crossing, outward, n)
        if inner < 0:
            continue
        outer = inner + outward
        has_a, has_b = b0 != d0, a0 != d0
        share_a = (b0 - a0) / (b0 - d0) if has_a else 0.0
        share_b = (b0 - a0) / (d0 - a0) if has_b else 0.0
        sum_a, sum_b = 0.0, 0.0
        if ids[d0, inner] == f:
            for d1 in range(outer if outward > 0 else 0, n if outward > 0 else outer + 1):
                gain = _gain(colors, slopes, d0, d1, inner)
                if gain > 0.0:
                    sum_a += gain * push(share_a, d1 - crossing, eps)
                    sum_b += gain * push(share_b, d1 - crossing, eps)
        stop = far_sample(a0, a1, b0, b1, c0, c1, float(d0), crossing, outward, n)
        for d1 in range(min(inner, stop), max(inner, stop) + 1):
            if ids[d0, d1] != f:
                continue
            gain = _gain(colors, slopes, d0, d1, outer)
            if gain > 0.0:
                sum_a += gain * push(share_a, d1 - crossing, eps)
                sum_b += gain * push(share_b, d1 - crossing, eps)
        by_a -= sum_a if has_a else 0.0
        by_b -= sum_b if has_b else 0.0
    return by_a, by_b


@njit(**OPTIONS)
def nmr_pictures_backward(screen, faces, ids, colors, slopes, seen, by_screen, lo, hi):
    """Add the gradient by x and y of the images ``[lo, hi)``.

    Arrays and numbers:
        screen: ``[images, vertices, 3]`` float64; by_screen: ``[images, vertices, 2]``.
        ids: ``[images, 2, n, n]`` of the nearest faces, by columns and by rows; colors, slopes: the pictures and the
            gradients by them in the same order, ``[images, 2, n, n, channels]``.
        seen: scratch of this call, ``[faces]`` uint8.
    """
    n, num_faces = ids.shape[2], faces.shape[0]
    eps = 1e-4 * n / 2
    for image in range(lo, hi):
        points = screen[image]
        seen[:] = 0
        for i in range(n):
            for j in range(n):
                if ids[image, 1, i, j] >= 0:
                    seen[ids[image, 1, i, j]] = 1
        for f in range(num_faces):
            # Every push needs a sample that shows the face.
            if not seen[f] or face_area(points, faces[f, 0], faces[f, 1], faces[f, 2], -np.inf) == 0.0:
                continue
            for k in range(3):
                a, b, c = faces[f, k], faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
                for axis in range(2):
                    other = 1 - axis
                    a0, b0 = points[a, axis] - 0.5, points[b, axis] - 0.5
                    if a0 == b0:
                        continue
                    by_a, by_b = _edge(
                        a0, points[a, other] - 0.5, b0, points[b, other] - 0.5, points[c, axis] - 0.5,
                        points[c, other] - 0.5, f, ids[image, axis], colors[image, axis], slopes[image, axis], eps,
                    )  # fmt: skip
                    by_screen[image, a, other] += by_a
                    by_screen[image, b, other] += by_b
