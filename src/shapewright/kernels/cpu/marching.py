"""Marching of rays through a cached grid of the SDF: packed samples near the surface."""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy"}


@njit(inline="always")
def _interpolate(grid, x, y, z):
    """Interpolate trilinearly at a position in units of cells, clamped into the grid."""
    size = grid.shape[0]
    top = np.float32(size - 1.0001)
    x = min(max(x, np.float32(0.0)), top)
    y = min(max(y, np.float32(0.0)), top)
    z = min(max(z, np.float32(0.0)), top)
    i, j, k = int(x), int(y), int(z)
    rx, ry, rz = x - np.float32(i), y - np.float32(j), z - np.float32(k)
    a = grid[i, j, k] + rx * (grid[i + 1, j, k] - grid[i, j, k])
    b = grid[i, j + 1, k] + rx * (grid[i + 1, j + 1, k] - grid[i, j + 1, k])
    c = grid[i, j, k + 1] + rx * (grid[i + 1, j, k + 1] - grid[i, j, k + 1])
    d = grid[i, j + 1, k + 1] + rx * (grid[i + 1, j + 1, k + 1] - grid[i, j + 1, k + 1])
    e = a + ry * (b - a)
    f = c + ry * (d - c)
    return e + rz * (f - e)


@njit(inline="always")
def _box_interval(ox, oy, oz, dx, dy, dz):
    """Return entry and exit of a ray through the unit cube; entry > exit means a miss."""
    near, far = np.float32(0.0), np.float32(1e30)
    tiny = np.float32(1e-12)
    for axis in range(3):
        o = ox if axis == 0 else (oy if axis == 1 else oz)
        d = dx if axis == 0 else (dy if axis == 1 else dz)
        if abs(d) < tiny:
            if o < np.float32(0.0) or o > np.float32(1.0):
                far = np.float32(-1.0)
        else:
            a = -o / d
            b = (np.float32(1.0) - o) / d
            near = max(near, min(a, b))
            far = min(far, max(a, b))
    return near, far


@njit(inline="always")
def _sigmoid(x):
    return np.float32(1.0) / (np.float32(1.0) + np.exp(-x))


@njit(**_OPTIONS)
def march_band(origins, directions, jitter, wanted, grid, settings, starts, depths, steps):
    """Write packed samples of rays in the band around the surface that a cached SDF shows.

    Arrays and numbers:
        origins, directions: ``[rays, 3]`` in coordinates of the grid's cube, [0, 1]^3; directions are unit vectors of
            world space divided by the cube's side, so distances along the ray are world distances.
        jitter: ``[rays]`` in [0, 1): offset of the first sample in steps.
        wanted: ``[rays]``; true where a ray must get samples (it belongs to the object): if the band gives none, coarse
            samples run through everything the cache does not call far outside.
        grid: ``[G, G, G]`` cached SDF at the cells' centres, in world distances, ``ij`` order.
        settings: the numbers of ``kernels.reference.marching_band.Band``, in its order.
        starts: ``[rays + 1]``, written: offsets of each ray's samples.
        depths, steps: written: distance of each sample's middle, and the length of its interval. Their size bounds the
            number of samples; rays that do not fit get none.

    Returns:
        The number of rays that did not fit.
    """
    sharpness, outer, inner, base, longest, coarse, coarse_limit = settings
    third = np.float32(1.0 / 3.0)
    size = np.float32(grid.shape[0])
    half = np.float32(0.5)
    rays = origins.shape[0]
    capacity = depths.shape[0]
    count = 0
    dropped = 0
    for ray in range(rays):
        starts[ray] = count
        ox, oy, oz = origins[ray, 0], origins[ray, 1], origins[ray, 2]
        dx, dy, dz = directions[ray, 0], directions[ray, 1], directions[ray, 2]
        near, far = _box_interval(ox, oy, oz, dx, dy, dz)
        if not near < far:
            continue
        first = count
        t = near + jitter[ray] * base
        transmittance = np.float32(1.0)
        f_last = np.float32(0.0)
        t_last = np.float32(-1.0)
        full = False
        while t < far:
            f = _interpolate(
                grid, (ox + t * dx) * size - half, (oy + t * dy) * size - half, (oz + t * dz) * size - half
            )
            slope = np.float32(1.0)
            if t_last >= np.float32(0.0):
                slope = abs(f - f_last) / (t - t_last)
                if f < f_last:
                    before = _sigmoid(f_last * sharpness)
                    transmittance *= min(_sigmoid(f * sharpness) / (before + np.float32(1e-5)), np.float32(1.0))
            f_last, t_last = f, t
            if transmittance < np.float32(2e-4):
                break
            if f > outer:
                t += min(max(f - outer, base), longest)
            elif f < inner:
                if transmittance < np.float32(0.02):
                    break
                t += min(max(inner - f, base), longest)
            else:
                length = base * min(np.float32(1.0) / max(slope, third), np.float32(3.0))
                if count >= capacity:
                    full = True
                    break
                depths[count] = t + np.float32(0.5) * length
                steps[count] = length
                count += 1
                t += length
        if count == first and wanted[ray] and not full:
            t = near + jitter[ray] * coarse
            while t < far:
                f = _interpolate(
                    grid, (ox + t * dx) * size - half, (oy + t * dy) * size - half, (oz + t * dz) * size - half
                )
                if f < coarse_limit:
                    if count >= capacity:
                        full = True
                        break
                    depths[count] = t + np.float32(0.5) * coarse
                    steps[count] = coarse
                    count += 1
                t += coarse
        if full:
            count = first
            dropped += 1
    starts[rays] = count
    return dropped


