"""The decoder: position and code of a shape -> signed distance.

The code of a shape is the same for all its points, so its product with the weights is taken once a shape and
enters the layers as a bias ("factorised"): the same function as of concatenated inputs, at a fraction of the work.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from shapewright.methods.deep_sdf.config import DecoderConfig

CHUNK_POINTS = 1 << 15
SPHERE_RADIUS = 0.5
LATENT_DROPOUT = 0.2


@dataclass(frozen=True)
class LayerWeights:
    """Hold the weights of one layer, split by what they multiply.

    Args:
        hidden: For the outputs of the layer before; none in the first layer.
        code: For the code, where it enters.
        position: For the encoded position, where it enters.
        bias: Added to the products.
        norm: Weight and bias of the layer normalisation of the outputs, if any.
    """

    hidden: Float[Tensor, "out hidden"] | None
    code: Float[Tensor, "out code"] | None
    position: Float[Tensor, "out features"] | None
    bias: Float[Tensor, " out"]
    norm: tuple[Float[Tensor, " out"], Float[Tensor, " out"]] | None = None

    def detached(self) -> LayerWeights:
        """Return the same weights without their history."""
        parts = {
            name: None if getattr(self, name) is None else getattr(self, name).detach()
            for name in ("hidden", "code", "position", "bias")
        }
        return replace(self, **parts, norm=None if self.norm is None else tuple(p.detach() for p in self.norm))


class _Linear(nn.Module):
    """Hold a linear layer under the original's names: ``weight``, or ``weight_g`` and ``weight_v``; and ``bias``."""

    def __init__(self, weight: Tensor, bias: Tensor, weight_norm: bool) -> None:
        super().__init__()
        if weight_norm:
            self.weight_g = nn.Parameter(weight.norm(dim=1, keepdim=True))
            self.weight_v = nn.Parameter(weight)
        else:
            self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)

    def folded_weight(self) -> Tensor:
        """Return ``g v / ||v||``, row by row (weight normalisation, arXiv:1602.07868, eq. 2)."""
        if hasattr(self, "weight_v"):
            return functional.normalize(self.weight_v, dim=1, eps=0.0) * self.weight_g
        return self.weight


def num_position_features(config: DecoderConfig) -> int:
    """Return how many numbers stand for a position."""
    return 3 if config.encoding == "none" else 3 + 6 * config.octaves


def encode_positions(points: Float[Tensor, "*n 3"], config: DecoderConfig) -> Float[Tensor, "*n features"]:
    """Return the position and, with an encoding, sines and cosines of it (NeRF, arXiv:2003.08934, eq. 4)."""
    if config.encoding == "none":
        return points
    octaves = torch.arange(config.octaves, device=points.device, dtype=points.dtype)
    angles = (points[..., None, :] * (config.lowest_frequency * 2**octaves)[:, None]).flatten(-2)
    return torch.cat((points, angles.sin(), angles.cos()), dim=-1)


