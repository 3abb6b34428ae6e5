"""A small SDF network on a hash grid whose value, normal and gradients are computed by fused kernels.

The network is ``[features; 2 (u - 1/2)] -> H -> H -> [sdf; features]`` with squareplus between the layers. The normal
is part of the forward pass and its derivative part of the backward pass (kernels specification 3.6), so an eikonal step
needs no second pass of autograd. Arrays are feature-major, ``[channels, samples]``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.kernels.cpu import grid_sdf as cpu
from shapewright.kernels.levels import HashLevels

SQUAREPLUS_EPS = 2e-4


@dataclass
class GridSdfParameters:
    """Hold the table and the flat weights of one network, and views of each layer.

    Args:
        table: ``[rows, 2]`` hash table.
        flat: every weight and bias in one vector; the layers are views of it.
    """

    table: Tensor
    flat: Tensor
    channels: int
    hidden: int
    outputs: int

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shapes of W1, b1, W2, b2, W3, b3, in the order of ``flat``."""
        c, h, o = self.channels, self.hidden, self.outputs
        return [(h, c), (h,), (h, h), (h,), (o, h), (o,)]

    def layers(self) -> list[Tensor]:
        """Return W1, b1, W2, b2, W3, b3 as views of ``flat``."""
        return split_flat(self.flat, self.shapes)

    def zeros_like(self) -> GridSdfParameters:
        """Return a set of zeros of the same shapes."""
        return GridSdfParameters(
            torch.zeros_like(self.table), torch.zeros_like(self.flat), self.channels, self.hidden, self.outputs
        )


