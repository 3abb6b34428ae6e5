"""Losses that keep neighbouring triangles of a mesh in one plane."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from shapewright.kernels.mesh_ops import flatness


def flatness_loss(vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges 4"]) -> Float[Tensor, ""]:
    """Return ``sum_e (c_e + 1)^2``, the mean over meshes; c is the cosine between the faces of an edge, -1 when flat.

    With the edge ``a = v1 - v0`` and the opposite vertices ``b_i``, seen from v0, and eps = 1e-6 (Neural Mesh Renderer,
    arXiv:1711.07566, section 4.1, as its program computes it)::

        cos_i = a.b_i / (sqrt(|a|^2 + eps) sqrt(|b_i|^2 + eps) + eps)
        r_i   = b_i - a (a.b_i) / (|a|^2 + eps)
        l_i   = sqrt(|b_i|^2 + eps) sqrt(max(1 - cos_i^2, 0) + eps)
        c     = r_1.r_2 / (l_1 l_2 + eps)

    eps matters: the template of 642 vertices costs .0341 at radius 1 and .0421 at radius .5. Edges with one face cost
    nothing. On the CPU it is differentiable once; ``kernels.reference.flatness`` is plain torch.

    Args:
        vertices: One mesh an image.
        edges: Each edge with its opposite vertices, as ``geometry.mesh_edges.edge_table`` has them.

    Raises:
        ValueError: if a shape does not fit, or an edge names a missing vertex.
    """
    return flatness(vertices, edges).sum() / max(len(vertices), 1)


def dihedral_loss(vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges 4"]) -> Float[Tensor, ""]:
    """Return ``sum_e (1 - n_f . n_g)^2`` over the faces of each edge, the mean over meshes.

    The same as :func:`flatness_loss` in exact arithmetic, without the square root whose derivative spikes on slivers.

    Args:
        vertices: One mesh an image.
        edges: Each edge with its opposite vertices.
    """
    edges = edges[edges[:, 3] >= 0]
    v0, v1, v2, v3 = (vertices[:, edges[:, k]] for k in range(4))
    n_f = normalize(torch.linalg.cross(v1 - v0, v2 - v0), dim=-1, eps=1e-12)
    n_g = normalize(torch.linalg.cross(v3 - v0, v1 - v0), dim=-1, eps=1e-12)
    return (1 - (n_f * n_g).sum(-1)).square().sum() / max(len(vertices), 1)