@njit(**_OPTIONS)
def place_samples(origins, directions, starts, depths, points):
    """Write the positions ``[3, samples]`` of packed samples."""
    for ray in range(origins.shape[0]):
        for s in range(starts[ray], starts[ray + 1]):
            for axis in range(3):
                points[axis, s] = origins[ray, axis] + depths[s] * directions[ray, axis]


@njit(**_OPTIONS)
def march_lattice(origins, directions, near, far, offsets, step, occupied, starts, depths, count_only):
    """Write the lattice samples of rays whose cells are occupied (kernels specification: ``t = near + (k + u) step``).

    Arrays and numbers:
        origins, directions: ``[rays, 3]`` in grid coordinates [0, 1]^3.
        near, far: ``[rays]`` interval of each ray.
        offsets: ``[rays]`` u in [0, 1).
        step: distance between samples.
        occupied: ``uint8 [G, G, G]``.
        starts: ``[rays + 1]``: written when ``count_only`` (counts at ``ray + 1``), else read.
        depths: ``[samples]``, written unless ``count_only``.
    """
    size = occupied.shape[0]
    for ray in range(origins.shape[0]):
        k = 0
        found = 0
        t = near[ray] + offsets[ray] * step
        while t < far[ray]:
            leave = 1e30
            index = 0
            for axis in range(3):
                position = origins[ray, axis] + t * directions[ray, axis]
                c = min(max(int(np.floor(position * size)), 0), size - 1)
                index = index * size + c
                d = directions[ray, axis]
                if abs(d) >= 1e-12:
                    edge = (c + 1) / size if d > 0 else c / size
                    leave = min(leave, (edge - origins[ray, axis]) / d)
            if occupied[index // (size * size), (index // size) % size, index % size]:
                if not count_only:
                    depths[starts[ray] + found] = t
                found += 1
                k += 1
            else:
                k = max(k + 1, int(np.ceil((leave - near[ray]) / step - offsets[ray])))
            t = near[ray] + (k + offsets[ray]) * step
        if count_only:
            starts[ray + 1] = found


@njit(**_OPTIONS)
def gather_rays(pixels, first_pixel, widths, intrinsics, rotations, centers, origins, directions, views):
    """Write the rays of pixels that are numbered through all pictures.

    Arrays and numbers:
        pixels: ``[rays]`` number of a pixel among all pixels of all pictures, row by row.
        first_pixel: ``[views + 1]`` number of each picture's first pixel.
        widths: ``[views]`` in pixels.
        intrinsics: ``[views, 5]`` fx, fy, cx, cy, skew; pixel centres at +0.5.
        rotations: ``[views, 3, 3]`` world from camera; ``centers``: ``[views, 3]``.
        origins, directions: ``[rays, 3]``, written; directions have unit length.
        views: ``[rays]``, written: the picture of each ray.
    """
    for ray in range(pixels.shape[0]):
        pixel = pixels[ray]
        view = np.searchsorted(first_pixel, pixel, side="right") - 1
        views[ray] = view
        local = pixel - first_pixel[view]
        v = local // widths[view] + 0.5
        u = local % widths[view] + 0.5
        y = (v - intrinsics[view, 3]) / intrinsics[view, 1]
        x = (u - intrinsics[view, 2] - intrinsics[view, 4] * y) / intrinsics[view, 0]
        scale = 1.0 / np.sqrt(x * x + y * y + 1.0)
        for axis in range(3):
            r = rotations[view, axis]
            directions[ray, axis] = scale * (r[0] * x + r[1] * y + r[2])
            origins[ray, axis] = centers[view, axis]
