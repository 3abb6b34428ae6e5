"""A small SDF network on a hash grid in plain torch: the definition of the fused kernels, and their oracle.

With features ``y = enc(u)`` of a position ``u`` in the unit cube and squareplus ``phi(z) = (z + sqrt(z^2 + eps)) / 2``:

    h1 = phi(W1 [y; 2 u - 1] + b1),   h2 = phi(W2 h1 + b2),   o = W3 h2 + b3

``o[0]`` is the SDF, the rest are features for the radiance network. Beyond the cube the encoding is that of the nearest
position inside.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.kernels.levels import HashGrid
from shapewright.kernels.reference import hash_grid


def squareplus(z: Float[Tensor, "*n"], eps: float) -> Float[Tensor, "*n"]:
    """Return ``(z + sqrt(z^2 + eps)) / 2``, a smooth ``max(z, 0)`` without exponentials."""
    return 0.5 * (z + (z * z + eps).sqrt())


def network(inputs: Float[Tensor, "n channels"], layers: Sequence[Tensor], eps: float) -> Float[Tensor, "n outputs"]:
    """Return the outputs of two squareplus layers and a linear one.

    Args:
        inputs: ``[y; 2 u - 1]``.
        layers: ``W1, b1, W2, b2, W3, b3``.
        eps: Width of squareplus' bend.
    """
    w1, b1, w2, b2, w3, b3 = layers
    hidden = squareplus(torch.addmm(b1, inputs, w1.T), eps)
    return torch.addmm(b3, squareplus(torch.addmm(b2, hidden, w2.T), eps), w3.T)


def grid_sdf(
    points: Float[Tensor, "n 3"], table: Float[Tensor, "rows features"], layers: Sequence[Tensor], grid: HashGrid,
    eps: float,
) -> tuple[Float[Tensor, "n outputs"], Float[Tensor, "n 3"]]:  # fmt: skip
    """Return the outputs and the derivative of the SDF by ``points``; both are differentiable any number of times."""
    with torch.enable_grad():
        x = points if points.requires_grad else points.detach().requires_grad_()
        encoded = hash_grid.forward(x.clamp(0.0, 1.0), table, grid)
        outputs = network(torch.cat([encoded, 2.0 * x - 1.0], dim=1), layers, eps)
        (slope,) = torch.autograd.grad(outputs[:, 0].sum(), x, create_graph=True)
    return outputs, slope
