"""Training and rendering of an SDF by volume rendering on the CPU, with hand-written gradients.

The recipe: NeuS weights (arXiv:2106.10689) with a scheduled sharpness, samples packed in a band around the surface that a
cached grid shows, a small SDF network on a hash grid (arXiv:2201.05989) with fused normals, and a start from the
visual hull.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.pixels import CameraArrays, PixelPool
from shapewright.data.scene import Scene
from shapewright.engine.trainer import Moment
from shapewright.errors import UserError
from shapewright.fields.grid_radiance import (
    RadianceParameters,
    RadiancePass,
    create_radiance,
    radiance_backward,
    radiance_forward,
)
from shapewright.fields.grid_sdf import GridSdf, GridSdfParameters, GridSdfPass, create_grid_sdf
from shapewright.geometry.cameras import Cameras
from shapewright.kernels.cpu import compositing
from shapewright.kernels.cpu.adam import adam_step
from shapewright.kernels.cpu.marching import march_band, place_samples
from shapewright.kernels.levels import hash_levels
from shapewright.methods.surface.band_cache import BandCache, carve
from shapewright.methods.surface.shards import ShardPool
from shapewright.methods.surface.volume_config import VolumeConfig
from shapewright.rendering.rendering import Rendering

_COLOR_WEIGHT = 1e-3
_RENDER_CHUNK = 4096


@dataclass
class Batch:
    """Hold the rays of one shard of a step and its random numbers."""

    pixels: Tensor
    jitter: Tensor
    background: Tensor
    eikonal_points: Tensor
    neighbours: Tensor


@dataclass
class Packed:
    """Hold the packed samples of some rays.

    Attributes:
        starts: ``[rays + 1]``; depths, steps: ``[samples]``; points: ``[3, samples]`` in the unit cube.
    """

    directions: Tensor
    starts: Tensor
    depths: Tensor
    steps: Tensor
    points: Tensor
    dropped: int


@dataclass
class ShardResult:
    """Hold the sums of one shard: losses, weights' gradients, and what the table's gradient is scattered from."""

    losses: dict[str, float]
    rays: int
    samples: int
    sdf_grad: GridSdfParameters
    color_grad: RadianceParameters
    gain_grad: Tensor
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
        scene: Pictures with masks.
        seed: Start of all random numbers.
        threads: Threads to use; the result does not depend on it.

    Raises:
        UserError: if the scene has no masks, or nothing lies inside all of them.
    """

    def __init__(self, config: VolumeConfig, scene: Scene, seed: int, threads: int) -> None:
        if not scene.has_masks:
            raise UserError(
                f"{scene.path} has no masks, and this preset needs the object's outline in every picture.",
                "Add a folder mask/ with one picture per photo (white = object), or pictures with an alpha channel.",
            )
        self.config = config
        self.scene = scene
        self.generator = torch.Generator().manual_seed(seed)
        self.pool = ShardPool(threads)
        margin = config.sampling.mask_margin_px
        masks = [torch.from_numpy(scene.mask(view)) for view in scene.train]
        box, hull = carve(scene.cameras[list(scene.train)], masks, config.sampling.cache_resolution, margin)
        self.cache = BandCache(box, hull)
        self.box = box
        grid = config.grid
        levels = hash_levels(grid.num_levels, grid.log2_table_size, grid.base_resolution, grid.max_resolution)
        self.levels = levels
        self.sdf_weights = create_grid_sdf(levels, grid.hidden, grid.features, self.generator)
        self.color_weights = create_radiance(grid.features, grid.color_hidden, self.generator)
        self.log_gains = torch.zeros(len(scene.train), 3)
        self.field = GridSdf(self.sdf_weights, levels, box.side)
        self.table_grad = self.sdf_weights.zeros_like()
        self.table_moments = Moments.zeros_like(self.sdf_weights.table.view(-1))
        self.sdf_moments = Moments.zeros_like(self.sdf_weights.flat)
        self.color_moments = Moments.zeros_like(self.color_weights.flat)
        self.gain_moments = Moments.zeros_like(self.log_gains.view(-1))
        self.rays_per_shard = 64.0
        self.updates = 0
        self.sharpness = config.sampling.sharpness_start
        self.pixels = PixelPool.from_scene(scene, scene.train, margin)
        self._fit_hull()

    # ---- training -------------------------------------------------------------------------------------------------

    def _fit_hull(self) -> None:
        """Fit the field to the hull's distance by L1, so that training starts near the object."""
        target = self.cache.values
        resolution = target.shape[0]
        self.field.active = self.config.grid.start_levels
        for step in range(self.config.hull_fit_steps):
            points = torch.rand(3, 8192, generator=self.generator)
            cells = (points * resolution).long().clamp_(max=resolution - 1)
            wanted = target[cells[0], cells[1], cells[2]]
            state = self.field.forward(points)
            grad = torch.zeros_like(state.outputs)
            grad[0] = (state.outputs[0] - wanted).clamp(-0.02, 0.02) / (0.02 * points.shape[1])
            result = self._empty_result()
            self._field_backward(state, grad, torch.zeros(3, points.shape[1]), result)
            self._update([result], 1.0 if step < 100 else 0.3)
        self.cache.refresh(self._sdf_rows, share=1)

    def _empty_result(self) -> ShardResult:
        return ShardResult(
            {}, 0, 0,
            GridSdfParameters(
                self.sdf_weights.table, torch.zeros_like(self.sdf_weights.flat),
                self.sdf_weights.channels, self.sdf_weights.hidden, self.sdf_weights.outputs,
            ),
            self.color_weights.zeros_like(),
            torch.zeros_like(self.log_gains),
        )  # fmt: skip

    def _field_backward(self, state: GridSdfPass, grad_outputs: Tensor, grad_normals: Tensor, to: ShardResult) -> None:
        grad_inputs, direction = self.field.backward(state, grad_outputs, grad_normals, to.sdf_grad)
        to.passes.append((state, grad_inputs, direction))

    def next_batch(self, moment: Moment) -> list[Batch]:
        """Draw the rays of every shard."""
        sampling = self.config.sampling
        rays = max(16, int(self.rays_per_shard))
        points = sampling.eikonal_points // self.config.shards
        return [
            Batch(
                self.pixels.draw(rays, self.generator),
                torch.rand(rays, generator=self.generator),
                torch.rand(rays, 3, generator=self.generator),
                self.cache.random_points(points, self.generator),
                torch.randn(3, rays, generator=self.generator),
            )
            for _ in range(self.config.shards)
        ]

    def train_step(self, batch: list[Batch], moment: Moment) -> dict[str, float]:
        """Take one optimiser step and return the losses."""
        self._set_progress(moment.progress)
        results = self.pool.map(self._shard_step, batch)
        losses = {key: sum(r.losses[key] for r in results) for key in results[0].losses}
        rays, samples = sum(r.rays for r in results), sum(r.samples for r in results)
        flat = sum(float(r.sdf_grad.flat.abs().sum() + r.color_grad.flat.abs().sum()) for r in results)
        if not math.isfinite(flat + losses["loss"]):
            return {**losses, "skipped": 1.0}
        self._update(results, self._rate_share(moment))
        target = self.config.sampling.samples / self.config.shards
        self.rays_per_shard += 0.1 * (min(target * rays / max(samples, 1), 4096.0) / 1.0 - self.rays_per_shard)
        if (moment.step + 1) % self.config.sampling.cache_every == 0:
            self.cache.refresh(self._sdf_rows)
        return {**losses, "rays": float(rays), "samples": float(samples), "sharpness": self.sharpness}

    def _set_progress(self, progress: float) -> None:
        grid, sampling = self.config.grid, self.config.sampling
        joined = (grid.num_levels - grid.start_levels) * min(progress / max(grid.all_levels_by, 1e-9), 1.0)
        self.field.active = grid.start_levels + int(joined + 1e-9)
        share = min(progress / sampling.sharpest_by, 1.0)
        self.sharpness = sampling.sharpness_start * (sampling.sharpness_end / sampling.sharpness_start) ** share

    def _rate_share(self, moment: Moment) -> float:
        optim = self.config.optim
        warm = min((moment.step + 1) / optim.warm_up_steps, 1.0)
        late = max(moment.progress - optim.decay_from, 0.0) / (1.0 - optim.decay_from)
        return warm * optim.final_share ** min(late, 1.0)

    def _march(self, origins: Tensor, directions: Tensor, jitter: Tensor, wanted: Tensor, capacity: int) -> Packed:
        sampling = self.config.sampling
        settings = (self.sharpness, sampling.least_step, sampling.greatest_step, sampling.longest_skip,
                    self.cache.cell, 0.03, self.cache.cell)  # fmt: skip
        starts = torch.empty(len(origins) + 1, dtype=torch.int64)
        depths, steps = torch.empty(capacity), torch.empty(capacity)
        unit_origins, unit_directions = self.box.to_unit(origins), directions / self.box.side
        dropped = march_band(
            unit_origins.numpy(), unit_directions.numpy(), jitter.numpy(), wanted.numpy(), self.cache.values.numpy(),
            tuple(np.float32(value) for value in settings), starts.numpy(), depths.numpy(), steps.numpy(),
        )  # fmt: skip
        count = int(starts[-1])
        points = torch.empty(3, count)
        place_samples(
            unit_origins.numpy(), unit_directions.numpy(), starts.numpy(), depths.numpy(), points.numpy()
        )
        return Packed(directions, starts, depths[:count], steps[:count], points, dropped)

    def _shard_step(self, batch: Batch) -> ShardResult:
        """Return the gradients of one shard: the whole step but the sums over shards."""
        config, loss = self.config, self.config.loss
        result = self._empty_result()
        origins, directions, views = self.pixels.cameras.rays(batch.pixels)
        target = self.pixels.rgb[batch.pixels].float().div_(255.0)
        coverage = self.pixels.alpha[batch.pixels].float().div_(255.0)
        capacity = 2 * config.sampling.samples // config.shards + 4096
        packed = self._march(origins, directions, batch.jitter, coverage > 0.5, capacity)
        n, rays = packed.points.shape[1], len(origins)
        state = self.field.forward(torch.cat([packed.points, batch.eikonal_points], dim=1))
        grad_normals, eikonal = self._eikonal(state.normals)
        grad_outputs = torch.zeros_like(state.outputs)
        alpha, by_sdf, by_slope, weights, before = (torch.empty(n) for _ in range(5))
        rest = torch.empty(rays)
        starts = packed.starts.numpy()
        compositing.neus_alpha(
            state.outputs[0].numpy(), state.normals.numpy(), directions.numpy(), starts, packed.steps.numpy(),
            np.float32(self.sharpness), alpha.numpy(), by_sdf.numpy(), by_slope.numpy(), 0, rays,
        )  # fmt: skip
        compositing.composite(alpha.numpy(), starts, weights.numpy(), before.numpy(), rest.numpy(), 0, rays)
        slots = torch.empty(n, dtype=torch.int32)
        kept = compositing.keep_heavy(weights.numpy(), np.float32(_COLOR_WEIGHT), slots.numpy())
        radiance = self._radiance(state, packed, slots, kept)
        colors = torch.empty(rays, 3)
        compositing.ray_sum(
            weights.numpy(), radiance.colors.numpy(), slots.numpy(), starts, colors.numpy(), 0, rays
        )
        scale = 1.0 / (rays * config.shards)
        settings = (loss.charbonnier, loss.clipped_from, loss.photometric * scale / 3.0, loss.mask * scale)
        grad_colors, grad_rest = torch.empty(rays, 3), torch.empty(rays)
        photo_sum, mask_sum = compositing.pixel_loss(
            colors.numpy(), rest.numpy(), batch.background.numpy(), target.numpy(), coverage.numpy(),
            self.log_gains.exp().numpy(), views.numpy(), tuple(np.float32(value) for value in settings),
            grad_colors.numpy(), grad_rest.numpy(), result.gain_grad.numpy(),
        )  # fmt: skip
        # Backwards: colours and weights, opacity, field.
        grad_weights, grad_alpha, grad_values = torch.empty(n), torch.empty(n), torch.empty_like(radiance.colors)
        compositing.ray_sum_backward(
            weights.numpy(), radiance.colors.numpy(), slots.numpy(), starts, grad_colors.numpy(),
            grad_weights.numpy(), grad_values.numpy(), 0, rays,
        )  # fmt: skip
        compositing.composite_backward(
            alpha.numpy(), starts, before.numpy(), grad_weights.numpy(), grad_rest.numpy(), grad_alpha.numpy(), 0, rays
        )
        grad_inputs = radiance_backward(self.color_weights, radiance, grad_values, result.color_grad)
        compositing.radiance_input_backward(
            grad_inputs.numpy(), radiance.inputs.numpy(), state.normals.numpy(), slots.numpy(),
            grad_outputs.numpy(), grad_normals.numpy(), 0, n,
        )  # fmt: skip
        compositing.add_alpha_gradient(
            grad_alpha.numpy(), by_sdf.numpy(), by_slope.numpy(), directions.numpy(), starts,
            grad_outputs[0].numpy(), grad_normals.numpy(), 0, rays,
        )  # fmt: skip
        self._field_backward(state, grad_outputs, grad_normals, result)
        photometric, mask = photo_sum * scale / 3.0, mask_sum * scale
        total = loss.photometric * photometric + loss.mask * mask + loss.eikonal * eikonal
        result.losses = {"loss": total, "photometric": photometric, "mask": mask, "eikonal": eikonal}
        if loss.smoothness > 0 or loss.smoothness_clipped > 0:
            result.losses["smoothness"] = self._smoothness(batch, packed, weights, rest, target, result)
        result.rays, result.samples = rays - packed.dropped, n
        return result

    def _eikonal(self, normals: Float[Tensor, "3 n"]) -> tuple[Tensor, float]:
        """Return the gradient of ``mean (|n| - 1)^2`` times its weight, and the share of the mean."""
        length = normals.norm(dim=0).clamp_(min=1e-6)
        excess = length - 1.0
        share = 1.0 / (normals.shape[1] * self.config.shards)
        grad = normals * (2.0 * self.config.loss.eikonal * share * excess / length)
        return grad, float(excess.square().sum()) * share

    def _radiance(self, state: GridSdfPass, packed: Packed, slots: Tensor, kept: int) -> RadiancePass:
        inputs = torch.empty(self.color_weights.inputs, kept)
        compositing.radiance_input(
            state.outputs.numpy(), state.normals.numpy(), packed.directions.numpy(), packed.starts.numpy(),
            slots.numpy(), inputs.numpy(), 0, len(packed.directions),
        )  # fmt: skip
        return radiance_forward(self.color_weights, inputs)

    def _smoothness(
        self, batch: Batch, packed: Packed, weights: Tensor, rest: Tensor, target: Tensor, result: ShardResult
    ) -> float:
        """Pull together the unit normals of the point a ray sees and of a random neighbour; return the loss."""
        loss = self.config.loss
        clipped = (target >= loss.clipped_from).all(dim=1)
        weight = torch.where(clipped, loss.smoothness + loss.smoothness_clipped, loss.smoothness)
        use = ((rest < 0.3) & (weight > 0)).nonzero().squeeze(1)
        if loss.smoothness > 0:
            use = use[(batch.jitter[use] < 0.25) | clipped[use]]
        if len(use) == 0:
            return 0.0
        sums = torch.zeros(len(weights) + 1, dtype=torch.float64)
        torch.cumsum(weights.double() * packed.depths, 0, out=sums[1:])
        depth = ((sums[packed.starts[1:]] - sums[packed.starts[:-1]]) / (1.0 - rest.double()).clamp(min=0.1)).float()
        origins, directions, _ = self.pixels.cameras.rays(batch.pixels[use])
        points = self.box.to_unit(origins + depth[use, None] * directions).T
        step = batch.neighbours[:, use] * (loss.smoothness_distance / self.box.side)
        both = torch.cat([points, points + step], dim=1).contiguous()
        state = self.field.forward(both)
        length = state.normals.norm(dim=0).clamp(min=1e-6)
        unit = state.normals / length
        gap = unit[:, : len(use)] - unit[:, len(use) :]
        share = weight[use] / (len(target) * self.config.shards)
        grad_gap = 2.0 * share * gap
        grad_unit = torch.cat([grad_gap, -grad_gap], dim=1)
        grad_normals = (grad_unit - unit * (grad_unit * unit).sum(0)) / length
        self._field_backward(state, torch.zeros_like(state.outputs), grad_normals, result)
        return float((share * gap.square().sum(0)).sum())

    def _update(self, results: list[ShardResult], rate_share: float) -> None:
        """Take one Adam step with the sums of all shards."""
        self.updates += 1
        optim = self.config.optim
        rates = (optim.table_rate * rate_share, optim.network_rate * rate_share)
        self.pool.map(lambda level: self._update_level(level, results, rates[0]), range(self.field.active))
        sdf, color = results[0].sdf_grad.flat, results[0].color_grad.flat
        for other in results[1:]:
            sdf += other.sdf_grad.flat
            color += other.color_grad.flat
        self._adam(self.sdf_weights.flat, sdf, self.sdf_moments, rates[1], 0.0, (0, len(sdf)))
        self._adam(self.color_weights.flat, color, self.color_moments, rates[1], 0.0, (0, len(color)))
        if optim.exposure_rate > 0:
            gains = sum((r.gain_grad for r in results[1:]), results[0].gain_grad) * self.log_gains.exp()
            self._adam(self.log_gains.view(-1), gains.view(-1), self.gain_moments,
                       optim.exposure_rate * rate_share, 0.0, (0, gains.numel()))  # fmt: skip
            self.log_gains -= self.log_gains.mean(0)

    def _update_level(self, level: int, results: list[ShardResult], rate: float) -> None:
        for result in results:
            for state, grad_inputs, direction in result.passes:
                self.field.scatter(state, grad_inputs, direction, self.table_grad, level)
        optim, levels = self.config.optim, self.levels
        decay = 0.0
        if optim.table_decay > 0:
            share = level / max(levels.num_levels - 1, 1)
            decay = optim.table_decay * (optim.table_decay_fine / optim.table_decay) ** share
        span = (2 * levels.starts[level], 2 * (levels.starts[level] + levels.sizes[level]))
        table, gradient = self.sdf_weights.table.view(-1), self.table_grad.table.view(-1)
        self._adam(table, gradient, self.table_moments, rate, decay, span)

    def _adam(
        self, parameter: Tensor, gradient: Tensor, moments: Moments, rate: float, decay: float, span: tuple[int, int]
    ) -> None:
        optim = self.config.optim
        corrections = (1.0 / (1.0 - optim.beta1**self.updates), 1.0 / (1.0 - optim.beta2**self.updates))
        numbers = [np.float32(v) for v in (rate, optim.beta1, optim.beta2, optim.eps, decay, *corrections)]
        adam_step(
            parameter.numpy(), gradient.numpy(), moments.mean.numpy(), moments.square.numpy(), *numbers, *span
        )

    # ---- the field as others see it --------------------------------------------------------------------------------

    def _sdf_rows(self, points: Float[Tensor, "3 n"]) -> Tensor:
        parts = self.pool.map(lambda part: self.field.values(part.contiguous())[0], points.split(16384, dim=1))
        return torch.cat(parts)

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return the SDF at positions of normalised space, in normalised units."""
        return self._sdf_rows(self.box.to_unit(points).T.contiguous())

    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return the SDF and its gradient at positions of normalised space."""
        parts = self.pool.map(
            lambda part: self.field.forward(part.contiguous()), self.box.to_unit(points).T.split(8192, dim=1)
        )
        return torch.cat([p.outputs[0] for p in parts]), torch.cat([p.normals for p in parts], dim=1).T

    def color(self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Return colours in [0, 1] of surface points seen along unit directions (away from the camera)."""
        def part(pair: tuple[Tensor, Tensor]) -> Tensor:
            state = self.field.forward(self.box.to_unit(pair[0]).T.contiguous())
            n = len(pair[0])
            starts = torch.arange(n + 1)
            empty = torch.empty(0)
            packed = Packed(pair[1].contiguous(), starts, empty, empty, empty, 0)
            return self._radiance(state, packed, torch.arange(n, dtype=torch.int32), n).colors.T

        pairs = list(zip(points.split(8192), directions.split(8192), strict=True))
        return torch.cat(self.pool.map(part, pairs)) if pairs else torch.empty(0, 3)

    def render_view(self, cameras: Cameras, view: int, step: int = 1) -> Rendering:
        """Render every ``step``-th pixel of one camera of normalised space."""
        origins, directions = cameras.to(dtype=torch.float32).image_rays(view, step)
        parts = self.pool.map(
            self._render_rays,
            list(zip(origins.split(_RENDER_CHUNK), directions.split(_RENDER_CHUNK), strict=True)),
        )
        rows = torch.cat(parts)
        width, height = (math.ceil(int(size) / step) for size in cameras.sizes[view])
        rgb, opacity, depth, normal = rows.view(height, width, 8).split([3, 1, 1, 3], dim=2)
        return Rendering(rgb, opacity[..., 0], depth[..., 0], normal)

    def _render_rays(self, rays: tuple[Tensor, Tensor]) -> Float[Tensor, "rays 8"]:
        """Return colour, opacity, depth and normal of rays."""
        origins, directions = rays[0].contiguous(), rays[1].contiguous()
        count = len(origins)
        wanted = torch.zeros(count, dtype=torch.bool)
        packed = self._march(origins, directions, torch.full((count,), 0.5), wanted, 16 * count)
        if packed.dropped:
            if count == 1:
                packed = self._march(origins, directions, torch.full((count,), 0.5), wanted, 1 << 16)
            else:
                half = count // 2
                return torch.cat(
                    [self._render_rays((origins[part], directions[part])) for part in (slice(half), slice(half, None))]
                )
        n = packed.points.shape[1]
        state = self.field.forward(packed.points)
        alpha, scratch, weights, before = (torch.empty(n) for _ in range(4))
        rest = torch.empty(count)
        starts = packed.starts.numpy()
        compositing.neus_alpha(
            state.outputs[0].numpy(), state.normals.numpy(), directions.numpy(), starts, packed.steps.numpy(),
            np.float32(self.sharpness), alpha.numpy(), scratch.numpy(), torch.empty(n).numpy(), 0, count,
        )  # fmt: skip
        compositing.composite(alpha.numpy(), starts, weights.numpy(), before.numpy(), rest.numpy(), 0, count)
        slots = torch.empty(n, dtype=torch.int32)
        kept = compositing.keep_heavy(weights.numpy(), np.float32(_COLOR_WEIGHT), slots.numpy())
        colors = self._radiance(state, packed, slots, kept).colors
        heavy = slots >= 0
        values = torch.cat([colors, packed.depths[heavy][None], state.normals[:, heavy]])
        sums = torch.empty(count, 7)
        compositing.ray_sum(weights.numpy(), values.numpy(), slots.numpy(), starts, sums.numpy(), 0, count)
        opacity = 1.0 - rest
        depth = torch.where(opacity > 0.5, sums[:, 3] / opacity, torch.nan)
        normal = sums[:, 4:] / sums[:, 4:].norm(dim=1, keepdim=True).clamp(min=1e-6)
        normal = torch.where(opacity[:, None] > 0.5, normal, 0.0)
        return torch.cat([sums[:, :3], opacity[:, None], depth[:, None], normal], dim=1)
