"""Signed distance fields of one shape: a hash grid with hand-written gradients, and IGR's network.

Both answer with values and gradients and take back what a loss asks of them, so that a loss is written once. Arrays
are feature-major, ``[3, n]``, positions in normalised units.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.engine.schedule import Moment
from shapewright.fields.config import EncodingConfig
from shapewright.fields.encodings import build_encoding
from shapewright.fields.grid_sdf import GridSdf, GridSdfParameters, GridSdfPass, create_grid_sdf
from shapewright.fields.sdf_network import SdfNetwork
from shapewright.kernels.cpu.adam import adam_step
from shapewright.kernels.levels import hash_levels
from shapewright.kernels.shards import ShardPool
from shapewright.methods.deep_sdf.single_config import SingleConfig, SingleGridConfig, SingleOptimConfig

SHARDS = 2
_BETA1 = 0.9
_VALUES_CHUNK = 1 << 14


@dataclass
class Answer:
    """Hold a field's answer at some points, and what its backward pass needs."""

    values: Float[Tensor, " n"]
    gradients: Float[Tensor, "3 n"]
    state: Any


class ShapeField(Protocol):
    """What the method asks of a field."""

    def set_progress(self, progress: float) -> None:
        """Set what changes over the run, in [0, 1]."""
        ...

    def evaluate(self, points: Float[Tensor, "3 n"]) -> Answer:
        """Return values and gradients."""
        ...

    def step(self, answer: Answer, by_value: Tensor, by_gradient: Tensor, rate_share: float) -> bool:
        """Take one step against the derivatives of a loss; do nothing and return False if these are not finite."""
        ...

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return values alone, without gradients, from the averaged parameters if they are kept."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        ...


def rate_share(optim: SingleOptimConfig, moment: Moment) -> float:
    """Return the share of the learning rates at a moment: warm-up, plateau, exponential decay."""
    warm = min((moment.step + 1) / max(optim.warm_up_steps, 1), 1.0)
    late = max(moment.progress - optim.decay_from, 0.0) / max(1.0 - optim.decay_from, 1e-9)
    return float(warm * optim.final_share ** min(late, 1.0))


def fitted_grid(config: SingleGridConfig, half_side: float, spacing: float) -> SingleGridConfig:
    """Return the grid without cells much finer than the points, which could only learn their noise."""
    if config.cells_per_spacing <= 0 or spacing <= 0:
        return config
    finest = 2.0 * half_side / (config.cells_per_spacing * spacing)
    finest = min(max(finest, 2.0 * config.base_resolution), config.max_resolution)
    return dataclasses.replace(config, max_resolution=math.ceil(finest))


