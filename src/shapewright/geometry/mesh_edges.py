"""Edges of a triangle mesh, with the faces on both sides."""

from __future__ import annotations

import torch
from jaxtyping import Int64
from torch import Tensor

from shapewright.checks import check_shape


def edge_table(faces: Int64[Tensor, "faces 3"]) -> Int64[Tensor, "edges 4"]:
    """Return each edge once, as its two vertices and the vertices opposite to it in its first two faces.

    The fourth entry is -1 where an edge has one face only. Faces beyond the second of a non-manifold edge are left out.
    Rows are sorted by the edge, so that the table does not depend on the order of the corners.

    Args:
        faces: Vertex indices of each triangle.

    Raises:
        ValueError: if there are not three indices a face.
    """
    check_shape("faces", faces, (None, 3))
    corners = faces[:, [0, 1, 2, 1, 2, 0, 2, 0, 1]].view(-1, 3)
    ends = corners[:, :2].sort(dim=1).values
    edges, edge_of_side = torch.unique(ends, dim=0, return_inverse=True)
    order = edge_of_side.argsort(stable=True)
    counts = torch.bincount(edge_of_side, minlength=len(edges))
    first = counts.cumsum(0) - counts
    opposite = corners[order, 2]
    second = torch.where(counts > 1, opposite[(first + 1).clamp(max=max(len(opposite) - 1, 0))], -1)
    return torch.cat([edges, opposite[first][:, None], second[:, None]], dim=1)
