"""Numba kernels of hard rasterisation: the nearest face of each sample, or only whether there is one.

Screens are ``[images, vertices, 3]`` in float64, x and y in samples, z the depth. Every function loops over images
``[lo, hi)``. There is no ``fastmath``: the sums are those of the reference, bit by bit, and so are the faces.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
LEAST_AREA = 1e-12


@njit(inline="always")
def face_area(points, a, b, c, near):
    """Return twice the signed area of a face on the screen, or 0 if it is not to be drawn."""
    za, zb, zc = points[a, 2], points[b, 2], points[c, 2]
    if not (za >= near and zb >= near and zc >= near and za < np.inf and zb < np.inf and zc < np.inf):
        return 0.0
    area = (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (points[b, 1] - points[a, 1]) * (
        points[c, 0] - points[a, 0]
    )
    # A NaN fails the first comparison, an overflow the second.
    return area if abs(area) > LEAST_AREA and abs(area) < np.inf else 0.0


@njit(inline="always")
def first_sample(low, n):
    """Return the first sample whose centre is at least ``low``, at most ``n``."""
    return int(np.ceil(min(max(low - 0.5, 0.0), float(n))))


@njit(inline="always")
def last_sample(high, n):
    """Return the last sample whose centre is at most ``high``, at least -1."""
    return int(np.floor(max(min(high - 0.5, float(n - 1)), -1.0)))


@njit(inline="always")
def corners(points, a, b, c):
    """Return x and y of the three corners of a face."""
    return points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]


@njit(inline="always")
def sample_box(ax, ay, bx, by, cx, cy, margin, n):
    """Return the first and last columns, and the first and last rows, of the samples around a face."""
    left, right = first_sample(min(ax, bx, cx) - margin, n), last_sample(max(ax, bx, cx) + margin, n)
    return left, right, first_sample(min(ay, by, cy) - margin, n), last_sample(max(ay, by, cy) + margin, n)


@njit(inline="always")
def _owns_border(dx, dy):
    return dy < 0.0 or (dy == 0.0 and dx > 0.0)


@njit(**OPTIONS)
def rasterize(screen, faces, near, is_parallel, culls, face_id, depth, lo, hi):
    """Write the id and the depth of the nearest face at each sample of the images ``[lo, hi)``.

    Arrays and numbers:
        near: Least depth; faces with a vertex before it are not drawn.
        is_parallel: Whether depth, not its inverse, is linear on the screen.
        culls: Whether faces that look away are left out.
        face_id: ``[images, n, n]`` int32, filled with -1; depth: the same in float32, filled with infinity.
    """
    n = face_id.shape[1]
    for image in range(lo, hi):
        points = screen[image]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            area = face_area(points, a, b, c, near)
            if area == 0.0 or (culls and area > 0.0):
                continue
            if area < 0.0:
                b, c = c, b
                area = -area
            ax, ay, bx, by, cx, cy = corners(points, a, b, c)
            if is_parallel:
                wa, wb, wc = points[a, 2] / area, points[b, 2] / area, points[c, 2] / area
            else:
                wa, wb, wc = 1.0 / (area * points[a, 2]), 1.0 / (area * points[b, 2]), 1.0 / (area * points[c, 2])
            border_a, border_b = _owns_border(cx - bx, cy - by), _owns_border(ax - cx, ay - cy)
            border_c = _owns_border(bx - ax, by - ay)
            left, right, top, bottom = sample_box(ax, ay, bx, by, cx, cy, 0.0, n)
            for i in range(top, bottom + 1):
                y = i + 0.5
                row_a, row_b, row_c = (cx - bx) * (y - by), (ax - cx) * (y - cy), (bx - ax) * (y - ay)
                for j in range(left, right + 1):
                    x = j + 0.5
                    ea = row_a - (cy - by) * (x - bx)
                    eb = row_b - (ay - cy) * (x - cx)
                    ec = row_c - (by - ay) * (x - ax)
                    if ea < 0.0 or eb < 0.0 or ec < 0.0:
                        continue
                    if (ea == 0.0 and not border_a) or (eb == 0.0 and not border_b) or (ec == 0.0 and not border_c):
                        continue
                    z = ea * wa + eb * wb + ec * wc
                    if not is_parallel:
                        z = 1.0 / z
                    rounded = np.float32(z)
                    if rounded < depth[image, i, j]:
                        depth[image, i, j] = rounded
                        face_id[image, i, j] = f


@njit(**OPTIONS)
def cover(screen, faces, near, mask, lo, hi):
    """Write 1 in ``mask``, ``[images, n, n]`` filled with 0, at each sample that a face covers."""
    n = mask.shape[1]
    for image in range(lo, hi):
        points = screen[image]
        for f in range(faces.shape[0]):
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            area = face_area(points, a, b, c, near)
            if area == 0.0:
                continue
            if area < 0.0:
                b, c = c, b
            ax, ay, bx, by, cx, cy = corners(points, a, b, c)
            border_a, border_b = _owns_border(cx - bx, cy - by), _owns_border(ax - cx, ay - cy)
            border_c = _owns_border(bx - ax, by - ay)
            left, right, top, bottom = sample_box(ax, ay, bx, by, cx, cy, 0.0, n)
            for i in range(top, bottom + 1):
                y = i + 0.5
                row_a, row_b, row_c = (cx - bx) * (y - by), (ax - cx) * (y - cy), (bx - ax) * (y - ay)
                for j in range(left, right + 1):
                    if mask[image, i, j]:
                        continue
                    x = j + 0.5
                    ea = row_a - (cy - by) * (x - bx)
                    eb = row_b - (ay - cy) * (x - cx)
                    ec = row_c - (by - ay) * (x - ax)
                    if ea < 0.0 or eb < 0.0 or ec < 0.0:
                        continue
                    if (ea == 0.0 and not border_a) or (eb == 0.0 and not border_b) or (ec == 0.0 and not border_c):
                        continue
                    mask[image, i, j] = 1
