"""The decoder: position and code of a shape -> signed distance.

The code of a shape is the same for all its points, so its product with the weights is taken once a shape and
enters the layers as a bias ("factorised"): the same function as of concatenated inputs, at a fraction of the work.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from shapewright.methods.deep_sdf.config import DecoderConfig
from shapewright.methods.deep_sdf.fused import Stack, evaluate_stack

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
        return LayerWeights(
            hidden=None if self.hidden is None else self.hidden.detach(),
            code=None if self.code is None else self.code.detach(),
            position=None if self.position is None else self.position.detach(),
            bias=self.bias.detach(),
            norm=None if self.norm is None else (self.norm[0].detach(), self.norm[1].detach()),
        )


@dataclass(frozen=True)
class Stage:
    """Hold what a decoder does in training alone.

    Args:
        training: Set outputs to zero as the settings say.
        bypass: For each layer the share of its input that goes past it; empty: none.
    """

    training: bool = False
    bypass: tuple[float, ...] = ()


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
            assert isinstance(linear, _Linear)
            weight = linear.folded_weight()
            hidden = self._hidden_inputs(index)
            after_code = hidden + self.config.code_length * self._has_code(index)
            norm = dict(self.named_children()).get(f"bn{index}")
            assert norm is None or isinstance(norm, nn.LayerNorm)
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
        dtype: torch.dtype | None = None,
        bypass: Sequence[float] = (),
    ) -> Float[Tensor, "shapes n"]:
        """Return the distances at the points of several shapes.

        Args:
            points: Positions in the unit sphere.
            codes: One code a shape.
            dtype: Type in which the hidden layers are multiplied, that of ``points`` by default; positions, codes and
                the result keep theirs.
            bypass: For each layer the share ``a`` of ``a h + (1 - a) layer(h)`` that goes past it; none: 0 everywhere.
        """
        layers = self.layers()
        added = conditions(layers, codes)
        if self.training and self.config.latent_dropout:
            first = layers[0]
            assert first.code is not None
            # Each point loses other numbers of its shape's code.
            dropped = functional.dropout(codes[:, None].expand(-1, points.shape[1], -1), LATENT_DROPOUT)
            added[0] = functional.linear(dropped, first.code, first.bias)
        return evaluate(self.config, layers, points, added, dtype, Stage(self.training, tuple(bypass)))

    def fold(self) -> FoldedDecoder:
        """Return the decoder with its weights normalised once and frozen."""
        return FoldedDecoder(self.config, [layer.detached() for layer in self.layers()])


def conditions(
    layers: list[LayerWeights], codes: Float[Tensor, "shapes code"]
) -> list[Float[Tensor, "shapes out"] | Float[Tensor, "shapes n out"]]:
    """Return what the code adds to each layer of each shape: ``W_z z + b``."""
    return [
        layer.bias.expand(len(codes), -1) if layer.code is None else functional.linear(codes, layer.code, layer.bias)
        for layer in layers
    ]


def evaluate(
    config: DecoderConfig,
    layers: list[LayerWeights],
    points: Float[Tensor, "shapes n 3"],
    added: list[Float[Tensor, "shapes out"] | Float[Tensor, "shapes n out"]],
    dtype: torch.dtype | None = None,
    stage: Stage | None = None,
) -> Float[Tensor, "shapes n"]:
    """Return the distances of a decoder whose layers' conditions are known.

    The position keeps at least 16 significant bits in any type: bf16 alone would move a point by up to 0.004.

    Args:
        config: The decoder's.
        layers: Its weights.
        points: Positions in the unit sphere.
        added: What ``conditions`` returns; for each point where it differs among a shape's points.
        dtype: Type in which the hidden layers are multiplied; by default that of ``points``.
        stage: What is special in training.
    """
    dtype, stage = dtype or points.dtype, stage or Stage()
    features = encode_positions(points, config)
    shares = [
        config.dropout if stage.training and index in config.dropout_layers else 0.0 for index in range(len(layers))
    ]
    if _can_fuse(layers, points, added) and not any(stage.bypass):
        hidden, position = [layer.hidden for layer in layers], [layer.position for layer in layers]
        value = evaluate_stack(Stack(hidden, position, added, shares, dtype), features)
    else:
        bypass = stage.bypass or (0.0,) * len(layers)
        value = _evaluate_by_layer(layers, features, added, list(zip(shares, bypass, strict=True)), dtype)
    return (value.tanh() if config.use_tanh else value).tanh()


def _can_fuse(layers: list[LayerWeights], points: Tensor, added: list[Tensor]) -> bool:
    """Tell if the written-out derivative covers the case."""
    return (
        not (torch.is_grad_enabled() and points.requires_grad)
        and layers[-1].position is None
        and all(layer.norm is None for layer in layers)
        and all(condition.ndim == 2 for condition in added)
    )


def _evaluate_by_layer(
    layers: list[LayerWeights],
    features: Float[Tensor, "shapes n features"],
    added: list[Float[Tensor, "shapes out"] | Float[Tensor, "shapes n out"]],
    shares: list[tuple[float, float]],
    dtype: torch.dtype,
) -> Float[Tensor, "shapes n"]:
    """Return the last layer's output; derivatives of any order by everything.

    ``shares`` holds for each layer what dropout sets to zero, and what goes past the layer.
    """
    hidden = features
    last = len(layers) - 1
    for index, (layer, offset) in enumerate(zip(layers, added, strict=True)):
        condition = offset if offset.ndim == 3 else offset[:, None]
        if layer.position is not None:
            condition = functional.linear(features, layer.position) + condition
        if index == last:
            assert layer.hidden is not None
            return (functional.linear(hidden.to(features.dtype), layer.hidden) + condition)[..., 0]
        before = hidden
        if layer.hidden is None:
            hidden = condition.to(dtype)
        else:
            hidden = functional.linear(hidden, layer.hidden.to(dtype)) + condition.to(dtype)
        if layer.norm is not None:
            weight, bias = (part.to(dtype) for part in layer.norm)
            hidden = functional.layer_norm(hidden, list(hidden.shape[-1:]), weight, bias)
        dropout, past = shares[index]
        hidden = functional.dropout(functional.relu(hidden), dropout, dropout > 0)
        if past:
            hidden = past * before + (1 - past) * hidden
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
        self._converted: dict[torch.dtype, list[LayerWeights]] = {}

    def __call__(
        self,
        points: Float[Tensor, "shapes n 3"],
        codes: Float[Tensor, "shapes code"],
        dtype: torch.dtype | None = None,
    ) -> Float[Tensor, "shapes n"]:
        """Return the distances at the points of several shapes."""
        layers = self._layers(dtype or points.dtype)
        return evaluate(self.config, layers, points, conditions(layers, codes), dtype)

    @torch.no_grad()
    def sdf(
        self, points: Float[Tensor, "n 3"], code: Float[Tensor, " code"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, " n"]:
        """Return the distances at any number of points of one shape, without gradient."""
        layers = self._layers(dtype or points.dtype)
        added = conditions(layers, code[None])
        parts = [evaluate(self.config, layers, part[None], added, dtype)[0] for part in points.split(CHUNK_POINTS)]
        return torch.cat(parts) if parts else points.new_zeros(0)

    def _layers(self, dtype: torch.dtype) -> list[LayerWeights]:
        """Return the weights, those between hidden layers in the given type."""
        if dtype not in self._converted:
            inner = [
                layer if layer.hidden is None else replace(layer, hidden=layer.hidden.to(dtype).contiguous())
                for layer in self.layers[:-1]
            ]
            self._converted[dtype] = [*inner, self.layers[-1]]
        return self._converted[dtype]
