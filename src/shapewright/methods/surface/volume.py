"""Training of the volume renderer on the CPU, with hand-written gradients.

A step is made of shards that run side by side. Each marches its rays, evaluates the field once, and walks back through
colours, opacities and normals; the hash table's gradient is summed level by level, so the result does not depend on
the number of threads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.pixels import PixelPool
from shapewright.data.scene import Scene
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.fields.grid_radiance import RadianceParameters, RadiancePass, radiance_backward
from shapewright.fields.grid_sdf import GridSdfParameters, GridSdfPass
from shapewright.geometry.cameras import Cameras
from shapewright.kernels.cpu import compositing
from shapewright.kernels.cpu.adam import adam_step
from shapewright.methods.surface.band_cache import BandCache, Box, carve
from shapewright.methods.surface.volume_config import VolumeConfig
from shapewright.methods.surface.volume_field import Opacities, Packed, VolumeField
from shapewright.rendering.rendering import Rendering

_HULL_POINTS = 8192
_HULL_ERROR = 0.02
_MOST_RAYS = 4096
_SMOOTHED_SHARE = 0.25
_SMOOTHED_EVERY = 4


@dataclass
class Batch:
    """Hold the rays of one shard of a step and its random numbers."""

    pixels: Tensor
    jitter: Tensor
    background: Tensor
    eikonal_points: Tensor
    neighbours: Tensor
    is_smoothed: bool


@dataclass
class Seen:
    """Hold what the rays of one shard see, and what they should see.

    Attributes:
        origins: ``[rays, 3]``; views: ``[rays]``, the picture of each ray.
        target: ``[rays, 3]`` photo in [0, 1]; coverage: ``[rays]`` alpha in [0, 1].
    """

    batch: Batch
    origins: Tensor
    views: Tensor
    target: Tensor
    coverage: Tensor
    packed: Packed
    state: GridSdfPass
    opacity: Opacities
    radiance: RadiancePass


@dataclass
class ShardResult:
    """Hold the sums of one shard: losses, weights' gradients, and what the table's gradient is scattered from."""

    sdf_grad: GridSdfParameters
    color_grad: RadianceParameters
    gain_grad: Tensor
    losses: dict[str, float] = field(default_factory=dict)
    rays: int = 0
    samples: int = 0
    passes: list[tuple[GridSdfPass, Tensor, Tensor]] = field(default_factory=list)


@dataclass
class Moments:
    """Hold Adam's means of one flat parameter."""

    mean: Tensor
    square: Tensor

    @staticmethod
    def zeros_like(parameter: Tensor) -> Moments:
        """Return zeros of the parameter's size."""
        return Moments(torch.zeros_like(parameter), torch.zeros_like(parameter))


