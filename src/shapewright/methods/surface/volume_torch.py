"""The volume renderer in torch operations with autograd: on any device, and the oracle of the hand-written gradients.

Weights, schedules, batches and checkpoints are those of ``VolumeModel``, so a run may change its device. The hash grid,
compositing and sums along rays go through ``kernels.ops`` and ``kernels.ray_ops``, and so through Warp on CUDA devices.
Public functions take and return tensors of the CPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.fields.grid_radiance import RadianceParameters
from shapewright.fields.grid_sdf import SQUAREPLUS_EPS, GridSdf, GridSdfParameters
from shapewright.kernels import ray_ops
from shapewright.kernels.ops import encode, pull
from shapewright.kernels.reference.adam import AdamNumbers, adam_step
from shapewright.kernels.reference.compositing import ray_of_sample
from shapewright.kernels.reference.grid_sdf import network
from shapewright.kernels.reference.marching_band import BandRays, march_band
from shapewright.kernels.reference.volume_rendering import mask_error, neus_alpha, photometric_error, radiance_input
from shapewright.methods.surface.volume import Batch, Moments, ShardResult, VolumeModel
from shapewright.methods.surface.volume_field import COLOR_WEIGHT, Packed, VolumeField

_CHUNK = 2**16


@dataclass
class Weights:
    """Hold the parameters that a step is differentiated by; ``gains`` are the exposures of the pictures."""

    sdf: GridSdfParameters
    color: RadianceParameters
    gains: Float[Tensor, "views 3"]

    def leaves(self) -> list[Tensor]:
        """Return the tensors that get gradients."""
        return [self.sdf.table, self.sdf.flat, self.color.flat, self.gains]


@dataclass
class Photo:
    """Hold what the pixels of a batch show: rays' origins, numbers of their pictures, colours, masks, backgrounds."""

    origins: Float[Tensor, "rays 3"]
    views: Int64[Tensor, " rays"]
    target: Float[Tensor, "rays 3"]
    coverage: Float[Tensor, " rays"]
    background: Float[Tensor, "rays 3"]


@dataclass
class Shaded:
    """Hold what packed samples look like.

    Attributes:
        weights: Of all samples; rest: light left after each ray.
        heavy: Numbers of the samples that have a colour; starts: their offsets by ray.
        normals: Of all samples; colors: of the heavy ones.
    """

    weights: Float[Tensor, " samples"]
    rest: Float[Tensor, " rays"]
    heavy: Int64[Tensor, " heavy"]
    starts: Int64[Tensor, " rays_1"]
    normals: Float[Tensor, "samples 3"]
    colors: Float[Tensor, "heavy 3"]

    def sum(self, values: Float[Tensor, "heavy channels"]) -> Float[Tensor, "rays channels"]:
        """Return the weighted sums of values of the heavy samples along each ray."""
        return ray_ops.ray_sum(self.weights[self.heavy], values, self.starts)