class Decoder(nn.Module):
    """Map positions and codes to signed distances, negative inside (DeepSDF, arXiv:1901.05103, figure 9).

    Layers ``lin0 ... lin{n}`` with ReLU between them and a hyperbolic tangent at the end. The parameters have the
    original's names and shapes: a layer's inputs are ``[hidden | code | position]``.

    Args:
        config: Sizes, normalisation, dropout, start.
        generator: Draws the weights.

    Raises:
        ValueError: if a layer before one of ``latent_in`` would have no output left.
    """

    def __init__(self, config: DecoderConfig, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        self.num_layers = len(config.widths) + 1
        for index in range(self.num_layers):
            num_in, num_out = self._sizes(index)
            weight, bias = self._start(index, num_in, num_out, generator)
            normed = index in config.norm_layers
            self.add_module(f"lin{index}", _Linear(weight, bias, normed and config.weight_norm))
            if normed and not config.weight_norm:
                self.add_module(f"bn{index}", nn.LayerNorm(num_out))

    def _sizes(self, index: int) -> tuple[int, int]:
        """Return the numbers of inputs and outputs of a layer (5.1 of the format's description)."""
        config, last = self.config, self.num_layers - 1
        features = num_position_features(config)
        joined = config.code_length + features
        num_in = self._hidden_inputs(index) + joined * self._has_code(index)
        if self._has_position(index) and not self._has_code(index):
            num_in += features
        num_out = 1 if index == last else config.widths[index]
        if index < last and not config.keep_width:
            if index + 1 in config.latent_in:
                num_out -= joined
            elif config.xyz_in_all and index + 1 <= last and index != last:
                num_out -= features
        if num_out < 1:
            raise ValueError(
                f"Layer {index} of width {config.widths[index]} has no output left beside a code of "
                f"{config.code_length} numbers; use wider layers, a shorter code, or keep_width."
            )
        return num_in, num_out

    def _hidden_inputs(self, index: int) -> int:
        return 0 if index == 0 else self._sizes(index - 1)[1]

    def _has_code(self, index: int) -> bool:
        return index == 0 or index in self.config.latent_in

    def _has_position(self, index: int) -> bool:
        return self._has_code(index) or self.config.xyz_in_all

    def _start(self, index: int, num_in: int, num_out: int, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Return the first weights: those of ``nn.Linear``, or of a sphere's distance (SAL, arXiv:1911.10414, 5.1)."""
        if self.config.init == "default":
            bound = 1.0 / math.sqrt(num_in)
            weight = (2 * torch.rand(num_out, num_in, generator=generator) - 1) * bound
            return weight, (2 * torch.rand(num_out, generator=generator) - 1) * bound
        noise = torch.randn(num_out, num_in, generator=generator)
        if index == self.num_layers - 1:
            return math.sqrt(math.pi / num_in) + 1e-4 * noise, torch.full((num_out,), -SPHERE_RADIUS)
        weight = noise * math.sqrt(2.0 / num_out)
        encoded = num_position_features(self.config) - 3
        if encoded and self._has_position(index):
            weight[:, num_in - encoded :] = 0.0
        if index > 0 and self._has_position(index):
            weight[:, self._hidden_inputs(index) :] *= 0.1
        return weight, torch.zeros(num_out)

    def layers(self) -> list[LayerWeights]:
        """Return the weights of all layers, normalised and split."""
        found = []
        for index in range(self.num_layers):
            linear = self.get_submodule(f"lin{index}")
            weight = linear.folded_weight()
            hidden = self._hidden_inputs(index)
            after_code = hidden + self.config.code_length * self._has_code(index)
            norm = dict(self.named_children()).get(f"bn{index}")
            found.append(
                LayerWeights(
                    hidden=weight[:, :hidden] if index else None,
                    code=weight[:, hidden:after_code] if self._has_code(index) else None,
                    position=weight[:, after_code:] if self._has_position(index) else None,
                    bias=linear.bias,
                    norm=None if norm is None else (norm.weight, norm.bias),
                )
            )
        return found

    def forward(
        self,
        points: Float[Tensor, "shapes n 3"],
        codes: Float[Tensor, "shapes code"],
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "shapes n"]:
        """Return the distances at the points of several shapes.

        Args:
            points: Positions in the unit sphere.
            codes: One code a shape.
            dtype: Type in which the hidden layers are multiplied; positions, codes and the result keep theirs.
        """
        layers = self.layers()
        dropout = LATENT_DROPOUT if self.training and self.config.latent_dropout else 0.0
        return evaluate(self.config, layers, points, conditions(layers, codes, dropout), dtype, self.training)

    def fold(self) -> FoldedDecoder:
        """Return the decoder with its weights normalised once and frozen."""
        return FoldedDecoder(self.config, [layer.detached() for layer in self.layers()])


def conditions(
    layers: list[LayerWeights], codes: Float[Tensor, "shapes code"], dropout: float = 0.0
) -> list[Float[Tensor, "shapes out"]]:
    """Return what the code adds to each layer of each shape: ``W_z z + b``."""
    return [
        layer.bias.expand(len(codes), -1)
        if layer.code is None
        else functional.linear(
            codes if index else functional.dropout(codes, dropout, dropout > 0), layer.code, layer.bias
        )
        for index, layer in enumerate(layers)
    ]


def evaluate(
    config: DecoderConfig,
    layers: list[LayerWeights],
    points: Float[Tensor, "shapes n 3"],
    added: list[Float[Tensor, "shapes out"]],
    dtype: torch.dtype = torch.float32,
    training: bool = False,
) -> Float[Tensor, "shapes n"]:
    """Return the distances of a decoder whose layers' conditions are known.

    The position's part is always multiplied in the type of ``points``: 16 bits would move a point by up to 0.004.
    """
    features = encode_positions(points, config)
    hidden = features
    last = len(layers) - 1
    for index, (layer, offset) in enumerate(zip(layers, added, strict=True)):
        offset = offset[:, None]
        if layer.position is not None:
            offset = functional.linear(features, layer.position) + offset
        if layer.hidden is None:
            hidden = offset
        elif layer.position is None and layer.code is None and index < last:
            hidden = functional.linear(hidden, layer.hidden.to(dtype), layer.bias.to(dtype))
        elif index < last:
            hidden = functional.linear(hidden, layer.hidden.to(dtype)) + offset.to(dtype)
        else:
            hidden = functional.linear(hidden, layer.hidden.to(dtype)).to(points.dtype) + offset
        if index == last:
            return (hidden.tanh() if config.use_tanh else hidden).tanh()[..., 0]
        hidden = hidden.to(dtype)
        if layer.norm is not None:
            hidden = functional.layer_norm(hidden, hidden.shape[-1:], *(part.to(dtype) for part in layer.norm))
        hidden = functional.relu(hidden, inplace=True)
        if training and index in config.dropout_layers:
            hidden = functional.dropout(hidden, config.dropout)
    raise AssertionError("A decoder has a last layer.")


class FoldedDecoder:
    """Evaluate a frozen decoder; gradients reach codes and positions, not the weights.

    Args:
        config: The decoder's.
        layers: Its weights.
    """

    def __init__(self, config: DecoderConfig, layers: list[LayerWeights]) -> None:
        self.config = config
        self.layers = layers

    def __call__(
        self,
        points: Float[Tensor, "shapes n 3"],
        codes: Float[Tensor, "shapes code"],
        dtype: torch.dtype = torch.float32,
    ) -> Float[Tensor, "shapes n"]:
        """Return the distances at the points of several shapes."""
        return evaluate(self.config, self.layers, points, conditions(self.layers, codes), dtype)

    @torch.no_grad()
    def sdf(self, points: Float[Tensor, "n 3"], code: Float[Tensor, " code"]) -> Float[Tensor, " n"]:
        """Return the distances at any number of points of one shape, without gradient."""
        added = conditions(self.layers, code[None])
        parts = [evaluate(self.config, self.layers, part[None], added)[0] for part in points.split(CHUNK_POINTS)]
        return torch.cat(parts) if parts else points.new_zeros(0)
