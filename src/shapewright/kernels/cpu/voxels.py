"""Numba kernels of solid voxels: the cells of a surface, and what the outside cannot reach.

Places are ``[meshes, vertices, 3]`` in float32, in cells of the grid without its padding; grids are
``[meshes, size, size, size]`` in uint8, filled with 0. Every function loops over meshes ``[lo, hi)``. There is no
``fastmath``: the sums are those of the definition in ``geometry.solid_voxels``, bit by bit.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}
HALF, ONE, ZERO = np.float32(0.5), np.float32(1), np.float32(0)
SURFACE, OUTSIDE = np.uint8(1), np.uint8(2)


@njit(inline="always")
def _lowest(a, b, c, least, most):
    """Return the first integer that is at least one of three numbers, within bounds."""
    return int(np.ceil(min(max(min(a, b, c), np.float32(least)), np.float32(most))))


@njit(inline="always")
def _highest(a, b, c, least, most):
    """Return the last integer that is at most one of three numbers, within bounds."""
    return int(np.floor(min(max(max(a, b, c), np.float32(least)), np.float32(most))))


@njit(inline="always")
def _is_finite(places, face):
    total = ZERO
    for corner in range(3):
        for axis in range(3):
            total += places[face[corner], axis] * ZERO
    return total == ZERO


@njit(inline="always")
def _mark(grid, x, y, z):
    size = grid.shape[0]
    if 0 <= x < size and 0 <= y < size and 0 <= z < size:
        grid[x, y, z] = SURFACE


@njit(inline="always")
def _mark_along(grid, axis, w, u, v):
    """Mark a cell given by its place along an axis and along the two others, in their order."""
    if axis == 0:
        _mark(grid, w, u, v)
    elif axis == 1:
        _mark(grid, u, w, v)
    else:
        _mark(grid, u, v, w)


@njit(**OPTIONS)
def _cross_lines(places, face, axis, pad, grid):
    """Mark the cells where integer lines along one axis meet a triangle."""
    end = grid.shape[0] - pad
    i, j = (1 if axis == 0 else 0), (1 if axis == 2 else 2)
    a, b, c = face[0], face[1], face[2]
    au, av, bu, bv, cu, cv = places[a, i], places[a, j], places[b, i], places[b, j], places[c, i], places[c, j]
    if (bu - au) * (cv - av) - (bv - av) * (cu - au) == ZERO:
        return
    ah, bh, ch = places[a, axis], places[b, axis], places[c, axis]
    first, last = _lowest(av, bv, cv, -pad, end), _highest(av, bv, cv, -pad - 1, end - 1)
    for u in range(_lowest(au, bu, cu, -pad, end), _highest(au, bu, cu, -pad - 1, end - 1) + 1):
        line = np.float32(u)
        au0, bu0, cu0 = au - line, bu - line, cu - line
        for v in range(first, last + 1):
            line = np.float32(v)
            av0, bv0, cv0 = av - line, bv - line, cv - line
            ea = bu0 * cv0 - bv0 * cu0
            eb = cu0 * av0 - cv0 * au0
            ec = au0 * bv0 - av0 * bu0
            if not ((ea >= ZERO and eb >= ZERO and ec >= ZERO) or (ea <= ZERO and eb <= ZERO and ec <= ZERO)):
                continue
            area = ea + eb + ec
            if area == ZERO:
                continue
            height = np.floor((ea * ah + eb * bh + ec * ch) / area)
            if not (-pad <= height < end):
                continue
            w, p, q = int(height) + pad, u + pad, v + pad
            _mark_along(grid, axis, w, p, q)
            _mark_along(grid, axis, w, p - 1, q)
            _mark_along(grid, axis, w, p, q - 1)
            _mark_along(grid, axis, w, p - 1, q - 1)


@njit(inline="always")
def _separates(p, q, s, t, reach):
    """Tell if all three corners lie beyond one side of a cube; s and t hold them along the two other axes."""
    one, two, three = p * t[0] - q * s[0], p * t[1] - q * s[1], p * t[2] - q * s[2]
    return min(one, two, three) > reach or max(one, two, three) < -reach


@njit(**OPTIONS)
def _touch(places, face, pad, grid):
    """Mark the cells whose closed cubes a closed triangle touches."""
    end = grid.shape[0] - pad
    corners, sides = np.empty((3, 3), np.float32), np.empty((3, 3), np.float32)
    near = np.empty((3, 3), np.float32)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    for k in range(3):
        for corner in range(3):
            corners[k, corner] = places[face[corner], k]
        x = corners[k]
        low[k] = _lowest(x[0] - ONE, x[1] - ONE, x[2] - ONE, -pad, end)
        high[k] = _highest(x[0], x[1], x[2], -pad - 1, end - 1)
        for corner in range(3):
            sides[corner, k] = x[(corner + 1) % 3] - x[corner]
    d, e = sides[0], sides[1]
    nx, ny, nz = d[1] * e[2] - d[2] * e[1], d[2] * e[0] - d[0] * e[2], d[0] * e[1] - d[1] * e[0]
    thickness = HALF * (abs(nx) + abs(ny) + abs(nz))
    for x in range(low[0], high[0] + 1):
        for y in range(low[1], high[1] + 1):
            for z in range(low[2], high[2] + 1):
                for corner in range(3):
                    near[0, corner] = corners[0, corner] - (np.float32(x) + HALF)
                    near[1, corner] = corners[1, corner] - (np.float32(y) + HALF)
                    near[2, corner] = corners[2, corner] - (np.float32(z) + HALF)
                if abs(nx * near[0, 0] + ny * near[1, 0] + nz * near[2, 0]) > thickness:
                    continue
                is_apart = False
                for side in range(3):
                    for k in range(3):
                        s, t = (k + 1) % 3, (k + 2) % 3
                        p, q = sides[side, s], sides[side, t]
                        if _separates(p, q, near[s], near[t], HALF * (abs(p) + abs(q))):
                            is_apart = True
                            break
                    if is_apart:
                        break
                if not is_apart:
                    _mark(grid, x + pad, y + pad, z + pad)


@njit(**OPTIONS)
def _flood(grid, cells):
    """Mark what the outside can reach through empty cells, by sweeps to and fro until nothing changes.

    ``cells`` is flat and has a layer more on each side: the outside. A stack of cells to leave from takes 30 times as
    long, for it is read right after it is written.
    """
    size = grid.shape[0]
    row = size + 2
    plane = row * row
    cells[:] = OUTSIDE
    for x in range(size):
        for y in range(size):
            start = (x + 1) * plane + (y + 1) * row + 1
            for z in range(size):
                cells[start + z] = grid[x, y, z]
    changes = True
    while changes:
        changes = False
        for x in range(1, size + 1):
            for y in range(1, size + 1):
                start = x * plane + y * row
                for i in range(start + 1, start + size + 1):
                    reached = cells[i - 1] == OUTSIDE or cells[i - row] == OUTSIDE or cells[i - plane] == OUTSIDE
                    if cells[i] == 0 and reached:
                        cells[i], changes = OUTSIDE, True
        for x in range(size, 0, -1):
            for y in range(size, 0, -1):
                start = x * plane + y * row
                for i in range(start + size, start, -1):
                    reached = cells[i + 1] == OUTSIDE or cells[i + row] == OUTSIDE or cells[i + plane] == OUTSIDE
                    if cells[i] == 0 and reached:
                        cells[i], changes = OUTSIDE, True
    for x in range(size):
        for y in range(size):
            start = (x + 1) * plane + (y + 1) * row + 1
            for z in range(size):
                grid[x, y, z] = cells[start + z]


@njit(**OPTIONS)
def fill(places, faces, pad, by_touch, grids, lo, hi):
    """Mark the cells of the surface by 1 and the outside by 2 in the grids ``[lo, hi)``; what stays 0 is inside.

    Arrays and numbers:
        pad: cells of the grid before coordinate 0.
        by_touch: whether all touched cells count, or those that integer lines find.
    """
    size = grids.shape[1]
    cells = np.empty((size + 2) ** 3, np.uint8)
    for mesh in range(lo, hi):
        grid, points = grids[mesh], places[mesh]
        if not by_touch:
            for vertex in range(points.shape[0]):
                x, y, z = points[vertex, 0], points[vertex, 1], points[vertex, 2]
                # Below zero, coordinates are cut towards zero where there is no padding.
                if pad == 0 and x > -ONE and y > -ONE and z > -ONE:
                    x, y, z = max(x, ZERO), max(y, ZERO), max(z, ZERO)
                if -pad <= x < size - pad and -pad <= y < size - pad and -pad <= z < size - pad:
                    _mark(grid, int(np.floor(x)) + pad, int(np.floor(y)) + pad, int(np.floor(z)) + pad)
        for f in range(faces.shape[0]):
            if not _is_finite(points, faces[f]):
                continue
            if by_touch:
                _touch(points, faces[f], pad, grid)
            else:
                for axis in range(3):
                    _cross_lines(points, faces[f], axis, pad, grid)
        _flood(grid, cells)