class TorchVolumeField(VolumeField):
    """Hold one object's SDF and radiance on a device, and render them.

    Args:
        field: Where box, cache and settings come from; its weights are copied.
        device: Where to compute.
    """

    def __init__(self, field: VolumeField, device: torch.device) -> None:
        super().__init__(field.config, field.cache, torch.Generator(), threads=1)
        sdf, color = field.sdf_weights, field.color_weights
        self.device = device
        self.sdf_weights = replace(sdf, table=sdf.table.to(device, copy=True), flat=sdf.flat.to(device, copy=True))
        self.color_weights = replace(color, flat=color.flat.to(device, copy=True))
        # Of the grid only its number of active levels is used: its kernels are those of the CPU.
        self.grid = GridSdf(self.sdf_weights, self.levels, self.box.side)

    def evaluate(
        self, points: Float[Tensor, "n 3"], weights: GridSdfParameters
    ) -> tuple[Float[Tensor, "n outputs"], Float[Tensor, "n 3"]]:
        """Return SDF and features, and the SDF's gradient in world units, at positions of the unit cube.

        Both are differentiable by the weights where gradients are enabled.
        """
        is_training = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = self._inputs(points, weights)
            if not inputs.requires_grad:
                inputs.requires_grad_()
            outputs = network(inputs, weights.layers(), SQUAREPLUS_EPS)
            (slope,) = torch.autograd.grad(outputs[:, 0].sum(), inputs, create_graph=is_training)
        by_features = pull(points, weights.table, slope[:, :-3], self.levels, self.grid.active)
        normals = (by_features + 2.0 * slope[:, -3:]) / self.box.side
        return (outputs, normals) if is_training else (outputs.detach(), normals)

    def shade(
        self, packed: Packed, outputs: Tensor, normals: Float[Tensor, "samples 3"], color: RadianceParameters
    ) -> Shaded:
        """Return opacities and colours of packed samples with these outputs of the SDF network."""
        along = packed.directions[ray_of_sample(packed.starts)]
        alpha = neus_alpha(outputs[:, 0], (normals * along).sum(dim=1), packed.steps, self.sharpness)
        weights, rest = ray_ops.composite(alpha, packed.starts)
        is_heavy = weights > COLOR_WEIGHT
        heavy = is_heavy.nonzero().squeeze(1)
        starts = torch.cat([heavy.new_zeros(1), is_heavy.cumsum(0)])[packed.starts]
        colors = _radiance(color, radiance_input(outputs[heavy, 1:], normals[heavy], along[heavy]))
        return Shaded(weights, rest, heavy, starts, normals, colors)

    def march(self, origins: Tensor, directions: Tensor, jitter: Tensor, wanted: Tensor, capacity: int) -> Packed:
        """Return packed samples of rays of normalised space; arguments as in ``march_band``."""
        columns = (self.box.to_unit(origins), directions / self.box.side, jitter, wanted)
        rays = BandRays(*(column.to(self.device) for column in columns))
        samples = march_band(rays, self.cache.values.to(self.device), self.band(), capacity)
        points = rays.chosen(ray_of_sample(samples.starts)).at(samples.depths)
        return Packed(
            directions.to(self.device), samples.starts, samples.depths, samples.steps, points.T, samples.dropped
        )

    @torch.no_grad()
    def sdf_rows(self, points: Float[Tensor, "3 n"]) -> Float[Tensor, " n"]:
        """Return the SDF at positions of the unit cube."""
        layers = self.sdf_weights.layers()
        parts = [
            network(self._inputs(part.T.to(self.device), self.sdf_weights), layers, SQUAREPLUS_EPS)[:, 0].cpu()
            for part in points.split(_CHUNK, dim=1)
        ]
        return torch.cat(parts)

    @torch.no_grad()
    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return the SDF and its gradient at positions of normalised space."""
        parts = [self.evaluate(part, self.sdf_weights) for part in self._unit_parts(points)]
        return torch.cat([p[0][:, 0] for p in parts]).cpu(), torch.cat([p[1] for p in parts]).cpu()

    @torch.no_grad()
    def color(self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Return colours in [0, 1] of surface points seen along unit directions (away from the camera)."""
        colors = []
        for part, along in zip(self._unit_parts(points), directions.to(self.device).split(_CHUNK), strict=True):
            outputs, normals = self.evaluate(part, self.sdf_weights)
            colors.append(_radiance(self.color_weights, radiance_input(outputs[:, 1:], normals, along)))
        return torch.cat(colors).cpu()

    @torch.no_grad()
    def _composite(self, packed: Packed) -> tuple[Float[Tensor, "rays 7"], Float[Tensor, " rays"]]:
        outputs, normals = self.evaluate(packed.points.T, self.sdf_weights)
        seen = self.shade(packed, outputs, normals, self.color_weights)
        values = torch.cat([seen.colors, packed.depths[seen.heavy, None], normals[seen.heavy]], dim=1)
        return seen.sum(values).cpu(), seen.rest.cpu()

    def _inputs(self, points: Tensor, weights: GridSdfParameters) -> Tensor:
        """Return the network's input, ``[encoding; 2 u - 1]``."""
        features = encode(points, weights.table, self.levels, self.grid.active)
        return torch.cat([features, 2.0 * points - 1.0], dim=1)

    def _unit_parts(self, points: Tensor) -> tuple[Tensor, ...]:
        return self.box.to_unit(points).to(self.device).split(_CHUNK)


