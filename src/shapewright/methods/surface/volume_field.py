"""The field of the volume renderer and its pictures: marching, opacities, colours.

Weights are those of NeuS (arXiv:2106.10689), samples lie in a band around the surface that a cached grid shows, the
SDF is a small network on a hash grid (arXiv:2201.05989) with fused normals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.fields.grid_radiance import RadiancePass, create_radiance, radiance_forward
from shapewright.fields.grid_sdf import GridSdf, create_grid_sdf
from shapewright.geometry.cameras import Cameras
from shapewright.kernels.cpu import compositing
from shapewright.kernels.cpu.marching import march_band, place_samples
from shapewright.kernels.levels import hash_levels
from shapewright.kernels.reference.marching_band import Band
from shapewright.kernels.shards import ShardPool
from shapewright.methods.surface.band_cache import BandCache
from shapewright.methods.surface.volume_config import VolumeConfig
from shapewright.rendering.rendering import Rendering

COLOR_WEIGHT = 1e-3
_COARSE_STEP = 0.03
# The band around the surface, in widths of the logistic density.
_OUTER_WIDTHS, _INNER_WIDTHS = 4.0, 6.0
_RENDER_CHUNK = 4096


@dataclass
class Packed:
    """Hold the packed samples of some rays.

    Attributes:
        starts: ``[rays + 1]``; depths, steps: ``[samples]``; points: ``[3, samples]`` in the unit cube.
        dropped: Rays that did not fit.
    """

    directions: Tensor
    starts: Tensor
    depths: Tensor
    steps: Tensor
    points: Tensor
    dropped: int


@dataclass
class Opacities:
    """Hold the opacities of packed samples, their derivatives, the weights, and what is left after each ray.

    ``slots`` numbers the ``kept`` samples that are heavy enough to be given a colour; the others have -1.
    """

    alpha: Tensor
    by_sdf: Tensor
    by_slope: Tensor
    weights: Tensor
    before: Tensor
    rest: Tensor
    slots: Tensor
    kept: int


class VolumeField:
    """Hold one object's SDF and radiance, and render them.

    Args:
        config: Options.
        cache: The cube around the object and the cached SDF in it.
        generator: Draws the start of the weights.
        threads: Threads to use; results do not depend on it.
    """

    def __init__(self, config: VolumeConfig, cache: BandCache, generator: torch.Generator, threads: int) -> None:
        grid = config.grid
        self.config = config
        self.cache = cache
        self.box = cache.box
        self.pool = ShardPool(threads)
        self.levels = hash_levels(grid.num_levels, grid.log2_table_size, grid.base_resolution, grid.max_resolution)
        self.sdf_weights = create_grid_sdf(self.levels, grid.hidden, grid.features, generator)
        self.color_weights = create_radiance(grid.features, grid.color_hidden, generator)
        self.grid = GridSdf(self.sdf_weights, self.levels, cache.box.side)
        self.sharpness = config.sampling.sharpness_start

    def set_progress(self, progress: float) -> None:
        """Set the active levels and the sharpness of a moment in the run, in [0, 1]."""
        grid, sampling = self.config.grid, self.config.sampling
        joined = (grid.num_levels - grid.start_levels) * min(progress / max(grid.all_levels_by, 1e-9), 1.0)
        self.grid.active = grid.start_levels + int(joined + 1e-9)
        share = min(progress / sampling.sharpest_by, 1.0)
        self.sharpness = sampling.sharpness_start * (sampling.sharpness_end / sampling.sharpness_start) ** share

    def band(self) -> Band:
        """Return where rays have samples at the present sharpness."""
        sampling, cell, width = self.config.sampling, self.cache.cell, 1.0 / self.sharpness
        return Band(
            sharpness=self.sharpness,
            outer=_OUTER_WIDTHS * width + 0.5 * cell,
            inner=-_INNER_WIDTHS * width - 0.5 * cell,
            base=min(max(sampling.step_widths * width, sampling.least_step), sampling.greatest_step),
            longest_skip=sampling.longest_skip,
            coarse_step=_COARSE_STEP,
            coarse_limit=cell,
        )

    def march(self, origins: Tensor, directions: Tensor, jitter: Tensor, wanted: Tensor, capacity: int) -> Packed:
        """Return packed samples of rays of normalised space; arguments as in ``march_band``."""
        starts = torch.empty(len(origins) + 1, dtype=torch.int64)
        depths, steps = torch.empty(capacity), torch.empty(capacity)
        unit_origins, unit_directions = self.box.to_unit(origins), directions / self.box.side
        dropped = march_band(
            unit_origins.numpy(), unit_directions.numpy(), jitter.numpy(), wanted.numpy(), self.cache.values.numpy(),
            tuple(np.float32(value) for value in self.band()), starts.numpy(), depths.numpy(), steps.numpy(),
        )  # fmt: skip
        count = int(starts[-1])
        points = torch.empty(3, count)
        place_samples(unit_origins.numpy(), unit_directions.numpy(), starts.numpy(), depths.numpy(), points.numpy())
        return Packed(directions, starts, depths[:count], steps[:count], points, dropped)

    def opacities(self, outputs: Tensor, normals: Tensor, packed: Packed) -> Opacities:
        """Return what packed samples hide, from the SDF and its gradient at them."""
        n, rays = len(packed.depths), len(packed.directions)
        alpha, by_sdf, by_slope, weights, before = (torch.empty(n) for _ in range(5))
        rest, slots = torch.empty(rays), torch.empty(n, dtype=torch.int32)
        kept = compositing.see(
            outputs[0].numpy(), normals.numpy(), packed.directions.numpy(), packed.starts.numpy(), packed.steps.numpy(),
            np.float32(self.sharpness), np.float32(COLOR_WEIGHT),
            alpha.numpy(), by_sdf.numpy(), by_slope.numpy(), weights.numpy(), before.numpy(), rest.numpy(),
            slots.numpy(),
        )  # fmt: skip
        return Opacities(alpha, by_sdf, by_slope, weights, before, rest, slots, kept)

    def radiance(
        self, outputs: Tensor, normals: Tensor, directions: Tensor, starts: Tensor, slots: Tensor, kept: int
    ) -> RadiancePass:
        """Return the colours of the samples that ``slots`` numbers, seen along the rays' ``directions``."""
        inputs = torch.empty(self.color_weights.inputs, kept)
        compositing.radiance_input(
            outputs.numpy(), normals.numpy(), directions.numpy(), starts.numpy(),
            slots.numpy(), inputs.numpy(), 0, len(directions),
        )  # fmt: skip
        return radiance_forward(self.color_weights, inputs)

    def sdf_rows(self, points: Float[Tensor, "3 n"]) -> Float[Tensor, " n"]:
        """Return the SDF at positions of the unit cube."""
        parts = self.pool.map(lambda part: self.grid.values(part.contiguous())[0], points.split(16384, dim=1))
        return torch.cat(parts)

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return the SDF at positions of normalised space, in normalised units; outside the hull it is positive."""
        unit = self.box.to_unit(points).T.contiguous()
        return torch.maximum(self.sdf_rows(unit), self.cache.hull_distance(unit))

    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return the SDF and its gradient at positions of normalised space."""
        parts = self.pool.map(
            lambda part: self.grid.forward(part.contiguous()), self.box.to_unit(points).T.split(8192, dim=1)
        )
        return torch.cat([p.outputs[0] for p in parts]), torch.cat([p.normals for p in parts], dim=1).T

    def color(self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Return colours in [0, 1] of surface points seen along unit directions (away from the camera)."""

        def part(pair: tuple[Tensor, Tensor]) -> Tensor:
            state = self.grid.forward(self.box.to_unit(pair[0]).T.contiguous())
            count = len(pair[0])
            starts, slots = torch.arange(count + 1), torch.arange(count, dtype=torch.int32)
            return self.radiance(state.outputs, state.normals, pair[1].contiguous(), starts, slots, count).colors.T

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
        """Return colour, opacity, depth and normal of rays, composited on black."""
        origins, directions = rays[0].contiguous(), rays[1].contiguous()
        count = len(origins)
        middle, wanted = torch.full((count,), 0.5), torch.zeros(count, dtype=torch.bool)
        packed = self.march(origins, directions, middle, wanted, 16 * count + 4096)
        if packed.dropped:
            halves = (slice(count // 2), slice(count // 2, None))
            return torch.cat([self._render_rays((origins[part], directions[part])) for part in halves])
        sums, rest = self._composite(packed)
        opacity = 1.0 - rest
        hit = opacity > 0.5
        depth = torch.where(hit, sums[:, 3] / opacity, torch.nan)
        normal = sums[:, 4:] / sums[:, 4:].norm(dim=1, keepdim=True).clamp(min=1e-6)
        return torch.cat([sums[:, :3], opacity[:, None], depth[:, None], torch.where(hit[:, None], normal, 0.0)], dim=1)

    def _composite(self, packed: Packed) -> tuple[Float[Tensor, "rays 7"], Float[Tensor, " rays"]]:
        """Return the weighted sums of colour, depth and normal along rays, and what is left of the light."""
        state = self.grid.forward(packed.points)
        seen = self.opacities(state.outputs, state.normals, packed)
        colors = self.radiance(
            state.outputs, state.normals, packed.directions, packed.starts, seen.slots, seen.kept
        ).colors
        heavy = seen.slots >= 0
        values = torch.cat([colors, packed.depths[heavy][None], state.normals[:, heavy]])
        count = len(seen.rest)
        sums = torch.empty(count, 7)
        compositing.ray_sum(
            seen.weights.numpy(), values.numpy(), seen.slots.numpy(), packed.starts.numpy(), sums.numpy(), 0, count
        )
        return sums, seen.rest
