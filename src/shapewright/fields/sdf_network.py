"""The signed distance network: position -> distance and a feature for the radiance network."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.checks import check_range
from shapewright.fields.config import SdfConfig
from shapewright.fields.encodings.base import Encoding
from shapewright.fields.layers import linear

FIT_STEPS = 50
FIT_POINTS = 2048
FIT_RATE = 2e-3


class FieldValues(NamedTuple):
    """Hold the network's answer at some points."""

    sdf: Float[Tensor, "*n"]
    gradient: Float[Tensor, "*n 3"]
    feature: Float[Tensor, "*n feature"]


class SdfNetwork(nn.Module):
    """Return signed distances (negative inside) and features of positions.

    A perceptron over an encoding of the position, with softplus
    activations and an optional second reading of the encoding (IDR,
    arXiv:2003.09852, supplementary B.1; the start is IGR's,
    arXiv:2002.10099, section 3.3).

    Args:
        config: Sizes and start.
        encoding: Its first three features must be the position itself.
        generator: Draws the weights.

    Raises:
        ValueError: if a skip leaves no room for the encoding in a layer.
    """

    def __init__(self, config: SdfConfig, encoding: Encoding, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.encoding = encoding
        inputs = [encoding.dim_out] + [config.width] * config.num_layers
        outputs = [config.width] * config.num_layers + [1 + config.feature_size]
        if config.skip_layer:
            check_range("width", config.width, encoding.dim_out + 1)
            outputs[config.skip_layer - 1] -= encoding.dim_out
        self.layers = nn.ModuleList(
            linear(dim_in, dim_out, config.weight_norm, generator)
            for dim_in, dim_out in zip(inputs, outputs, strict=True)
        )
        self._start_as_sphere(generator)
        if config.start == "fit":
            self._fit_sphere(generator)

    def forward(self, points: Float[Tensor, "*n 3"]) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n feature"]]:
        """Return distances and features."""
        output = self.layers[-1](self._hidden(self.encoding(points)))
        return output[..., 0], output[..., 1:]

    def sdf(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Return distances alone."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        hidden = self._hidden(self.encoding(points))
        return nn.functional.linear(hidden, last.weight[:1], last.bias[:1]).squeeze(-1)

    def evaluate(self, points: Float[Tensor, "*n 3"]) -> FieldValues:
        """Return distances, their gradients by the position, and features.

        The gradient is exact, and differentiable wherever gradients are
        enabled: the derivative by the encoding, pulled back to the position.
        """
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            encoded = self.encoding(points)
            if not encoded.requires_grad:
                encoded.requires_grad_()
            output = self.layers[-1](self._hidden(encoded))
            sdf = output[..., 0]
            (slope,) = torch.autograd.grad(sdf, encoded, torch.ones_like(sdf), create_graph=create_graph)
        gradient = self.encoding.pull(points, slope)
        values = FieldValues(sdf, gradient, output[..., 1:])
        return values if create_graph else FieldValues(*(value.detach() for value in values))

    def _hidden(self, encoded: Float[Tensor, "*n encoded"]) -> Float[Tensor, "*n width"]:
        hidden = encoded
        for index, layer in enumerate(self.layers[:-1]):
            if index and index == self.config.skip_layer:
                hidden = torch.cat([hidden, encoded], dim=-1) / math.sqrt(2.0)
            hidden = nn.functional.softplus(layer(hidden), beta=self.config.sharpness)
        return hidden

    @torch.no_grad()
    def _start_as_sphere(self, generator: torch.Generator | None) -> None:
        """Set weights with which the network is about ``|x| - radius``.

        Hidden weights ~ N(0, 2 / outputs), but 0 where the encoding's
        features beyond the position enter; last weights about
        sqrt(pi / inputs), last bias -radius.
        """
        sign = -1.0 if self.config.inside_out else 1.0
        num_extra = self.encoding.dim_out - 3
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            dim_out, dim_in = layer.weight.shape
            weight = torch.empty(dim_out, dim_in)
            layer.bias.zero_()
            if index == len(self.layers) - 1:
                weight.normal_(math.sqrt(math.pi / dim_in), 1e-4, generator=generator)
                layer.bias.fill_(-sign * self.config.radius)
                weight *= sign
            else:
                weight.normal_(0.0, math.sqrt(2.0 / dim_out), generator=generator)
                if num_extra and index in (0, self.config.skip_layer):
                    weight[:, -num_extra:] = 0.0
            layer.weight = weight if self.config.weight_norm else nn.Parameter(weight)

    def _fit_sphere(self, generator: torch.Generator | None) -> None:
        """Take a few steps towards the exact distance of the sphere; the start alone is off by 0.1."""
        sign = -1.0 if self.config.inside_out else 1.0
        optimizer = torch.optim.Adam(self.layers.parameters(), lr=FIT_RATE)
        for _ in range(FIT_STEPS):
            points = torch.rand(FIT_POINTS, 3, generator=generator) * 2.0 - 1.0
            target = sign * (points.norm(dim=-1) - self.config.radius)
            loss = (self.sdf(points) - target).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        self.zero_grad()