class GridField:
    """Hold a signed distance field on a hash grid over the cube ``[-half_side, half_side]^3``.

    Args:
        grid: Sizes.
        optim: Learning rates.
        half_side: Half the side of the cube, in normalised units.
        generator: Draws the weights.
    """

    def __init__(
        self, grid: SingleGridConfig, optim: SingleOptimConfig, half_side: float, generator: torch.Generator
    ) -> None:
        self.config, self.optim, self.half_side = grid, optim, half_side
        self.levels = hash_levels(grid.num_levels, grid.log2_table_size, grid.base_resolution, grid.max_resolution)
        self.weights = create_grid_sdf(self.levels, grid.hidden, 0, generator)
        self.grid = GridSdf(self.weights, self.levels, 2.0 * half_side)
        self.pool = ShardPool(min(torch.get_num_threads(), SHARDS))
        self._table_gradient = torch.zeros_like(self.weights.table).view(-1)
        self._moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in self._parameters().items()}
        self._average: GridSdfParameters | None = None
        self._updates = 0
        self.set_progress(0.0)

    def _parameters(self) -> dict[str, Tensor]:
        return {"table": self.weights.table.view(-1), "network": self.weights.flat}

    def set_progress(self, progress: float) -> None:
        """Set the active levels of a moment in the run."""
        config = self.config
        joined = (config.num_levels - config.start_levels) * min(progress / max(config.all_levels_by, 1e-9), 1.0)
        self.grid.active = min(config.start_levels + int(joined + 1e-9), config.num_levels)

    def _unit(self, points: Float[Tensor, "3 n"]) -> Float[Tensor, "3 n"]:
        return points * (0.5 / self.half_side) + 0.5

    def evaluate(self, points: Float[Tensor, "3 n"]) -> Answer:
        """Return values and gradients, computed in shards side by side."""
        parts = [part.contiguous() for part in self._unit(points).tensor_split(SHARDS, dim=1)]
        states = self.pool.map(self.grid.forward, parts)
        return Answer(
            torch.cat([s.outputs[0] for s in states]), torch.cat([s.normals for s in states], dim=1), states
        )  # fmt: skip

    def step(self, answer: Answer, by_value: Tensor, by_gradient: Tensor, rate_share: float) -> bool:
        """Take one Adam step; see ``ShapeField``."""
        states: list[GridSdfPass] = answer.state
        sizes = [state.points.shape[1] for state in states]
        parts = list(zip(states, by_value.split(sizes), by_gradient.split(sizes, dim=1), strict=True))
        results = self.pool.map(self._shard_backward, parts)
        gradient = torch.stack([result[0].flat for result in results]).sum(0)
        if not math.isfinite(float(gradient.abs().sum())):
            return False
        if self.optim.network_l2 > 0:
            gradient.add_(self.weights.flat, alpha=2.0 * self.optim.network_l2)
        self._updates += 1
        passes = [(state, *result[1:]) for state, result in zip(states, results, strict=True)]

        def update_level(level: int) -> None:
            for state, grad_inputs, direction in passes:
                self.grid.scatter(state, grad_inputs, direction, self._table_gradient, level)
            first = 2 * self.levels.starts[level]
            span = (first, first + 2 * self.levels.sizes[level])
            self._adam("table", self._table_gradient, self.optim.table_rate * rate_share, span)

        self.pool.map(update_level, list(range(self.grid.active)))
        self._adam("network", gradient, self.optim.network_rate * rate_share, (0, gradient.numel()))
        self._keep_average()
        return True

    def _shard_backward(self, part: tuple[GridSdfPass, Tensor, Tensor]) -> tuple[GridSdfParameters, Tensor, Tensor]:
        state, by_value, by_gradient = part
        weights = self.weights
        result = GridSdfParameters(
            weights.table, torch.zeros_like(weights.flat), weights.channels, weights.hidden, weights.outputs
        )
        inputs, direction = self.grid.backward(state, by_value[None].contiguous(), by_gradient.contiguous(), result)
        return result, inputs, direction

    def _adam(self, name: str, gradient: Tensor, rate: float, span: tuple[int, int]) -> None:
        optim, (mean, square) = self.optim, self._moments[name]
        corrections = 1.0 / (1.0 - _BETA1**self._updates), 1.0 / (1.0 - optim.beta2**self._updates)
        numbers = [np.float32(v) for v in (rate, _BETA1, optim.beta2, optim.eps, 0.0, *corrections)]
        adam_step(
            self._parameters()[name].numpy(), gradient.numpy(), mean.numpy(), square.numpy(), *numbers, *span
        )  # fmt: skip

    def _keep_average(self) -> None:
        if self.optim.average <= 0:
            return
        if self._average is None:
            self._average = self.weights.zeros_like()
            for kept, own in self._pairs():
                kept.copy_(own)
        for kept, own in self._pairs():
            kept.lerp_(own, 1.0 - self.optim.average)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        average = self._average or self.weights
        return [(average.table, self.weights.table), (average.flat, self.weights.flat)]

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return values at positions ``[n, 3]``; see ``ShapeField``."""
        grid = GridSdf(self._average or self.weights, self.levels, 2.0 * self.half_side)
        grid.active = self.grid.active
        unit = self._unit(points.T)
        parts = self.pool.map(
            lambda part: grid.values(part.contiguous())[0], unit.split(_VALUES_CHUNK, dim=1) if len(points) else []
        )
        return torch.cat(parts) if parts else points.new_zeros(0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        state = {f"weights.{name}": value for name, value in self._parameters().items()}
        for name, (mean, square) in self._moments.items():
            state |= {f"mean.{name}": mean, f"square.{name}": square}
        if self._average is not None:
            state |= {"average.table": self._average.table, "average.network": self._average.flat}
        return state | {"updates": torch.tensor(self._updates)}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        for name, value in self._parameters().items():
            value.copy_(tensors[f"weights.{name}"])
            self._moments[name][0].copy_(tensors[f"mean.{name}"])
            self._moments[name][1].copy_(tensors[f"square.{name}"])
        if "average.table" in tensors:
            self._average = self.weights.zeros_like()
            self._average.table.copy_(tensors["average.table"])
            self._average.flat.copy_(tensors["average.network"])
        self._updates = int(tensors["updates"])


class NetworkField:
    """Hold IGR's network (arXiv:2002.10099): softplus layers started as a sphere, gradients by autograd.

    Args:
        config: Sizes of the network and learning rate.
        generator: Draws the weights.
    """

    def __init__(self, config: SingleConfig, generator: torch.Generator) -> None:
        self.network = SdfNetwork(config.network, build_encoding(EncodingConfig(kind="none")), generator)
        self._rate = config.optim.network_rate
        self._optimizer = torch.optim.Adam(
            self.network.parameters(), lr=self._rate, betas=(_BETA1, config.optim.beta2), eps=config.optim.eps
        )

    def set_progress(self, progress: float) -> None:
        """Do nothing: the network is the same all the time."""

    def evaluate(self, points: Float[Tensor, "3 n"]) -> Answer:
        """Return values and gradients; see ``ShapeField``."""
        answer = self.network.evaluate(points.T)
        return Answer(answer.sdf.detach(), answer.gradient.detach().T, answer)

    def step(self, answer: Answer, by_value: Tensor, by_gradient: Tensor, rate_share: float) -> bool:
        """Take one Adam step; see ``ShapeField``."""
        sdf, gradient, _ = answer.state
        self._optimizer.zero_grad()
        # The derivatives of this sum by the parameters are those of the loss.
        ((sdf * by_value).sum() + (gradient * by_gradient.T).sum()).backward()
        sizes = [p.grad.abs().sum() for p in self.network.parameters() if p.grad is not None]
        if not math.isfinite(float(torch.stack(sizes).sum())):
            return False
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate * rate_share
        self._optimizer.step()
        return True

    @torch.no_grad()
    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return values at positions ``[n, 3]``."""
        parts = [self.network.sdf(part) for part in points.split(_VALUES_CHUNK)]
        return torch.cat(parts) if parts else points.new_zeros(0)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        state = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        for index, entries in self._optimizer.state_dict()["state"].items():
            state |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in entries.items()}
        return state

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        own = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        self.network.load_state_dict(own)
        optimizer = self._optimizer.state_dict()
        entries: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("adam."):
                _, index, key = name.split(".", 2)
                entries.setdefault(int(index), {})[key] = value
        self._optimizer.load_state_dict(optimizer | {"state": entries})


def create_field(config: SingleConfig, half_side: float, spacing: float, generator: torch.Generator) -> ShapeField:
    """Return the untrained field that the settings describe.

    Args:
        config: Settings.
        half_side: Half the side of the cube around the shape, in normalised units.
        spacing: How far apart the input's points lie, in normalised units; 0: not known.
        generator: Draws the weights.
    """
    if config.model == "network":
        return NetworkField(config, generator)
    return GridField(fitted_grid(config.grid, half_side, spacing), config.optim, half_side, generator)
