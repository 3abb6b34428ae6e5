"""Losses that keep the vertices of a mesh evenly spread: towards the mean of the neighbours, and edges alike."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def laplacian_loss(
    vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges columns"]
) -> Float[Tensor, ""]:
    """Return ``sum_v |v - mean of its neighbours|^2``, the mean over meshes (SoftRas, arXiv:1904.01786, eq. 12).

    A vertex without a neighbour costs nothing.

    Args:
        vertices: One mesh an image.
        edges: Both ends of each edge once, in the first two columns, as ``geometry.mesh_edges.edge_table`` has them.
    """
    a, b = edges[:, 0], edges[:, 1]
    sums = torch.zeros_like(vertices).index_add(1, a, vertices[:, b]).index_add(1, b, vertices[:, a])
    counts = torch.bincount(edges[:, :2].flatten(), minlength=vertices.shape[1])[:, None]
    offset = torch.where(counts > 0, vertices - sums / counts.clamp(min=1), 0.0)
    return offset.square().sum() / max(len(vertices), 1)


def edge_length_loss(
    vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges columns"]
) -> Float[Tensor, ""]:
    """Return ``sum_e (length_e - mean length)^2``, the mean over meshes.

    Args:
        vertices: One mesh an image.
        edges: Both ends of each edge once, in the first two columns.
    """
    if not len(edges):
        return vertices.sum() * 0
    lengths = (vertices[:, edges[:, 1]] - vertices[:, edges[:, 0]]).norm(dim=-1)
    return (lengths - lengths.mean(dim=1, keepdim=True)).square().sum() / max(len(vertices), 1)
