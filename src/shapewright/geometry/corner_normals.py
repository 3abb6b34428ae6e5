"""Normals at the corners of triangles: smooth over curved parts, sharp at creases."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.mesh import Mesh, face_cross_products

# An edge of a doubled mesh has four faces: every face is compared with the next three around its edge.
FACES_PER_EDGE = 4


def corner_normals(mesh: Mesh, crease_deg: float = 40.0) -> Float[Tensor, "faces 3 3"]:
    """Return a unit normal at every corner of every triangle.

    Corners of two faces that share an edge belong together when the faces' normals differ by less than ``crease_deg``.
    All corners that are joined so, directly or in steps, share the mean of their faces' normals, weighted by area.
    A ball becomes smooth, a box keeps its edges, and a face turned against its neighbours keeps its own normal.

    Args:
        mesh: Vertices at one position count as one, so that a mesh cut along its seams is smooth there.
        crease_deg: The smallest angle between faces that makes an edge sharp; 0 gives flat faces, 180 none.

    Returns:
        The normals, in the order of ``mesh.faces``; zero vectors on faces without area.

    Raises:
        ValueError: if ``crease_deg`` lies outside 0 to 180.
    """
    check_range("crease_deg", crease_deg, 0.0, 180.0)
    crosses = face_cross_products(mesh).double().cpu().numpy()
    groups = _corner_groups(_welded_faces(mesh), crosses, crease_deg)
    count = int(groups.max(initial=-1)) + 1
    per_corner = np.repeat(crosses, 3, axis=0)
    sums = np.stack([np.bincount(groups, per_corner[:, axis], minlength=count) for axis in range(3)], axis=-1)
    normals = torch.from_numpy(sums[groups].reshape(-1, 3, 3).astype(np.float64))
    return torch.nn.functional.normalize(normals, dim=-1, eps=1e-300).to(mesh.vertices)


def _welded_faces(mesh: Mesh) -> Int64[np.ndarray, "faces 3"]:
    """Return the faces with equal numbers for vertices at exactly one position."""
    positions = np.ascontiguousarray(mesh.vertices.detach().cpu().numpy()) + 0.0
    as_bytes = positions.view(np.dtype((np.void, positions.dtype.itemsize * 3))).reshape(-1)
    _, numbers = np.unique(as_bytes, return_inverse=True)
    return numbers.reshape(-1)[mesh.faces.cpu().numpy()]


def _corner_groups(
    faces: Int64[np.ndarray, "faces 3"], crosses: Float[np.ndarray, "faces 3"], crease_deg: float
) -> Int64[np.ndarray, " corners"]:
    """Return the number of the smooth group of every corner; corner ``3 f + k`` is the k-th of face f."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    num_corners = 3 * len(faces)
    units = crosses / np.maximum(np.linalg.norm(crosses, axis=1, keepdims=True), 1e-300)
    ends = np.stack([faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)], axis=-1)
    low_corner = np.arange(num_corners)
    high_corner = np.roll(low_corner.reshape(-1, 3), -1, axis=1).reshape(-1)
    swapped = ends[:, 0] > ends[:, 1]
    low_corner, high_corner = np.where(swapped, high_corner, low_corner), np.where(swapped, low_corner, high_corner)
    keys = ends.min(axis=1) * (int(faces.max(initial=0)) + 1) + ends.max(axis=1)
    order = np.argsort(keys, kind="stable")
    pairs = []
    for step in range(1, FACES_PER_EDGE):
        first, second = order[:-step], order[step:]
        same_edge = keys[first] == keys[second]
        first, second = first[same_edge], second[same_edge]
        cosines = np.einsum("ij,ij->i", units[first // 3], units[second // 3])
        smooth = cosines > math.cos(math.radians(crease_deg))
        first, second = first[smooth], second[smooth]
        pairs += [(low_corner[first], low_corner[second]), (high_corner[first], high_corner[second])]
    rows, columns = (np.concatenate(side) for side in zip(*pairs, strict=True))
    links = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(num_corners, num_corners))
    return connected_components(links, directed=False)[1].astype(np.int64)
