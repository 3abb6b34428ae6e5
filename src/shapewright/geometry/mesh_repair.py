"""Which side of each triangle of a messy mesh is outside, found by looking at the sky.

Vertices are welded, copies of triangles dropped, and patches of triangles turned as a whole to the side from which
more rays escape. What is left is fit for a winding number: most meshes from the wild have triangles that are doubled,
turned or missing, which spoils every sign taken from the file as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.ray_casting import RayCaster, fibonacci_directions

WELD_GRID = 1e-6
RAY_OFFSET = 2e-4
UNDECIDED_MARGIN = 0.02


@dataclass(frozen=True, kw_only=True)
class RepairReport:
    """Tell how healthy a mesh was.

    Args:
        faces_in: Triangles given.
        faces_out: Triangles kept for the distance.
        welded: Vertices in use that were merged into another one.
        degenerate: Triangles that had a corner twice, after welding.
        duplicate_pct: Copies of triangles, in percent of those that are not degenerate.
        doubled_pct: Kept triangles that were there in both directions, in percent.
        patches: Sets of triangles joined by edges with exactly two triangles.
        turned_area_pct: Area of the triangles that were turned, in percent.
        undecided: Patches that both sides see alike; their volume decided.
        sheets: Patches without an inside: they count for the distance only.
        non_orientable: Patches, such as a Moebius strip, that have one side.
        border_edges: Edges of one triangle only.
    """

    faces_in: int
    faces_out: int
    welded: int
    degenerate: int
    duplicate_pct: float
    doubled_pct: float
    patches: int
    turned_area_pct: float
    undecided: int
    sheets: int
    non_orientable: int
    border_edges: int


@dataclass(frozen=True)
class RepairedMesh:
    """Hold a mesh that a signed distance can be taken from.

    Args:
        mesh: All triangles that are left, turned outwards: the distance is to these.
        winding_faces: The triangles that have an inside: the winding number is theirs.
        visible: Triangles of ``mesh`` from which a ray reached the sky on either side.
        report: What was found.
    """

    mesh: Mesh
    winding_faces: Int64[Tensor, "winding 3"]
    visible: Bool[Tensor, " faces"]
    report: RepairReport


def repair_mesh(mesh: Mesh, rays: int = 8, seed: int = 0, drop_hidden_faces: bool = False) -> RepairedMesh:
    """Return the mesh with its triangles turned outwards, copies dropped, and a report of its health.

    Args:
        mesh: Triangles in any state; the lengths below suppose that they fill about the unit sphere.
        rays: Rays from each side of each triangle.
        seed: Start of the random places on the triangles that the rays leave from.
        drop_hidden_faces: Drop the triangles that no ray can leave. It helps walls made of two layers and harms
            parts that run through each other.

    Raises:
        ValueError: if no triangle is left, or ``rays`` is below 1.
    """
    check_range("rays", rays, 1)
    vertices, faces, welded, degenerate = _weld(mesh)
    faces, doubled = _deduplicate(faces)
    if not len(faces):
        raise ValueError("The mesh has no triangle with three different corners.")
    patches = _patches(faces, len(vertices))
    faces = np.where(patches.turned[:, None], faces[:, ::-1], faces)
    area, normals = _areas_and_normals(vertices, faces)
    front, back = _exposure(vertices, faces, normals, rays, seed)
    means = _PatchMeans(patches.label, area)
    turn, undecided = _decide(vertices, faces, means, means(front), means(back))
    sheet = _sheets(means, doubled, patches.on_border, means(front), means(back))
    turned = turn[patches.label]
    faces = np.where(turned[:, None], faces[:, ::-1], faces)
    total = max(area.sum(), np.finfo(float).tiny)
    visible = (front > 0) | (back > 0)
    kept = visible if drop_hidden_faces and visible.any() else np.ones(len(faces), dtype=bool)
    report = RepairReport(
        faces_in=mesh.num_faces,
        faces_out=int(kept.sum()),
        welded=welded,
        degenerate=degenerate,
        duplicate_pct=100 * (1 - len(faces) / (mesh.num_faces - degenerate)),
        doubled_pct=100 * float(doubled.mean()),
        patches=len(turn),
        turned_area_pct=100 * float(area[turned ^ patches.turned].sum() / total),
        undecided=int(undecided.sum()),
        sheets=int(sheet.sum()),
        non_orientable=patches.non_orientable,
        border_edges=patches.border_edges,
    )
    final = torch.from_numpy(np.ascontiguousarray(faces[kept]))
    solid = torch.from_numpy(~sheet[patches.label][kept])
    return RepairedMesh(Mesh(torch.from_numpy(vertices), final), final[solid], torch.from_numpy(visible[kept]), report)


def _weld(mesh: Mesh) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Return the vertices in use, one for each place, the triangles with three corners, and what was dropped."""
    used, flat = np.unique(mesh.faces.cpu().numpy(), return_inverse=True)
    positions = mesh.vertices.detach().cpu().double().numpy()[used]
    cells = np.round(positions / WELD_GRID).astype(np.int64)
    order = np.lexsort((*cells.T[::-1],))  # stable: the first vertex of a place leads
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(cells[order], axis=0) != 0).any(axis=1)
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.cumsum(starts) - 1
    vertices = positions[order[starts]]
    faces = place[flat.reshape(-1, 3)] if len(used) else np.empty((0, 3), dtype=np.int64)
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return vertices, faces[whole], len(used) - len(vertices), int((~whole).sum())