class TorchVolumeModel(VolumeModel):
    """Train the field of one scene on a device and render it.

    Args:
        model: Gives its weights, moments and pictures, and the generator of everything random.
        device: Where to compute.
    """

    field: TorchVolumeField

    def __init__(self, model: VolumeModel, device: torch.device) -> None:
        super().__init__(model.config, TorchVolumeField(model.field, device), model.generator, len(model.log_gains))
        self.log_gains = self.log_gains.to(device)
        self.moments["log_gains"] = Moments.zeros_like(self.log_gains.view(-1))
        self.load_state_dict(model.state_dict())
        self.pixels = model.pixels

    def _shard_step(self, batch: Batch) -> ShardResult:
        """Return the gradients of one shard; that of the table lies in ``sdf_grad.table``."""
        weights = self._weights()
        losses, packed = self.losses(batch, weights)
        leaves = weights.leaves()
        table, flat, color, gains = torch.autograd.grad(losses["loss"], leaves, materialize_grads=True)
        numbers = dict(zip(losses, torch.stack(list(losses.values())).tolist(), strict=True))
        return ShardResult(
            replace(weights.sdf, table=table, flat=flat), replace(weights.color, flat=color), gains, numbers,
            len(packed.directions) - packed.dropped, len(packed.depths),
        )  # fmt: skip

    def _weights(self) -> Weights:
        sdf, color = self.field.sdf_weights, self.field.color_weights
        return Weights(
            replace(sdf, table=_leaf(sdf.table), flat=_leaf(sdf.flat)),
            replace(color, flat=_leaf(color.flat)),
            _leaf(self.log_gains.exp()),
        )

    def losses(self, batch: Batch, weights: Weights) -> tuple[dict[str, Tensor], Packed]:
        """Return the losses of one shard, differentiable by the weights, and the samples they were taken on."""
        loss, field, count = self.config.loss, self.field, self.config.shards
        photo, packed = self._march_batch(batch)
        points = torch.cat([packed.points, batch.eikonal_points.to(field.device)], dim=1).T
        outputs, normals = field.evaluate(points, weights.sdf)
        own = slice(len(packed.depths))
        seen = field.shade(packed, outputs[own], normals[own], weights.color)
        losses = {
            "photometric": self._photometric(photo, seen, weights.gains) / count,
            "mask": mask_error(seen.rest, photo.coverage).mean() / count,
            "eikonal": (normals.norm(dim=1) - 1.0).square().mean() / count,
        }
        total = loss.photometric * losses["photometric"] + loss.mask * losses["mask"] + loss.eikonal * losses["eikonal"]
        if batch.is_smoothed and max(loss.smoothness, loss.smoothness_clipped) > 0:
            losses["smoothness"] = self._bending(batch, photo, packed, seen, weights.sdf)
            total = total + losses["smoothness"]
        return {"loss": total, **losses}, packed

    def _march_batch(self, batch: Batch) -> tuple[Photo, Packed]:
        sampling, pool = self.config.sampling, self._pool()
        origins, directions, views = pool.cameras.rays(batch.pixels)
        target, alpha = pool.rgb[batch.pixels].float() / 255.0, pool.alpha[batch.pixels].float() / 255.0
        capacity = 2 * sampling.samples // self.config.shards + 4096
        packed = self.field.march(origins, directions, batch.jitter, alpha > 0.5, capacity)
        columns = (origins, views, target, alpha, batch.background)
        return Photo(*(column.to(self.field.device) for column in columns)), packed

    def _photometric(self, photo: Photo, seen: Shaded, gains: Tensor) -> Tensor:
        loss, cover = self.config.loss, photo.coverage[:, None]
        prediction = gains[photo.views] * seen.sum(seen.colors) + seen.rest[:, None] * photo.background
        wanted = cover * photo.target + (1.0 - cover) * photo.background
        is_clipped = (photo.target >= loss.clipped_from) & (cover == 1.0)
        return photometric_error(prediction, wanted, is_clipped, loss.charbonnier).mean()

    def _bending(
        self, batch: Batch, photo: Photo, packed: Packed, seen: Shaded, sdf: GridSdfParameters
    ) -> Tensor:  # fmt: skip
        """Return how the unit normals bend along a random line through the points that rays see.

        It is the squared second difference, of which only the middle is differentiated.
        """
        field, rest = self.field, seen.rest.detach()
        use, share = self._smoothing(batch, photo.target, rest)
        with torch.no_grad():
            sums = ray_ops.ray_sum(seen.weights, packed.depths[:, None].to(rest.dtype), packed.starts)
            depths = sums / (1.0 - rest[:, None])
            points = field.box.to_unit(photo.origins[use] + depths[use] * packed.directions[use])
            step = batch.neighbours.to(field.device)[:, use].T * (self.config.loss.smoothness_distance / field.box.side)
            after, before = (_unit(field.evaluate(points + sign * step, sdf)[1]) for sign in (1.0, -1.0))
        bend = after - 2.0 * _unit(field.evaluate(points, sdf)[1]) + before
        return (share * bend.square().sum(dim=1)).sum()

    def _add_table_gradient(self, level: int, results: list[ShardResult]) -> None:
        first = self.field.levels.starts[level]
        rows = slice(2 * first, 2 * (first + self.field.levels.sizes[level]))
        for result in results:
            self.table_grad[rows] += result.sdf_grad.table.view(-1)[rows]

    def _adam(
        self, name: str, gradient: Tensor, rate: float, decay: float, span: tuple[int, int] | None = None
    ) -> None:
        optim, moments, parameter = self.config.optim, self.moments[name], self._parameters()[name]
        numbers = AdamNumbers.of_step(self.updates, rate, (optim.beta1, optim.beta2), optim.eps, decay)
        rows = slice(*(span or (0, len(parameter))))
        adam_step(parameter[rows], gradient[rows], moments.mean[rows], moments.square[rows], numbers)


def _leaf(value: Tensor) -> Tensor:
    return value.detach().requires_grad_()


def _unit(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    return normals / normals.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _radiance(weights: RadianceParameters, inputs: Float[Tensor, "n channels"]) -> Float[Tensor, "n 3"]:
    """Return colours in [0, 1]: two ReLU layers and a logistic function."""
    v1, c1, v2, c2, v3, c3 = weights.layers()
    hidden = torch.addmm(c1, inputs, v1.T).relu()
    return torch.addmm(c3, torch.addmm(c2, hidden, v2.T).relu(), v3.T).sigmoid()
