"""How far the faces of each edge are from one plane, in plain torch: the definition, and what runs off the CPU."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

EPS = 1e-6


def flatness(vertices: Float[Tensor, "images vertices 3"], edges: Int64[Tensor, "edges 4"]) -> Float[Tensor, " images"]:
    """Return ``sum_e (c_e + 1)^2`` of each mesh; :func:`shapewright.losses.flatness.flatness_loss` states c.

    Args:
        vertices: One mesh an image.
        edges: Each edge with its opposite vertices; those with one face, -1 in the last column, are left out.
    """
    edges = edges[edges[:, 3] >= 0]
    v0 = vertices[:, edges[:, 0]]
    a = vertices[:, edges[:, 1]] - v0
    aa = a.square().sum(-1)
    residuals, lengths = [], []
    for column in (2, 3):
        b = vertices[:, edges[:, column]] - v0
        ab, bb = (a * b).sum(-1), b.square().sum(-1)
        cosine = ab / ((aa + EPS).sqrt() * (bb + EPS).sqrt() + EPS)
        residuals.append(b - a * (ab / (aa + EPS))[..., None])
        lengths.append((bb + EPS).sqrt() * ((1 - cosine.square()).clamp(min=0) + EPS).sqrt())
    c = (residuals[0] * residuals[1]).sum(-1) / (lengths[0] * lengths[1] + EPS)
    return torch.sum((c + 1).square(), dim=1)