def _deduplicate(faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return one triangle for each three corners, and whether it was there in both directions."""
    corners = np.sort(faces, axis=1)
    forward = (faces[:, 1] > faces[:, 0]).astype(int) + (faces[:, 2] > faces[:, 1]) + (faces[:, 0] > faces[:, 2]) == 2
    order = np.lexsort((*corners.T[::-1],))
    starts = np.ones(len(order), dtype=bool)
    starts[1:] = (np.diff(corners[order], axis=0) != 0).any(axis=1)
    group = np.cumsum(starts) - 1
    count = group[-1] + 1 if len(group) else 0
    num_forward = np.bincount(group, weights=forward[order], minlength=count)
    doubled = (num_forward > 0) & (num_forward < np.bincount(group, minlength=count))
    first = order[starts]
    in_file = np.argsort(first)
    return faces[first[in_file]], doubled[in_file]


class _Patches(NamedTuple):
    """Hold the patch of each triangle, which of them to turn, and where the borders are."""

    label: np.ndarray
    turned: np.ndarray
    on_border: np.ndarray
    border_edges: int
    non_orientable: int


def _patches(faces: np.ndarray, num_vertices: int) -> _Patches:
    """Group triangles over edges with exactly two of them, and make each group run the same way round.

    The graph has two nodes for a triangle, as given and turned; an edge joins those states of two neighbours that
    agree. A group is orientable if it falls into two components, one the mirror image of the other.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(faces)
    start, end = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    key = np.minimum(start, end) * num_vertices + np.maximum(start, end)
    order = np.argsort(key, kind="stable")
    _, first, uses = np.unique(key[order], return_index=True, return_counts=True)
    one, two = order[first[uses == 2]], order[first[uses == 2] + 1]
    alone = order[first[uses == 1]]
    clash = start[one] == start[two]
    one, two = one // 3, two // 3
    rows = np.concatenate([one, one + count])
    columns = np.concatenate([np.where(clash, two + count, two), np.where(clash, two, two + count)])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(2 * count, 2 * count))
    _, label = connected_components(graph, directed=False)
    given, flipped = label[:count], label[count:]
    _, patch = np.unique(np.minimum(given, flipped), return_inverse=True)
    on_border = np.zeros(count, dtype=bool)
    on_border[alone // 3] = True
    one_sided = len(np.unique(patch[given == flipped]))
    return _Patches(patch.reshape(-1), flipped < given, on_border, len(alone), one_sided)


def _areas_and_normals(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    cross = np.cross(b - a, c - a)
    length = np.linalg.norm(cross, axis=1)
    return length / 2, cross / np.maximum(length, np.finfo(float).tiny)[:, None]


def _exposure(
    vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray, rays: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each triangle the share of rays from its front, and from its back, that hit nothing.

    Ray ``k`` leaves from the same place on every triangle, along every second of ``2 rays`` Fibonacci directions,
    turned round where it would point below the side that it leaves from.
    """
    mesh = Mesh(torch.from_numpy(vertices), torch.from_numpy(np.ascontiguousarray(faces)))
    caster = RayCaster(mesh)
    weights = np.random.default_rng(seed).dirichlet((1.0, 1.0, 1.0), rays)
    directions = fibonacci_directions(2 * rays)[::2].numpy()
    front, back = np.zeros(len(faces)), np.zeros(len(faces))
    for weight, direction in zip(weights, directions, strict=True):
        places = sum(weight[corner] * vertices[faces[:, corner]] for corner in range(3))
        upward = np.where(normals @ direction < 0, -1.0, 1.0)[:, None] * direction
        for escaped, side in ((front, 1.0), (back, -1.0)):
            origins = torch.from_numpy(places + side * RAY_OFFSET * normals)
            escaped += ~caster.any_hit(origins, torch.from_numpy(side * upward)).numpy()
    return front / rays, back / rays


class _PatchMeans:
    """Average values over the area of each patch."""

    def __init__(self, label: np.ndarray, area: np.ndarray) -> None:
        self.label, self.area = label, area
        self.of_patch = np.bincount(label, weights=area)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        sums = np.bincount(self.label, weights=self.area * values)
        return sums / np.maximum(self.of_patch, np.finfo(float).tiny)


def _decide(
    vertices: np.ndarray, faces: np.ndarray, means: _PatchMeans, front: np.ndarray, back: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which patches to turn, and for which of these the rays were no help.

    Sealed patches see no sky at all. They keep or get a positive volume about their own centroid.
    """
    undecided = np.abs(front - back) < UNDECIDED_MARGIN
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    centroid = np.stack([means((a + b + c)[:, axis] / 3) for axis in range(3)], axis=1)[means.label]
    six_volumes = np.einsum("ij,ij->i", a - centroid, np.cross(b - centroid, c - centroid))
    volume = np.bincount(means.label, weights=six_volumes)
    return np.where(undecided, volume < 0, front < back), undecided


def _sheets(
    means: _PatchMeans, doubled: np.ndarray, on_border: np.ndarray, front: np.ndarray, back: np.ndarray
) -> Bool[np.ndarray, " patches"]:
    """Tell which patches are doubled, open and seen from both sides: cloth, which encloses nothing."""
    has_border = np.bincount(means.label, weights=on_border) > 0
    both_seen = np.minimum(front, back) > np.maximum(front, back) / 2
    return (means(doubled.astype(float)) > 0.5) & has_border & both_seen
