"""A small radiance network with hand-written gradients on feature-major arrays."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.fields.grid_sdf import split_flat
from shapewright.kernels.cpu import grid_sdf as cpu

VIEW_POLYNOMIALS = 9


@dataclass
class RadianceParameters:
    """Hold the weights of ``inputs -> H -> H -> 3`` in one flat vector."""

    flat: Tensor
    inputs: int
    hidden: int

    def layers(self) -> list[Tensor]:
        """Return V1, c1, V2, c2, V3, c3 as views of ``flat``."""
        i, h = self.inputs, self.hidden
        return split_flat(self.flat, [(h, i), (h,), (h, h), (h,), (3, h), (3,)])

    def zeros_like(self) -> RadianceParameters:
        """Return a set of zeros of the same shapes."""
        return RadianceParameters(torch.zeros_like(self.flat), self.inputs, self.hidden)


def create_radiance(num_features: int, hidden: int, generator: torch.Generator) -> RadianceParameters:
    """Return weights ``N(0, 2 / fan in)`` for inputs of features, unit normal and polynomials of the direction."""
    inputs = num_features + 3 + VIEW_POLYNOMIALS
    size = hidden * (inputs + 1) + hidden * (hidden + 1) + 3 * (hidden + 1)
    parameters = RadianceParameters(torch.zeros(size), inputs, hidden)
    for weight in parameters.layers()[::2]:
        weight.normal_(0.0, (2.0 / weight.shape[1]) ** 0.5, generator=generator)
    return parameters


@dataclass
class RadiancePass:
    """Hold what the backward pass needs of a forward pass."""

    inputs: Tensor
    hidden1: Tensor
    hidden2: Tensor
    colors: Float[Tensor, "3 n"]


def radiance_forward(parameters: RadianceParameters, inputs: Float[Tensor, "channels n"]) -> RadiancePass:
    """Return colours in [0, 1]: two ReLU layers and a logistic function."""
    v1, c1, v2, c2, v3, c3 = parameters.layers()
    hidden1 = v1 @ inputs
    cpu.relu_forward(hidden1.numpy(), c1.numpy())
    hidden2 = v2 @ hidden1
    cpu.relu_forward(hidden2.numpy(), c2.numpy())
    colors = (v3 @ hidden2).add_(c3[:, None]).sigmoid_()
    return RadiancePass(inputs, hidden1, hidden2, colors)


def radiance_backward(
    parameters: RadianceParameters, state: RadiancePass, grad_colors: Tensor, grad: RadianceParameters
) -> Tensor:
    """Add the weights' gradients to ``grad`` and return the gradient of the inputs."""
    v1, _, v2, _, v3, _ = parameters.layers()
    d_v1, d_c1, d_v2, d_c2, d_v3, d_c3 = grad.layers()
    grad_pre3 = grad_colors * state.colors * (1.0 - state.colors)
    d_v3.addmm_(grad_pre3, state.hidden2.T)
    d_c3.add_(grad_pre3.sum(1))
    grad_pre2 = v3.T @ grad_pre3
    cpu.relu_backward(grad_pre2.numpy(), state.hidden2.numpy(), d_c2.numpy())
    d_v2.addmm_(grad_pre2, state.hidden1.T)
    grad_pre1 = v2.T @ grad_pre2
    cpu.relu_backward(grad_pre1.numpy(), state.hidden1.numpy(), d_c1.numpy())
    d_v1.addmm_(grad_pre1, state.inputs.T)
    return v1.T @ grad_pre1