def split_flat(flat: Tensor, shapes: list[tuple[int, ...]]) -> list[Tensor]:
    """Return consecutive views of a vector with the given shapes."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    return [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]


def create_grid_sdf(
    levels: HashLevels, hidden: int, num_features: int, generator: torch.Generator
) -> GridSdfParameters:
    """Return random weights: tables ``U(-1e-4, 1e-4)``, layers ``N(0, 2 / fan in)``, no weight on the grid's features.

    Args:
        levels: the level table of the hash grid, with two features a level.
        hidden: width of the two hidden layers.
        num_features: number of outputs beside the SDF.
        generator: draws the weights.
    """
    channels = 2 * levels.num_levels + 3
    table = torch.empty(levels.rows, 2).uniform_(-1e-4, 1e-4, generator=generator)
    shapes = [
        (hidden, channels),
        (hidden,),
        (hidden, hidden),
        (hidden,),
        (1 + num_features, hidden),
        (1 + num_features,),
    ]
    flat = torch.zeros(sum(int(np.prod(shape)) for shape in shapes))
    parameters = GridSdfParameters(table, flat, channels, hidden, 1 + num_features)
    w1, _, w2, _, w3, _ = parameters.layers()
    for weight in (w1, w2, w3):
        weight.normal_(0.0, (2.0 / weight.shape[1]) ** 0.5, generator=generator)
    w1[:, : channels - 3] *= 0.1
    return parameters


@dataclass
class GridSdfPass:
    """Hold what the backward pass needs of a forward pass."""

    points: Tensor
    inputs: Tensor
    jacobian: Tensor
    hidden1: Tensor
    slope1: Tensor
    hidden2: Tensor
    slope2: Tensor
    inner: Tensor
    pulled_hidden: Tensor
    pulled: Tensor
    outputs: Float[Tensor, "1+features n"]
    normals: Float[Tensor, "3 n"]


class GridSdf:
    """Evaluate the field and its gradients with the CPU kernels.

    Args:
        parameters: table and weights; read, never written here.
        levels: the level table.
        side: length of the grid's cube in world units; normals are derivatives by world positions.
    """

    def __init__(self, parameters: GridSdfParameters, levels: HashLevels, side: float) -> None:
        self.parameters = parameters
        self.levels = levels
        self.side = side
        self.active = levels.num_levels
        masks = [0 if dense else size - 1 for dense, size in zip(levels.dense, levels.sizes, strict=True)]
        self._constants = (
            np.array(levels.scales, np.float32),
            np.array(levels.resolutions, np.uint32),
            np.array(levels.starts, np.uint32),
            np.array(masks, np.uint32),
        )

    def _encode(self, points: Tensor, jacobian: Tensor | None) -> Tensor:
        n = points.shape[1]
        inputs = torch.empty(self.parameters.channels, n)
        table = self.parameters.table.view(-1).numpy()
        constants = [values[: self.active] for values in self._constants]
        if jacobian is None:
            cpu.encode_values(points.numpy(), table, *constants, inputs.numpy())
        else:
            cpu.encode(points.numpy(), table, *constants, inputs.numpy(), jacobian.numpy())
        grid_channels = self.parameters.channels - 3
        inputs[2 * self.active : grid_channels] = 0.0
        torch.mul(points, 2.0, out=inputs[grid_channels:]).sub_(1.0)
        return inputs

    def values(self, points: Float[Tensor, "3 n"]) -> Float[Tensor, "1+features n"]:
        """Return the SDF (row 0) and the features at positions in the unit cube."""
        w1, b1, w2, b2, w3, b3 = self.parameters.layers()
        hidden = self._encode(points, None)
        for weight, bias in ((w1, b1), (w2, b2)):
            hidden = weight @ hidden
            cpu.squareplus_value(hidden.numpy(), bias.numpy(), np.float32(SQUAREPLUS_EPS))
        return (w3 @ hidden).add_(b3[:, None])

    def forward(self, points: Float[Tensor, "3 n"]) -> GridSdfPass:
        """Return values, features and normals at positions in the unit cube, with what ``backward`` needs."""
        w1, b1, w2, b2, w3, b3 = self.parameters.layers()
        n = points.shape[1]
        eps = np.float32(SQUAREPLUS_EPS)
        jacobian = torch.empty(2 * self.active, 3, n)
        inputs = self._encode(points, jacobian)
        # Outputs that overlap the input would keep the kernel from running as vectors.
        pre = w1 @ inputs
        hidden1, slope1 = torch.empty_like(pre), torch.empty_like(pre)
        cpu.squareplus_forward(pre.numpy(), b1.numpy(), eps, hidden1.numpy(), slope1.numpy())
        torch.mm(w2, hidden1, out=pre)
        hidden2, slope2 = torch.empty_like(pre), torch.empty_like(pre)
        cpu.squareplus_forward(pre.numpy(), b2.numpy(), eps, hidden2.numpy(), slope2.numpy())
        outputs = (w3 @ hidden2).add_(b3[:, None])
        # The derivative of the SDF by the first layer's output, its pre-activation and the input.
        inner = (w3[0][:, None] * w2).T @ slope2
        pulled_hidden = inner * slope1
        pulled = w1.T @ pulled_hidden
        normals = torch.empty(3, n)
        cpu.pull_jacobian(jacobian.numpy(), pulled.numpy(), normals.numpy())
        normals.add_(pulled[-3:], alpha=2.0).mul_(1.0 / self.side)
        return GridSdfPass(
            points, inputs, jacobian, hidden1, slope1, hidden2, slope2, inner, pulled_hidden, pulled, outputs, normals
        )

    def backward(
        self, state: GridSdfPass, grad_outputs: Tensor, grad_normals: Tensor, grad: GridSdfParameters
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of the weights to ``grad`` and return what ``scatter`` needs for the table.

        Args:
            state: the forward pass; its arrays are used up.
            grad_outputs: ``[1 + features, n]``.
            grad_normals: ``[3, n]``.
            grad: gradients of the weights, added to.

        Returns:
            grad_inputs: ``[channels, n]``; direction: ``[3, n]``, ``grad_normals`` in units of the cube, 0
            along axes on which the position lies beyond it.
        """
        w1, _, w2, _, w3, _ = self.parameters.layers()
        d_w1, d_b1, d_w2, d_b2, d_w3, d_b3 = grad.layers()
        curvature = np.float32(0.5 / SQUAREPLUS_EPS**0.5)
        direction = grad_normals * (1.0 / self.side)
        grad_pulled = torch.zeros_like(state.inputs)
        cpu.push_jacobian(state.jacobian.numpy(), direction.numpy(), grad_pulled.numpy())
        torch.mul(direction, 2.0, out=grad_pulled[-3:])
        # Second-order part of layer one: through pulled_hidden = inner * slope1.
        grad_pulled_hidden = w1 @ grad_pulled
        grad_inner = torch.empty_like(grad_pulled_hidden)
        grad_pre1 = torch.empty_like(grad_pulled_hidden)
        cpu.first_layer_second_order(
            grad_pulled_hidden.numpy(), state.slope1.numpy(), state.inner.numpy(), curvature,
            grad_inner.numpy(), grad_pre1.numpy(),
        )  # fmt: skip
        d_w1.addmm_(state.pulled_hidden, grad_pulled.T)
        # Layer two: inner = W2^T (w slope2), and the values.
        d_w2.addcmul_(w3[0][:, None], state.slope2 @ grad_inner.T)
        grad_outer = w2 @ grad_inner
        grad_pre2 = w3.T @ grad_outputs
        cpu.second_layer_backward(
            grad_pre2.numpy(), state.slope2.numpy(), grad_outer.numpy(), w3[0].numpy(), curvature,
            d_w3[0].numpy(), d_b2.numpy(),
        )  # fmt: skip
        d_w3.addmm_(grad_outputs, state.hidden2.T)
        d_b3.add_(grad_outputs.sum(1))
        d_w2.addmm_(grad_pre2, state.hidden1.T)
        # Layer one and the input.
        grad_hidden1 = w2.T @ grad_pre2
        cpu.first_layer_backward(grad_hidden1.numpy(), state.slope1.numpy(), grad_pre1.numpy(), d_b1.numpy())
        d_w1.addmm_(grad_pre1, state.inputs.T)
        is_inside = (state.points >= 0.0) & (state.points <= 1.0)
        return w1.T @ grad_pre1, direction.mul_(is_inside)

    def scatter(
        self, state: GridSdfPass, grad_inputs: Tensor, direction: Tensor, table_grad: Tensor, level: int
    ) -> None:
        """Add the gradient of one level to the flat gradient of the table."""
        cpu.scatter_level(
            state.points.numpy(), grad_inputs.numpy(), state.pulled.numpy(), direction.numpy(),
            *(values[level] for values in self._constants), level, table_grad.numpy(), 0, state.points.shape[1],
        )  # fmt: skip