class VolumeModel:
    """Train the field of one scene and render it.

    Args:
        config: Options.
        field: The field to train.
        generator: Draws everything random.
        num_views: Training pictures, each with an exposure.
    """

    def __init__(self, config: VolumeConfig, field: VolumeField, generator: torch.Generator, num_views: int) -> None:
        self.config = config
        self.field = field
        self.generator = generator
        self.log_gains = torch.zeros(num_views, 3)
        self.table_grad = torch.zeros_like(field.sdf_weights.table).view(-1)
        self.moments = {name: Moments.zeros_like(value) for name, value in self._parameters().items()}
        self.rays_per_shard = 64.0
        self.updates = 0
        self.progress = 0.0
        self.pixels: PixelPool | None = None

    @staticmethod
    def start(config: VolumeConfig, scene: Scene, seed: int, threads: int) -> VolumeModel:
        """Return a model whose field is fitted to the visual hull of the training pictures.

        Raises:
            UserError: if the scene has no masks, or nothing lies inside all of them.
        """
        if not scene.has_masks:
            raise UserError(
                f"{scene.path} has no masks, and this preset needs the object's outline in every picture.",
                "Add a folder mask/ with one picture per photo (white = object), or pictures with an alpha channel.",
            )
        generator = torch.Generator().manual_seed(seed)
        pixels = PixelPool.from_scene(scene, config.sampling.mask_margin_px)
        box, hull = carve(scene.cameras[list(scene.train)], pixels.near, config.sampling.cache_resolution)
        volume = VolumeField(config, BandCache(box, hull), generator, threads)
        model = VolumeModel(config, volume, generator, len(scene.train))
        model.pixels = pixels
        model._fit_hull()
        return model

    @staticmethod
    def restore(config: VolumeConfig, tensors: dict[str, Tensor], threads: int) -> VolumeModel:
        """Return the model that ``state_dict`` described; ``read_pixels`` makes it ready for more training."""
        box = Box(tensors["box.lower"], float(tensors["box.side"]))
        generator = torch.Generator()
        volume = VolumeField(config, BandCache(box, tensors["cache.hull"]), generator, threads)
        model = VolumeModel(config, volume, generator, len(tensors["log_gains"]))
        model.load_state_dict(tensors)
        return model

    def read_pixels(self, scene: Scene) -> None:
        """Read the training pictures."""
        self.pixels = PixelPool.from_scene(scene, self.config.sampling.mask_margin_px)

    def _parameters(self) -> dict[str, Tensor]:
        return {
            "table": self.field.sdf_weights.table.view(-1),
            "sdf": self.field.sdf_weights.flat,
            "color": self.field.color_weights.flat,
            "log_gains": self.log_gains.view(-1),
        }

    # The field as others see it.

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return the SDF at positions of normalised space."""
        return self.field.sdf(points)

    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return the SDF and its gradient at positions of normalised space."""
        return self.field.sdf_and_normal(points)

    def color(self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Return colours in [0, 1] of surface points seen along unit directions (away from the camera)."""
        return self.field.color(points, directions)

    def render_view(self, cameras: Cameras, view: int, step: int = 1) -> Rendering:
        """Render every ``step``-th pixel of one camera of normalised space."""
        return self.field.render_view(cameras, view, step)

    # Training.

    def _fit_hull(self) -> None:
        """Fit the field to the hull's distance by a Huber loss, so that training starts near the object."""
        cache, steps = self.field.cache, self.config.hull_fit_steps
        self.field.grid.active = self.config.grid.start_levels

        def gradient(points: Tensor) -> ShardResult:
            state, result = self.field.grid.forward(points), self._empty_result()
            grad = torch.zeros_like(state.outputs)
            error = state.outputs[0] - cache.hull_distance(points)
            grad[0] = error.clamp(-_HULL_ERROR, _HULL_ERROR) / (_HULL_ERROR * _HULL_POINTS)
            self._field_backward(state, grad, torch.zeros_like(points), result)
            return result

        for step in range(steps):
            points = torch.rand(self.config.shards, 3, _HULL_POINTS // self.config.shards, generator=self.generator)
            self._update(self.field.pool.map(gradient, list(points)), 1.0 if step < 0.7 * steps else 0.3)
        cache.refresh(self.field.sdf_rows, share=1)

    def _empty_result(self) -> ShardResult:
        weights = self.field.sdf_weights
        grad = GridSdfParameters(
            weights.table, torch.zeros_like(weights.flat), weights.channels, weights.hidden, weights.outputs
        )
        return ShardResult(grad, self.field.color_weights.zeros_like(), torch.zeros_like(self.log_gains))

    def _field_backward(self, state: GridSdfPass, grad_outputs: Tensor, grad_normals: Tensor, to: ShardResult) -> None:
        grad_inputs, direction = self.field.grid.backward(state, grad_outputs, grad_normals, to.sdf_grad)
        to.passes.append((state, grad_inputs, direction))

    def next_batch(self, moment: Moment) -> list[Batch]:
        """Draw the rays of every shard."""
        rays = max(16, int(self.rays_per_shard))
        points = self.config.sampling.eikonal_points // self.config.shards
        return [
            Batch(
                self._pool().draw(rays, self.generator),
                torch.rand(rays, generator=self.generator),
                torch.rand(rays, 3, generator=self.generator),
                self.field.cache.random_points(points, self.generator),
                torch.randn(3, rays, generator=self.generator),
                moment.step % _SMOOTHED_EVERY == 0,
            )
            for _ in range(self.config.shards)
        ]

    def _pool(self) -> PixelPool:
        if self.pixels is None:
            raise ValueError("Call read_pixels before training.")
        return self.pixels

    def train_step(self, batch: list[Batch], moment: Moment) -> dict[str, float]:
        """Take one optimiser step and return the losses."""
        self.progress = moment.progress
        self.field.set_progress(moment.progress)
        results = self.field.pool.map(self._shard_step, batch)
        losses = {key: sum(r.losses[key] for r in results) for key in results[0].losses}
        rays, samples = sum(r.rays for r in results), sum(r.samples for r in results)
        size = sum(float(r.sdf_grad.flat.abs().sum() + r.color_grad.flat.abs().sum()) for r in results)
        if not math.isfinite(size + losses["loss"]):
            return {**losses, "skipped": 1.0}
        self._update(results, self._rate_share(moment))
        fitting = self.config.sampling.samples / self.config.shards * rays / max(samples, 1)
        self.rays_per_shard += 0.1 * (min(fitting, _MOST_RAYS) - self.rays_per_shard)
        if (moment.step + 1) % self.config.sampling.cache_every == 0:
            self.field.cache.refresh(self.field.sdf_rows)
        return {**losses, "rays": float(rays), "samples": float(samples), "sharpness": self.field.sharpness}

    def _rate_share(self, moment: Moment) -> float:
        optim = self.config.optim
        warm = min((moment.step + 1) / optim.warm_up_steps, 1.0)
        late = max(moment.progress - optim.decay_from, 0.0) / (1.0 - optim.decay_from)
        return warm * optim.final_share ** min(late, 1.0)

    def _shard_step(self, batch: Batch) -> ShardResult:
        """Return the gradients of one shard."""
        result, seen = self._empty_result(), self._look(batch)
        losses, grad_colors, grad_rest = self._pixel_losses(seen, result)
        grad_normals, losses["eikonal"] = self._eikonal(seen.state.normals)
        losses["loss"] += self.config.loss.eikonal * losses["eikonal"]
        grad_outputs = torch.zeros_like(seen.state.outputs)
        grad_alpha = self._colors_backward(seen, grad_colors, grad_rest, grad_outputs, grad_normals, result)
        packed, opacity = seen.packed, seen.opacity
        compositing.add_alpha_gradient(
            grad_alpha.numpy(), opacity.by_sdf.numpy(), opacity.by_slope.numpy(), packed.directions.numpy(),
            packed.starts.numpy(), grad_outputs[0].numpy(), grad_normals.numpy(), 0, len(packed.directions),
        )  # fmt: skip
        self._field_backward(seen.state, grad_outputs, grad_normals, result)
        if batch.is_smoothed and max(self.config.loss.smoothness, self.config.loss.smoothness_clipped) > 0:
            losses["smoothness"] = self._smoothness(seen, result)
            losses["loss"] += losses["smoothness"]
        result.losses, result.rays, result.samples = losses, len(seen.target) - packed.dropped, len(packed.depths)
        return result

    def _look(self, batch: Batch) -> Seen:
        """March the rays of a shard and evaluate the field and its colours."""
        pool, shards = self._pool(), self.config.shards
        origins, directions, views = pool.cameras.rays(batch.pixels)
        target = pool.rgb[batch.pixels].float().div_(255.0)
        coverage = pool.alpha[batch.pixels].float().div_(255.0)
        capacity = 2 * self.config.sampling.samples // shards + 4096
        packed = self.field.march(origins, directions, batch.jitter, coverage > 0.5, capacity)
        state = self.field.grid.forward(torch.cat([packed.points, batch.eikonal_points], dim=1))
        opacity = self.field.opacities(state.outputs, state.normals, packed)
        radiance = self.field.radiance(
            state.outputs, state.normals, directions, packed.starts, opacity.slots, opacity.kept
        )
        return Seen(batch, origins, views, target, coverage, packed, state, opacity, radiance)

    def _pixel_losses(self, seen: Seen, result: ShardResult) -> tuple[dict[str, float], Tensor, Tensor]:
        """Return the losses of the rays and their gradients by colour and by what is left of the light."""
        loss, rays = self.config.loss, len(seen.target)
        colors, grad_colors, grad_rest = torch.empty(rays, 3), torch.empty(rays, 3), torch.empty(rays)
        compositing.ray_sum(
            seen.opacity.weights.numpy(), seen.radiance.colors.numpy(), seen.opacity.slots.numpy(),
            seen.packed.starts.numpy(), colors.numpy(), 0, rays,
        )  # fmt: skip
        scale = 1.0 / (rays * self.config.shards)
        settings = (loss.charbonnier, loss.clipped_from, loss.photometric * scale / 3.0, loss.mask * scale)
        photometric, mask = compositing.pixel_loss(
            colors.numpy(), seen.opacity.rest.numpy(), seen.batch.background.numpy(), seen.target.numpy(),
            seen.coverage.numpy(), self.log_gains.exp().numpy(), seen.views.numpy(),
            tuple(np.float32(value) for value in settings),
            grad_colors.numpy(), grad_rest.numpy(), result.gain_grad.numpy(),
        )  # fmt: skip
        losses = {"photometric": photometric * scale / 3.0, "mask": mask * scale}
        total = loss.photometric * losses["photometric"] + loss.mask * losses["mask"]
        return {"loss": total, **losses}, grad_colors, grad_rest

    def _colors_backward(
        self, seen: Seen, grad_colors: Tensor, grad_rest: Tensor, grad_outputs: Tensor, grad_normals: Tensor,
        result: ShardResult,
    ) -> Tensor:  # fmt: skip
        """Walk from the rays' colours back to the opacities, whose gradient is returned, and to the radiance network.

        Adds to ``grad_outputs``, ``grad_normals`` and the gradient of the colour weights.
        """
        opacity, radiance, starts = seen.opacity, seen.radiance, seen.packed.starts.numpy()
        n, rays = len(seen.packed.depths), len(seen.target)
        grad_weights, grad_alpha, grad_values = torch.empty(n), torch.empty(n), torch.empty_like(radiance.colors)
        compositing.ray_sum_backward(
            opacity.weights.numpy(), radiance.colors.numpy(), opacity.slots.numpy(), starts, grad_colors.numpy(),
            grad_weights.numpy(), grad_values.numpy(), 0, rays,
        )  # fmt: skip
        compositing.composite_backward(
            opacity.alpha.numpy(), starts, opacity.before.numpy(), grad_weights.numpy(), grad_rest.numpy(),
            grad_alpha.numpy(), 0, rays,
        )  # fmt: skip
        grad_inputs = radiance_backward(self.field.color_weights, radiance, grad_values, result.color_grad)
        compositing.radiance_input_backward(
            grad_inputs.numpy(), radiance.inputs.numpy(), seen.state.normals.numpy(), opacity.slots.numpy(),
            grad_outputs.numpy(), grad_normals.numpy(), 0, n,
        )  # fmt: skip
        return grad_alpha

    def _eikonal(self, normals: Float[Tensor, "3 n"]) -> tuple[Tensor, float]:
        """Return the gradient of ``mean (|n| - 1)^2`` times its weight, and the shard's share of the mean."""
        length = normals.norm(dim=0).clamp_(min=1e-6)
        excess = length - 1.0
        share = 1.0 / (normals.shape[1] * self.config.shards)
        grad = normals * (2.0 * self.config.loss.eikonal * share * excess / length)
        return grad, float(excess.square().sum()) * share

    def _smoothness(self, seen: Seen, result: ShardResult) -> float:
        """Penalise how the unit normals bend along a random line through the points that rays see; return the loss.

        The second difference ``n(x + d) - 2 n(x) + n(x - d)`` leaves planes, cylinders and balls alone. Pixels whose
        photo is clipped say nothing about the shape, so they weigh more.
        """
        loss, packed, opacity = self.config.loss, seen.packed, seen.opacity
        use, share = self._smoothing(seen.batch, seen.target, opacity.rest)
        if len(use) == 0:
            return 0.0
        sums = torch.zeros(len(packed.depths) + 1, dtype=torch.float64)
        torch.cumsum(opacity.weights.double() * packed.depths, 0, out=sums[1:])
        depth = (sums[packed.starts[1:]] - sums[packed.starts[:-1]]) / (1.0 - opacity.rest.double())
        points = self.field.box.to_unit(seen.origins[use] + depth[use, None].float() * packed.directions[use]).T
        step = seen.batch.neighbours[:, use] * (loss.smoothness_distance / self.field.box.side)
        state = self.field.grid.forward(torch.cat([points, points + step, points - step], dim=1).contiguous())
        length = state.normals.norm(dim=0).clamp(min=1e-6)
        unit = state.normals / length
        middle, after, before = unit.split(len(use), dim=1)
        bend = after - 2.0 * middle + before
        grad_bend = 2.0 * share * bend
        # Only the middle follows its neighbours: an edge beside a clipped highlight stays sharp.
        grad_middle = -2.0 * grad_bend
        grad_normals = torch.zeros_like(unit)
        grad_normals[:, : len(use)] = (grad_middle - middle * (grad_middle * middle).sum(0)) / length[: len(use)]
        self._field_backward(state, torch.zeros_like(state.outputs), grad_normals, result)
        return float((share * bend.square().sum(0)).sum())

    def _smoothing(self, batch: Batch, target: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rays' points are smoothed, and with which weights: larger ones where the photo is clipped."""
        loss = self.config.loss
        clipped = (target >= loss.clipped_from).float().mean(dim=1).square()
        weight = loss.smoothness + loss.smoothness_clipped * clipped
        chosen = (rest < 0.3) & (weight > 0) & (batch.jitter.to(rest.device) < _SMOOTHED_SHARE)
        use = chosen.nonzero().squeeze(1)
        return use, weight[use] * (_SMOOTHED_EVERY / (_SMOOTHED_SHARE * len(target) * self.config.shards))

    def _update(self, results: list[ShardResult], rate_share: float) -> None:
        """Take one Adam step with the sums of all shards."""
        self.updates += 1
        optim = self.config.optim
        rate = optim.network_rate * rate_share
        levels = range(self.field.grid.active)
        self.field.pool.map(lambda level: self._update_level(level, results, optim.table_rate * rate_share), levels)
        self._adam("sdf", torch.stack([result.sdf_grad.flat for result in results]).sum(0), rate, 0.0)
        self._adam("color", torch.stack([result.color_grad.flat for result in results]).sum(0), rate, 0.0)
        if optim.exposure_rate > 0:
            gains = torch.stack([result.gain_grad for result in results]).sum(0) * self.log_gains.exp()
            self._adam("log_gains", gains.view(-1), optim.exposure_rate * rate_share, 0.0)
            self.log_gains -= self.log_gains.mean(0)

    def _update_level(self, level: int, results: list[ShardResult], rate: float) -> None:
        self._add_table_gradient(level, results)
        optim, levels = self.config.optim, self.field.levels
        share = level / max(levels.num_levels - 1, 1)
        decay = optim.table_decay ** (1.0 - share) * optim.table_decay_fine**share if optim.table_decay > 0 else 0.0
        first = levels.starts[level]
        self._adam("table", self.table_grad, rate, decay, (2 * first, 2 * (first + levels.sizes[level])))

    def _add_table_gradient(self, level: int, results: list[ShardResult]) -> None:
        for result in results:
            for state, grad_inputs, direction in result.passes:
                self.field.grid.scatter(state, grad_inputs, direction, self.table_grad, level)

    def _adam(
        self, name: str, gradient: Tensor, rate: float, decay: float, span: tuple[int, int] | None = None
    ) -> None:
        optim, moments, parameter = self.config.optim, self.moments[name], self._parameters()[name]
        corrections = (1.0 / (1.0 - optim.beta1**self.updates), 1.0 / (1.0 - optim.beta2**self.updates))
        numbers = [np.float32(v) for v in (rate, optim.beta1, optim.beta2, optim.eps, decay, *corrections)]
        adam_step(
            parameter.numpy(), gradient.numpy(), moments.mean.numpy(), moments.square.numpy(), *numbers,
            *(span or (0, len(parameter))),
        )  # fmt: skip

    # Exact continuation.

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        state = {f"weights.{name}": value for name, value in self._parameters().items()}
        for name, moments in self.moments.items():
            state |= {f"mean.{name}": moments.mean, f"square.{name}": moments.square}
        state |= {f"cache.{name}": value for name, value in self.field.cache.state_dict().items()}
        return state | {
            "log_gains": self.log_gains,
            "box.lower": self.field.box.lower,
            "box.side": torch.tensor(self.field.box.side, dtype=torch.float64),
            "rays_per_shard": torch.tensor(self.rays_per_shard, dtype=torch.float64),
            "updates": torch.tensor(self.updates),
            "progress": torch.tensor(self.progress, dtype=torch.float64),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        for name, value in self._parameters().items():
            value.copy_(tensors[f"weights.{name}"])
            self.moments[name].mean.copy_(tensors[f"mean.{name}"])
            self.moments[name].square.copy_(tensors[f"square.{name}"])
        self.field.cache.load_state_dict({k: tensors[f"cache.{k}"] for k in ("values", "turn")})
        self.rays_per_shard = float(tensors["rays_per_shard"])
        self.updates = int(tensors["updates"])
        self.progress = float(tensors["progress"])
        self.field.set_progress(self.progress)
        self.generator.set_state(tensors["generator"])
