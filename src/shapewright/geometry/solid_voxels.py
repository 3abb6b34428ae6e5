"""Solid voxels of meshes: the published rules, what they say in plain NumPy, and the axes of stored grids.

The rule is a part of every score that is measured with it. ``kernels.voxel_ops`` computes the same quickly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped
from scipy import ndimage
from torch import Tensor

from shapewright.checks import check_range, check_shape

VoxelAxes = Literal["kato", "lsm", "lsm_original", "vpl", "pascal3d"]


@dataclass(frozen=True)
class VoxelRule:
    """Say which cells of a cube a closed surface fills.

    A vertex v lies at ``scale v + resolution / 2``, in cells; cell i reaches from i to i + 1. Cells of the surface are

    * ``lines``: for each axis w and each line of integer u and v, where the line meets a triangle, cell floor(w) of the
      four columns around it; and the cell of each vertex, its coordinates cut towards zero;
    * ``touch``: all that a triangle touches, be it with a corner (13 separating axes).

    Cells that are then still joined to the border of the grid, through faces and empty cells, stay empty; all others
    are filled. What leaves the grid is lost, and lets the outside in. With a padding the rule runs in a larger grid, to
    whose inside coordinates are clamped, and the margin is cut off. Arithmetic is that of float32.

    Args:
        name: To be told beside every score.
        surface: How cells of the surface are found.
        scale: Cells a unit.
        resolution: Cells along each side.
        padding: Cells added on each side.
    """

    name: str
    surface: Literal["lines", "touch"]
    scale: float
    resolution: int = 32
    padding: int = 0

    def __post_init__(self) -> None:
        check_range("scale", self.scale, 1e-6)
        check_range("resolution", self.resolution, 1)
        check_range("padding", self.padding, 0)

    def places(self, vertices: Float[Tensor, "*batch vertices 3"]) -> Float32[np.ndarray, "*batch vertices 3"]:
        """Return where vertices lie, in cells of the grid without its padding, clamped if there is one."""
        scaled = vertices.detach().cpu().numpy().astype(np.float32) * np.float32(self.scale)
        places = scaled + np.float32(self.resolution / 2)
        if self.padding:
            places = places.clip(np.float32(0.5 - self.padding), np.float32(self.resolution + self.padding - 0.5))
        return places


def kato_rule(resolution: int = 32, padding: int = 0) -> VoxelRule:
    """Return the rule of Kato's data sets, for meshes in [-0.5, 0.5]^3.

    It is ``kato32``, or with a padding of 4 ``kato32_padded``, in which meshes that leave the cube do not leak.
    """
    suffix = {0: "", 4: "_padded"}.get(padding, f"_padded_{padding}")
    return VoxelRule(f"kato{resolution}{suffix}", "lines", resolution - 1, resolution, padding)


def vpl_rule(resolution: int = 32, cube: Literal["unit", "pascal3d"] = "unit") -> VoxelRule:
    """Return the rule of View Prior Learning: ``vpl32``, or ``vpl32_pascal3d`` for meshes in [-1, 1]^3."""
    if cube == "unit":
        return VoxelRule(f"vpl{resolution}", "touch", resolution, resolution)
    return VoxelRule(f"vpl{resolution}_{cube}", "touch", resolution / 2, resolution)


KATO32, KATO32_PADDED, VPL32, PASCAL32 = kato_rule(), kato_rule(padding=4), vpl_rule(), vpl_rule(cube="pascal3d")


def rule_named(name: str) -> VoxelRule:
    """Return a published rule by its name.

    Raises:
        ValueError: if there is no such rule.
    """
    rules = {rule.name: rule for rule in (KATO32, KATO32_PADDED, VPL32, PASCAL32)}
    if name not in rules:
        raise ValueError(f"There is no voxel rule {name!r}; known: {', '.join(rules)}.")
    return rules[name]


def padded(rule: VoxelRule, padding: int = 4) -> VoxelRule:
    """Return the same rule in a larger grid, in which meshes that leave the cube do not leak."""
    return replace(rule, name=f"{rule.name}_padded", padding=padding)


def solid_voxels(
    vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"], rule: VoxelRule
) -> Bool[np.ndarray, "g g g"]:
    """Return the filled cells of one mesh, indexed by x, y, z, in plain NumPy: the definition.

    Args:
        vertices: Of a closed surface; triangles with a vertex that is not finite are left out.
        faces: Vertex indices.
        rule: Which cells count.

    Raises:
        ValueError: if a shape does not fit.
    """
    check_shape("vertices", vertices, (None, 3))
    check_shape("faces", faces, (None, 3))
    places = rule.places(vertices)
    corners = places[faces.cpu().numpy()]
    corners = corners[np.isfinite(corners).all((1, 2))]
    pad, size = rule.padding, rule.resolution + 2 * rule.padding
    surface = np.zeros((size, size, size), dtype=bool)
    if rule.surface == "lines":
        finite = places[np.isfinite(places).all(1)]
        _mark(surface, (np.floor(finite) if pad else np.trunc(finite)).astype(np.int64) + pad)
        for axis in range(3):
            _mark_crossings(surface, corners, axis, pad)
    else:
        for triangle in corners:
            _mark_touched(surface, triangle, pad)
    labels, _ = ndimage.label(~surface)
    rims = [labels.take(end, axis=axis).ravel() for axis in range(3) for end in (0, -1)]
    outside = np.unique(np.concatenate(rims))
    filled = ~np.isin(labels, outside[outside > 0])
    inner = slice(pad, size - pad)
    return np.ascontiguousarray(filled[inner, inner, inner])


def _mark(surface: Bool[np.ndarray, "g g g"], cells: Int[np.ndarray, "n 3"]) -> None:
    """Mark the cells that lie in the grid."""
    x, y, z = cells[((cells >= 0) & (cells < len(surface))).all(1)].T
    surface[x, y, z] = True


def _mark_crossings(
    surface: Bool[np.ndarray, "g g g"], corners: Float32[np.ndarray, "faces 3 3"], axis: int, pad: int
) -> None:
    """Mark the cells where integer lines along one axis meet triangles."""
    others = [other for other in range(3) if other != axis]
    flat, heights = corners[:, :, others], corners[:, :, axis]
    end = len(surface) - pad
    low = np.ceil(flat.min(1).clip(-pad, end)).astype(np.int64)
    high = np.floor(flat.max(1).clip(-pad - 1, end - 1)).astype(np.int64)
    extent = (high - low + 1).clip(0)
    counts = extent.prod(1)
    face = np.repeat(np.arange(len(counts)), counts)
    place = np.arange(len(face)) - np.repeat(counts.cumsum() - counts, counts)
    width = extent[face, 1]
    line = low[face] + np.stack([place // width, place % width], axis=1) if len(face) else np.zeros((0, 2), np.int64)
    from_line = flat[face] - line[:, None].astype(np.float32)
    u, v = from_line[..., 0], from_line[..., 1]
    edges = np.stack([u[:, k - 2] * v[:, k - 1] - v[:, k - 2] * u[:, k - 1] for k in range(3)], axis=1)
    area = edges[:, 0] + edges[:, 1] + edges[:, 2]
    # A triangle seen from its side has no area, but for what rounding leaves.
    a, b, c = flat.transpose(1, 2, 0)
    has_area = ((b - a)[0] * (c - a)[1] - (b - a)[1] * (c - a)[0] != 0)[face]
    meets = ((edges >= 0).all(1) | (edges <= 0).all(1)) & has_area & (area != 0)
    products = edges[meets] * heights[face[meets]]
    height = (products[:, 0] + products[:, 1] + products[:, 2]) / area[meets]
    cell = np.floor(height).astype(np.int64)
    for du in (0, 1):
        for dv in (0, 1):
            column = line[meets] - (du, dv)
            _mark(surface, np.insert(column, axis, cell, axis=1) + pad)


def _mark_touched(surface: Bool[np.ndarray, "g g g"], triangle: Float32[np.ndarray, "3 3"], pad: int) -> None:
    """Mark the cells whose closed cubes a closed triangle touches: no axis separates the two."""
    end = len(surface) - pad
    low = np.ceil((triangle.min(0) - np.float32(1)).clip(-pad, end)).astype(np.int64)
    high = np.floor(triangle.max(0).clip(-pad - 1, end - 1)).astype(np.int64)
    ranges = [np.arange(first, last + 1) for first, last in zip(low, high, strict=True)]
    cells = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    a, b, c = (corner - (cells.astype(np.float32) + np.float32(0.5)) for corner in triangle)
    sides = triangle[[1, 2, 0]] - triangle
    first, second = sides[0], sides[1]
    normal = np.array([first[k - 2] * second[k - 1] - first[k - 1] * second[k - 2] for k in range(3)], np.float32)
    half = np.float32(0.5)
    along = normal[0] * a[:, 0] + normal[1] * a[:, 1] + normal[2] * a[:, 2]
    touches = np.abs(along) <= half * (np.abs(normal[0]) + np.abs(normal[1]) + np.abs(normal[2]))
    for side in sides:
        for k in range(3):
            p, q = side[k - 2], side[k - 1]
            ends = np.stack([p * corner[:, k - 1] - q * corner[:, k - 2] for corner in (a, b, c)])
            reach = half * (np.abs(p) + np.abs(q))
            touches &= (ends.min(0) <= reach) & (ends.max(0) >= -reach)
    _mark(surface, cells[touches] + pad)


def stored_axes(volume: Shaped[np.ndarray, "*batch x y z"], dataset: VoxelAxes) -> Shaped[np.ndarray, "*batch a b c"]:
    """Return cells indexed by x, y, z of the right-handed world, y up, in the axes of a data set's files.

    ``kato``: (Y, -Z, X), that is ``stored[a, b, c] = volume[c, a, 31 - b]``; ``lsm`` and ``vpl``: (X, Y, Z);
    ``lsm_original``: (X, Y, -Z), as the published reading of the same files takes them; ``pascal3d``: (-X, -Z, -Y).

    Args:
        volume: One grid, or a batch.
        dataset: Whose files.

    Raises:
        ValueError: if there is no such data set.
    """
    order, flipped = _axes_of(dataset)
    batch = volume.ndim - 3
    moved = volume.transpose(*range(batch), *(batch + axis for axis in order))
    return np.flip(moved, tuple(batch + axis for axis in flipped))


def world_axes(stored: Shaped[np.ndarray, "*batch a b c"], dataset: VoxelAxes) -> Shaped[np.ndarray, "*batch x y z"]:
    """Return cells as a data set's files hold them, indexed by x, y, z of the world: what undoes ``stored_axes``.

    Args:
        stored: One grid, or a batch.
        dataset: Whose files.

    Raises:
        ValueError: if there is no such data set.
    """
    order, flipped = _axes_of(dataset)
    batch = stored.ndim - 3
    unflipped = np.flip(stored, tuple(batch + axis for axis in flipped))
    return unflipped.transpose(*range(batch), *(batch + order.index(axis) for axis in range(3)))


def _axes_of(dataset: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return which world axis each stored axis is, and which stored axes run backwards."""
    table: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
        "kato": ((1, 2, 0), (1,)),
        "lsm": ((0, 1, 2), ()),
        "lsm_original": ((0, 1, 2), (2,)),
        "vpl": ((0, 1, 2), ()),
        "pascal3d": ((0, 2, 1), (0, 1, 2)),
    }
    if dataset not in table:
        raise ValueError(f"dataset must be one of {', '.join(table)}, got {dataset!r}.")
    return table[dataset]
