"""How much of the sky the points of a picture see: the soft shadows in folds and under parts."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float32, Int64

from shapewright.geometry.ray_casting import RayCaster

# Neighbouring samples ask different directions; any TILE x TILE of them together ask all.
TILE = 4
LIFT = 2e-3
SAME_NORMAL = 0.8
STEPS_APART = 4.0
PASSES = 2


def sky_visibility(
    caster: RayCaster,
    positions: Float32[np.ndarray, "n 3"],
    normals: Float32[np.ndarray, "n 3"],
    pixels: Int64[np.ndarray, "n 2"],
    num_rays: int,
) -> Float32[np.ndarray, " n"]:
    """Return the cosine-weighted share of the half space over each sample that no surface covers.

    A sample casts ``num_rays`` rays, neighbours cast others, and means are taken over 4 x 4 samples, twice,
    where these lie on one smooth surface: 16 ``num_rays`` directions without grain.

    Args:
        caster: The surface, of a size of about 1.
        positions: Points on it.
        normals: Unit normals on the side that is looked at.
        pixels: Row and column of each sample, each pair once.
        num_rays: Rays of a sample.
    """
    if not len(positions):
        return np.zeros(0, dtype=np.float32)
    sets = _cosine_directions(num_rays)
    tile = (pixels[:, 0] % TILE) * TILE + pixels[:, 1] % TILE
    side, other = _tangents(normals)
    origins = torch.from_numpy(positions + LIFT * normals)
    free = np.zeros(len(positions), dtype=np.float32)
    for ray in range(num_rays):
        x, y, z = sets[tile, ray].T
        directions = x[:, None] * side + y[:, None] * other + z[:, None] * normals
        free += ~caster.any_hit(origins, torch.from_numpy(directions)).numpy()
    neighbours = _alike_neighbours(positions, normals, pixels)
    for _ in range(PASSES):
        free = _smoothed(free, neighbours)
    return free / num_rays


def _cosine_directions(num_rays: int) -> Float32[np.ndarray, "tiles rays 3"]:
    """Return directions over the plane z = 0 with density cos / pi, spread evenly within every set and over all."""
    total = TILE * TILE * num_rays
    index = np.arange(total)
    radius = np.sqrt((index + 0.5) / total)
    angle = index * math.pi * (3 - math.sqrt(5))
    spread = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.sqrt(1 - radius**2)], axis=-1)
    # Set t takes every 16th direction; the order of the sets scatters neighbours in the picture.
    order = np.arange(TILE * TILE) * 7 % (TILE * TILE)
    return spread.reshape(num_rays, TILE * TILE, 3).transpose(1, 0, 2)[order].astype(np.float32)


def _tangents(normals: Float32[np.ndarray, "n 3"]) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
    """Return two unit vectors that complete each normal to a frame (Duff et al., JCGT 6(1), 2017)."""
    x, y, z = normals.T
    sign = np.where(z < 0, np.float32(-1), np.float32(1))
    a = -1 / (sign + z)
    b = x * y * a
    return (
        np.stack([1 + sign * x * x * a, sign * b, -sign * x], axis=-1),
        np.stack([b, sign + y * y * a, -y], axis=-1),
    )


def _alike_neighbours(
    positions: Float32[np.ndarray, "n 3"], normals: Float32[np.ndarray, "n 3"], pixels: Int64[np.ndarray, "n 2"]
) -> list[Int64[np.ndarray, " n"]]:
    """Return for each place of the tile around a sample who stands there, or the sample itself.

    A neighbour counts if it lies near the sample's tangent plane with nearly the same normal.
    """
    rows, columns = (pixels - pixels.min(axis=0)).T + TILE
    shape = (int(rows.max()) + TILE + 1, int(columns.max()) + TILE + 1)
    number = np.full(shape, -1, dtype=np.int64)
    itself = np.arange(len(positions))
    number[rows, columns] = itself
    across = positions[:, :2].max(axis=0) - positions[:, :2].min(axis=0)
    reach = STEPS_APART * float(across.max()) / max(shape)
    neighbours = []
    for down in range(-TILE // 2, TILE // 2):
        for right in range(-TILE // 2, TILE // 2):
            near = number[rows + down, columns + right]
            alike = (near >= 0) & (np.einsum("ij,ij->i", normals, normals[near]) > SAME_NORMAL)
            alike &= np.abs(np.einsum("ij,ij->i", normals, positions[near] - positions)) < reach
            neighbours.append(np.where(alike, near, itself))
    return neighbours


def _smoothed(
    values: Float32[np.ndarray, " n"], neighbours: list[Int64[np.ndarray, " n"]]
) -> Float32[np.ndarray, " n"]:
    """Return the means of each sample's neighbours."""
    total = np.zeros_like(values)
    for near in neighbours:
        total += values[near]
    return total / len(neighbours)
