"""The surface method's model that is rendered and trained by tracing, as in the paper."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from shapewright.data.scene import Scene
from shapewright.engine.schedule import Moment
from shapewright.fields.encodings import build_encoding, build_view_encoding
from shapewright.fields.radiance import RadianceNetwork
from shapewright.fields.sdf_network import FieldValues, SdfNetwork
from shapewright.geometry.cameras import Cameras
from shapewright.losses.eikonal import eikonal_loss
from shapewright.losses.photometric import photometric_loss
from shapewright.losses.silhouette import silhouette_loss
from shapewright.methods.surface.table_adam import TableAdam
from shapewright.methods.surface.tracing_config import TracingModelConfig
from shapewright.methods.surface.tracing_pixels import PixelBatch, TrainingPixels
from shapewright.rendering.rendering import Rendering
from shapewright.rendering.sphere_tracing import FieldCache, Rays, closest_approach, differentiable_distance, trace
from shapewright.rendering.traced_rays import CountedField

# The paper's colours span [-1, 1], ours [0, 1]: its loss of the same picture is twice ours.
PAPER_COLOR_RANGE = 2.0
RENDER_CHUNK = 16384
GRADIENT_CHUNK = 8192


class TracingModel:
    """Train and render a signed distance and a radiance network by tracing.

    Args:
        config: Networks, tracer, batches, losses and optimizer.
        scene: The pictures; not needed to render.
        device: Where everything is computed.
        seed: Start of all random numbers.
    """

    def __init__(self, config: TracingModelConfig, scene: Scene | None, device: torch.device, seed: int) -> None:
        self.config = config
        self.device = device
        self._generator = torch.Generator().manual_seed(seed)
        encoding = build_encoding(config.encoding, self._generator)
        self.sdf_network = SdfNetwork(config.sdf, encoding, self._generator).to(device)
        view_encoding = build_view_encoding(config.view_encoding)
        self.radiance_network = RadianceNetwork(
            config.radiance, view_encoding, config.sdf.feature_size, self._generator
        ).to(device)
        self._networks = nn.ModuleDict({"sdf": self.sdf_network, "radiance": self.radiance_network})
        self._optimizers = self._build_optimizers()
        self._cache = self._empty_cache()
        self._progress = 0.0
        self._pixels = None if scene is None else TrainingPixels(scene, config.batch, device, self._generator)

    def next_batch(self, moment: Moment) -> PixelBatch:
        """Return the pixels of the next step.

        Raises:
            ValueError: if the model was made without a scene.
        """
        if self._pixels is None:
            raise ValueError(f"step {moment.step} needs a scene, but the model was made without one.")
        return self._pixels.draw()

    def train_step(self, batch: PixelBatch, moment: Moment) -> dict[str, float | Tensor]:
        """Make one step of IDR's optimisation (arXiv:2003.09852, section 4), and return its losses.

        If the loss or a gradient is not finite, nothing changes and ``skipped`` is 1.
        """
        self._set_progress(moment.progress)
        field = CountedField(self.sdf_network.sdf, self.config.tracing.chunk_size)
        with torch.no_grad(), cached():
            is_due = moment.step % self.config.tracing.cache_every == 0
            if self._cache is not None and (is_due or self._cache.is_outdated):
                self._cache.refresh(field)
            distances, is_surface = self._trace(batch, field)
        points = batch.origins + distances[:, None] * batch.directions
        values = self.sdf_network.evaluate(torch.cat([points, self._uniform_points(len(points) // 2)]))
        if self._cache is not None:
            self._cache.compare(points, values.sdf[: len(points)].detach())
        terms = self._losses(batch, distances, is_surface, values)
        weights = self.config.loss
        loss = weights.rgb * terms["rgb"] + weights.eikonal * terms["eikonal"] + weights.mask * terms["mask"]
        self._networks.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in self._networks.parameters() if parameter.grad is not None]
        report: dict[str, float | Tensor] = {name: term.detach() for name, term in {"loss": loss, **terms}.items()}
        num_with_gradient = len(distances) + len(distances) // 2 + int(is_surface.sum())
        report["evaluations_per_ray"] = (field.num_evaluations + num_with_gradient) / len(distances)
        if not bool(torch.isfinite(loss + nn.utils.get_total_norm(gradients))):
            return {**report, "skipped": 1.0}
        for optimizer in self._optimizers.values():
            optimizer.step()
        return report

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return signed distances in normalised space, without gradients."""
        with torch.no_grad(), cached():
            return CountedField(self.sdf_network.sdf, self.config.tracing.chunk_size)(points)

    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return signed distances and unit normals, without gradients."""
        values = self._evaluate(points)
        return values.sdf, nn.functional.normalize(values.gradient, dim=-1)

    def color(
        self, points: Float[Tensor, "n 3"], view_directions: Float[Tensor, "n 3"] | None = None
    ) -> Float[Tensor, "n 3"]:
        """Return the colours of surface points in [0, 1], without gradients.

        Args:
            points: Points on the surface.
            view_directions: Unit directions from the camera to the points; None looks straight at the surface.
        """
        values = self._evaluate(points)
        normals = nn.functional.normalize(values.gradient, dim=-1)
        views = normals if view_directions is None else -view_directions
        with torch.no_grad():
            return self.radiance_network(points, views, values.gradient, values.feature)

    @torch.no_grad()
    def render_view(self, cameras: Cameras, view: int, step: int = 1) -> Rendering:
        """Return what one camera sees at every ``step``-th pixel."""
        width, height = (-(-int(size) // step) for size in cameras.sizes[view])
        origins, directions = cameras.to(device=self.device, dtype=torch.float32).image_rays(view, step)
        # Training goes on with its own cache, as if nothing had been rendered.
        cache = self._empty_cache()
        with cached():
            if cache is not None:
                cache.refresh(CountedField(self.sdf_network.sdf, self.config.tracing.chunk_size))
            parts = [
                self._render(Rays.through_sphere(origin, direction, self.config.tracing.radius), cache)
                for origin, direction in zip(origins.split(RENDER_CHUNK), directions.split(RENDER_CHUNK), strict=True)
            ]
        pictures = (torch.cat(part).unflatten(0, (height, width)) for part in zip(*parts, strict=True))
        return Rendering(*pictures)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        state = {f"weights.{name}": value for name, value in self._networks.state_dict().items()}
        for name, optimizer in self._optimizers.items():
            for index, averages in optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{name}.{index}.{key}": value for key, value in averages.items()}
        state["generator"] = self._generator.get_state()
        state["progress"] = torch.tensor(self._progress, dtype=torch.float64)
        if self._cache is not None:
            state |= {f"cache.{name}": value for name, value in self._cache.state_dict().items()}
        if self._pixels is not None:
            state["images_left"] = self._pixels.state()
        return state

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        self._networks.load_state_dict(_below("weights.", tensors))
        for name, optimizer in self._optimizers.items():
            averages: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(f"optimizer.{name}.", tensors).items():
                index, entry = key.split(".")
                averages.setdefault(int(index), {})[entry] = value.clone()
            optimizer.load_state_dict({**optimizer.state_dict(), "state": averages})
        self._generator.set_state(tensors["generator"])
        self._set_progress(float(tensors["progress"]))
        if self._cache is not None:
            self._cache.load_state_dict(_below("cache.", tensors))
        if self._pixels is not None:
            self._pixels.load_state(tensors["images_left"])

    def _build_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        optim = self.config.optim
        weights = [*self.sdf_network.layers.parameters(), *self.radiance_network.parameters()]
        optimizers: dict[str, torch.optim.Optimizer] = {
            "networks": torch.optim.Adam(weights, optim.networks, optim.betas, optim.eps)
        }
        if tables := list(self.sdf_network.encoding.parameters()):
            optimizers["tables"] = TableAdam(tables, optim.tables, optim.betas, optim.eps)
        return optimizers

    def _empty_cache(self) -> FieldCache | None:
        """Return a cache for the fast tracer; the exact one has none."""
        tracing = self.config.tracing
        if tracing.tracer == "exact":
            return None
        return FieldCache(tracing.cache_resolution, tracing.radius, self.device)

    def _set_progress(self, progress: float) -> None:
        """Follow the schedules of the encoding and of the learning rates."""
        self._progress = progress
        self.sdf_network.encoding.set_progress(progress)
        rates = {"networks": self.config.optim.networks, "tables": self.config.optim.tables}
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = rates[name] * self.config.optim.factor_at(progress)

    def _trace(self, batch: PixelBatch, field: CountedField) -> tuple[Float[Tensor, " rays"], Bool[Tensor, " rays"]]:
        """Return where each ray meets the object, and which do; the others' closest approach."""
        tracing = self.config.tracing
        rays = Rays.through_sphere(batch.origins, batch.directions, tracing.radius)
        traced = trace(field, rays, tracing, self._cache)
        is_surface = traced.hit & batch.is_object
        distances = closest_approach(field, traced, ~is_surface, tracing, self._cache, self._generator)
        return distances, is_surface

    def _uniform_points(self, count: int) -> Float[Tensor, "count 3"]:
        """Return points of the cube around the bounding sphere."""
        share = torch.rand(count, 3, generator=self._generator).to(self.device)
        return (2.0 * share - 1.0) * self.config.tracing.radius

    def _losses(
        self,
        batch: PixelBatch,
        distances: Float[Tensor, " rays"],
        is_surface: Bool[Tensor, " rays"],
        values: FieldValues,
    ) -> dict[str, Tensor]:
        """Return the colour, eikonal and mask losses of traced rays.

        Args:
            batch: The rays' pixels.
            distances: The traced distances.
            is_surface: Whether the ray meets the object.
            values: The field at the traced points, then at uniform ones.
        """
        num_rays = len(distances)
        sdf = values.sdf[:num_rays]
        origins, directions = batch.origins[is_surface], batch.directions[is_surface]
        t = differentiable_distance(
            distances[is_surface], sdf[is_surface], values.gradient[:num_rays][is_surface], directions
        )
        points = origins + t[:, None] * directions
        surface = self.sdf_network.evaluate(points)
        colors = self.radiance_network(points, -directions, surface.gradient, surface.feature)
        sharpness = self.config.loss.sharpness_at(self._progress)
        return {
            "rgb": PAPER_COLOR_RANGE * photometric_loss(colors, batch.colors[is_surface], num_rays),
            "eikonal": eikonal_loss(values.gradient),
            "mask": silhouette_loss(sdf, batch.is_object, is_surface, sharpness),
        }

    def _evaluate(self, points: Float[Tensor, "n 3"]) -> FieldValues:
        """Return the network's answer without gradients, a chunk at a time."""
        with torch.no_grad():
            parts = [self.sdf_network.evaluate(chunk) for chunk in points.split(GRADIENT_CHUNK)]
        return FieldValues(*(torch.cat(part) for part in zip(*parts, strict=True)))

    def _render(self, rays: Rays, cache: FieldCache | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return colours, opacities, depths and normals of rays."""
        traced = trace(self.sdf_network.sdf, rays, self.config.tracing, cache)
        hit = traced.hit
        points, views = rays.points(traced.distances)[hit], -rays.directions[hit]
        values = self._evaluate(points)
        rgb, normals = torch.zeros_like(rays.origins), torch.zeros_like(rays.origins)
        rgb[hit] = self.radiance_network(points, views, values.gradient, values.feature)
        normals[hit] = nn.functional.normalize(values.gradient, dim=-1)
        return rgb, hit.to(rgb), torch.where(hit, traced.distances, torch.nan), normals


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
