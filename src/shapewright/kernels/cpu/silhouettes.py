"""Numba kernels of the gradients of silhouettes by the places of vertices on the screen.

Screens are ``[images, vertices, 3]`` in float64, x and y in samples, z the depth. Gradients ``[images, vertices, 2]``
are added to. Every function loops over images ``[lo, hi)``, and no two images share an entry.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from shapewright.kernels.cpu.rasterizer import OPTIONS, face_area

LONGEST_EDGE = 1e6


@njit(inline="always")
def _list_wishes(ids, grad, scale, lines, wishes, positions, values, before, seen):
    """Write both orders of the image (columns, rows), and for each line its empty samples that want to be covered."""
    n = ids.shape[0]
    supersample = n // grad.shape[0]
    seen[:] = 0
    for i in range(n):
        for j in range(n):
            f = ids[i, j]
            wish = scale * grad[i // supersample, j // supersample]
            lines[0, j, i] = f
            lines[1, i, j] = f
            wishes[0, j, i] = wish
            wishes[1, i, j] = wish
            if f >= 0:
                seen[f] = 1
    for axis in range(2):
        for line in range(n):
            count = 0
            for k in range(n):
                before[axis, line, k] = count
                if lines[axis, line, k] < 0 and wishes[axis, line, k] < 0:
                    positions[axis, line, count] = k
                    values[axis, line, count] = -wishes[axis, line, k]
                    count += 1
            before[axis, line, n] = count


@njit(inline="always")
def push(share, distance, eps):
    """Return by how much a wish at a distance from a crossing moves an end of the edge; never infinite."""
    weight = share * distance
    return 1.0 / (weight + eps if weight > 0.0 else weight - eps)


@njit(inline="always")
def edge_lines(a0, a1, b0, b1, c0, c1, n):
    """Return the slope of the edge A-B, which way is out of the face, and the first and last lines that cross it."""
    slope = (b1 - a1) / (b0 - a0)
    outward = 1 if a1 + slope * (c0 - a0) > c1 else -1
    first = int(np.ceil(min(max(min(a0, b0), 0.0), float(n))))
    return slope, outward, first, int(np.floor(max(min(max(a0, b0), n - 1.0), -1.0)))


@njit(inline="always")
def last_inside(crossing, outward, n):
    """Return the last sample before a crossing, seen from the face; -1 unless it and the next are in the image."""
    if not (crossing > -1.0 and crossing < n):
        return -1
    inner = int(np.floor(crossing)) if outward > 0 else int(np.ceil(crossing))
    return inner if 0 <= inner < n and 0 <= inner + outward < n else -1


@njit(inline="always")
def far_sample(a0, a1, b0, b1, c0, c1, d0, crossing, outward, n):
    """Return the sample where the line ``d0`` leaves the face on the other side of the edge A-B."""
    if (d0 - a0) * (d0 - c0) < 0.0:
        far = a1 + (c1 - a1) * ((d0 - a0) / (c0 - a0))
    else:
        far = b1 + (c1 - b1) * ((d0 - b0) / (c0 - b0)) if b0 != c0 else crossing
    far = min(max(far, 0.0), n - 1.0)
    return int(np.ceil(far)) if outward > 0 else int(np.floor(far))


@njit(**OPTIONS)
def _nmr_edge(
    a0, a1, b0, b1, c0, c1, f, lines, wishes, positions, values, before, eps,
):  # fmt: skip
    """Return the gradient along d1 of both ends of one edge of the face ``f``."""
    n = lines.shape[0]
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
        if lines[d0, inner] == f:
            begin = before[d0, outer] if outward > 0 else 0
            end = before[d0, n] if outward > 0 else before[d0, outer + 1]
            eps_a = eps if share_a * outward > 0.0 else -eps
            eps_b = eps if share_b * outward > 0.0 else -eps
            for k in range(begin, end):
                distance = positions[d0, k] - crossing
                sum_a += values[d0, k] / (share_a * distance + eps_a)
                sum_b += values[d0, k] / (share_b * distance + eps_b)
        if lines[d0, outer] < 0:
            stop = far_sample(a0, a1, b0, b1, c0, c1, float(d0), crossing, outward, n)
            for k in range(min(inner, stop), max(inner, stop) + 1):
                if lines[d0, k] == f and wishes[d0, k] > 0:
                    sum_a += wishes[d0, k] * push(share_a, k - crossing, eps)
                    sum_b += wishes[d0, k] * push(share_b, k - crossing, eps)
        if has_a:
            by_a -= sum_a
        if has_b:
            by_b -= sum_b
    return by_a, by_b


@njit(**OPTIONS)
def nmr_backward(
    screen, faces, near, ids, grad, lines, wishes, positions, values, before, seen, by_screen, lo, hi,
):  # fmt: skip
    """Add the gradient of the Neural Mesh Renderer (arXiv:1711.07566, section 3.2, as its program computes it).

    Arrays and numbers:
        ids: ``[images, n, n]`` of the nearest faces; grad: ``[images, size, size]`` by the silhouettes.
        lines, wishes, positions, values, before, seen: scratch of this call, ``[2, n, n]``, ``before [2, n, n + 1]``,
            ``seen [faces]``.
    """
    n = ids.shape[1]
    eps = 1e-4 * n / 2
    supersample = n // grad.shape[1]
    for image in range(lo, hi):
        points = screen[image]
        scale = 1.0 / supersample**2
        _list_wishes(ids[image], grad[image], scale, lines, wishes, positions, values, before, seen)
        for f in range(faces.shape[0]):
            # Every push needs a sample that shows the face.
            if not seen[f] or face_area(points, faces[f, 0], faces[f, 1], faces[f, 2], near) == 0.0:
                continue
            for k in range(3):
                a, b, c = faces[f, k], faces[f, (k + 1) % 3], faces[f, (k + 2) % 3]
                for axis in range(2):
                    other = 1 - axis
                    a0, b0 = points[a, axis] - 0.5, points[b, axis] - 0.5
                    if a0 == b0:
                        continue
                    by_a, by_b = _nmr_edge(
                        a0, points[a, other] - 0.5, b0, points[b, other] - 0.5,
                        points[c, axis] - 0.5, points[c, other] - 0.5, f,
                        lines[axis], wishes[axis], positions[axis], values[axis], before[axis], eps,
                    )  # fmt: skip
                    by_screen[image, a, other] += by_a
                    by_screen[image, b, other] += by_b


@njit(inline="always")
def _turn(points, a, b, c):
    return (points[b, 0] - points[a, 0]) * (points[c, 1] - points[a, 1]) - (points[b, 1] - points[a, 1]) * (
        points[c, 0] - points[a, 0]
    )


@njit(inline="always")
def _is_covered(mask, x, y):
    n = mask.shape[0]
    return x >= 0.0 and y >= 0.0 and x < n and y < n and mask[int(y), int(x)] != 0


@njit(**OPTIONS)
def _reached(mask, grad, x, y, step_x, step_y, steps):
    """Return what the outline at (x, y) gathers outwards from empty samples and inwards from covered ones."""
    n, supersample = mask.shape[0], mask.shape[0] // grad.shape[0]
    total = 0.0
    for r in range(1, steps + 1):
        u, v = x + r * step_x, y + r * step_y
        if not (u >= 0.0 and v >= 0.0 and u < n and v < n) or mask[int(v), int(u)] != 0:
            break
        total += min(0.0, grad[int(v) // supersample, int(u) // supersample]) / r
    for r in range(1, steps + 1):
        u, v = x - r * step_x, y - r * step_y
        if not (u >= 0.0 and v >= 0.0 and u < n and v < n) or mask[int(v), int(u)] == 0:
            break
        total += max(0.0, grad[int(v) // supersample, int(u) // supersample]) / r
    return total


@njit(inline="always")
def _outline_side(points, edge, near):
    """Return which side of an edge its faces lie on, if they lie on one side; otherwise 0."""
    a, b, c, d = edge[0], edge[1], edge[2], edge[3]
    side_c = _turn(points, a, b, c) if face_area(points, a, b, c, near) != 0.0 else 0.0
    side_d = 0.0
    if d >= 0 and face_area(points, a, b, d, near) != 0.0:
        side_d = _turn(points, a, b, d)
    if side_c * side_d < 0.0:
        return 0.0
    return side_c if abs(side_c) > abs(side_d) else side_d


@njit(**OPTIONS)
def outline_backward(screen, edges, near, mask, grad, steps, by_screen, lo, hi):
    """Add ``integral of g n . dx`` over the outline; with ``steps`` > 0, g also gathers along the normal.

    Arrays and numbers:
        edges: ``[edges, 4]`` as :func:`shapewright.geometry.mesh_edges.edge_table` returns them.
        mask: ``[images, n, n]`` of covered samples; grad: ``[images, size, size]`` by the silhouettes.
        steps: How many pixels an outline reaches to either side; 0 for the plain derivative.
    """
    n = mask.shape[1]
    supersample = n // grad.shape[1]
    for image in range(lo, hi):
        points, covered, slopes = screen[image], mask[image], grad[image]
        for e in range(edges.shape[0]):
            side = _outline_side(points, edges[e], near)
            if side == 0.0:
                continue
            a, b = edges[e, 0], edges[e, 1]
            dx, dy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
            length = np.sqrt(dx * dx + dy * dy)
            if not (length > 0.0 and length < LONGEST_EDGE):
                continue
            # Away from the faces.
            nx, ny = (dy / length, -dx / length) if side > 0.0 else (-dy / length, dx / length)
            parts = int(np.ceil(length))
            share = length / parts / supersample**2
            for k in range(parts):
                t = (k + 0.5) / parts
                x, y = points[a, 0] + t * dx, points[a, 1] + t * dy
                if not (x >= 0.0 and y >= 0.0 and x < n and y < n) or _is_covered(covered, x + nx, y + ny):
                    continue
                total = float(slopes[int(y) // supersample, int(x) // supersample])
                if steps > 0:
                    total += _reached(covered, slopes, x, y, supersample * nx, supersample * ny, steps)
                weight = total * share
                by_screen[image, a, 0] += (1.0 - t) * weight * nx
                by_screen[image, a, 1] += (1.0 - t) * weight * ny
                by_screen[image, b, 0] += t * weight * nx
                by_screen[image, b, 1] += t * weight * ny
