"""The surface method's model that is rendered and trained by tracing, as in the paper."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.parametrize import cached

from shapewright.data.scene import Scene
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.fields.config import EncodingConfig, RadianceConfig, SdfConfig, ViewEncodingConfig
from shapewright.fields.encodings import build_encoding, build_view_encoding
from shapewright.fields.radiance import RadianceNetwork
from shapewright.fields.sdf_network import FieldValues, SdfNetwork
from shapewright.geometry.cameras import Cameras
from shapewright.losses.eikonal import eikonal_loss
from shapewright.losses.photometric import photometric_loss
from shapewright.losses.silhouette import silhouette_loss
from shapewright.rendering.rendering import Rendering
from shapewright.rendering.sphere_tracing import (
    FieldCache,
    Rays,
    TracingConfig,
    closest_approach,
    differentiable_distance,
    trace,
)
from shapewright.rendering.traced_rays import CountedField

# The paper's colours span [-1, 1], ours [0, 1]: its loss of the same picture is twice ours.
PAPER_COLOR_RANGE = 2.0
RENDER_CHUNK = 16384


@dataclass(frozen=True, kw_only=True)
class TracingBatchConfig:
    """Say which pixels make a training step.

    Attributes:
        num_rays: Pixels of a step.
        from_one_image: Take them from one image a step, each image once a round, as in the paper.
        foreground_share: Share of them inside the masks; the others are uniform over all pixels.
    """

    num_rays: int = 4096
    from_one_image: bool = False
    foreground_share: float = 0.7


@dataclass(frozen=True, kw_only=True)
class TracingLossConfig:
    """Weigh the losses of traced rays (IDR, arXiv:2003.09852, eq. 8).

    Attributes:
        rgb: Weight of the colour loss.
        eikonal: Weight of the eikonal loss.
        mask: Weight of the mask loss.
        sharpness: ``alpha`` of the mask loss at the start.
        sharpness_doubles_at: Shares of the run after which ``alpha`` is doubled.
    """

    rgb: float = 1.0
    eikonal: float = 0.1
    mask: float = 100.0
    sharpness: float = 50.0
    sharpness_doubles_at: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625)

    def sharpness_at(self, progress: float) -> float:
        """Return ``alpha`` at some share of the run."""
        return self.sharpness * 2.0 ** sum(progress >= share for share in self.sharpness_doubles_at)


@dataclass(frozen=True, kw_only=True)
class TracingOptimConfig:
    """Set up Adam and its learning rates over the run.

    Attributes:
        networks: Learning rate of the networks.
        tables: Learning rate of the encoding's tables.
        betas: Decay of Adam's two averages.
        eps: Adam's denominator offset.
        warmup: Share of the run over which the rates rise from 0.
        halves_at: Shares of the run after which the rates are halved.
        decays_from: Share of the run from which the rates fall exponentially.
        decays_to: Factor they reach at the end.
    """

    networks: float = 2e-3
    tables: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.99)
    eps: float = 1e-15
    warmup: float = 0.01
    halves_at: tuple[float, ...] = ()
    decays_from: float = 0.4
    decays_to: float = 0.1

    def factor_at(self, progress: float) -> float:
        """Return what the rates are multiplied with at some share of the run."""
        factor = 0.5 ** sum(progress >= share for share in self.halves_at)
        if progress < self.warmup:
            factor *= max(progress / self.warmup, 0.01)
        if progress > self.decays_from:
            factor *= self.decays_to ** ((progress - self.decays_from) / (1.0 - self.decays_from))
        return factor


@dataclass(frozen=True, kw_only=True)
class TracingModelConfig:
    """Describe a model that is rendered by tracing, and its training."""

    encoding: EncodingConfig = field(default_factory=EncodingConfig)
    view_encoding: ViewEncodingConfig = field(default_factory=ViewEncodingConfig)
    sdf: SdfConfig = field(default_factory=SdfConfig)
    radiance: RadianceConfig = field(default_factory=RadianceConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    batch: TracingBatchConfig = field(default_factory=TracingBatchConfig)
    loss: TracingLossConfig = field(default_factory=TracingLossConfig)
    optim: TracingOptimConfig = field(default_factory=TracingOptimConfig)


IDR_PAPER = TracingModelConfig(
    encoding=EncodingConfig(kind="posenc", num_frequencies=6),
    view_encoding=ViewEncodingConfig(kind="posenc", num_frequencies=4),
    sdf=SdfConfig(width=512, num_layers=8, feature_size=256, skip_layer=4, start="geometric"),
    radiance=RadianceConfig(width=512, num_layers=4, output="tanh", normal="raw"),
    tracing=TracingConfig(tracer="exact"),
    batch=TracingBatchConfig(num_rays=2048, from_one_image=True, foreground_share=0.0),
    optim=TracingOptimConfig(
        networks=1e-4, tables=1e-4, betas=(0.9, 0.999), eps=1e-8, warmup=0.0, halves_at=(0.5, 0.75), decays_from=1.0
    ),
)
HASH = TracingModelConfig(tracing=TracingConfig(cache_resolution=128))


@dataclass(frozen=True)
class PixelBatch:
    """Hold the pixels of one step: their rays, colours in [0, 1], and whether they show the object."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    colors: Float[Tensor, "rays 3"]
    is_object: Bool[Tensor, " rays"]


class TrainingPixels:
    """Keep the training pictures as bytes, and draw pixels from them.

    Args:
        scene: The scene, with masks.
        config: Which pixels make a step.
        device: Where the pictures are kept.
        generator: Draws the pixels; lives on the CPU.

    Raises:
        UserError: if a training picture has no mask, or no mask holds a pixel.
    """

    def __init__(
        self, scene: Scene, config: TracingBatchConfig, device: torch.device, generator: torch.Generator
    ) -> None:
        if not scene.has_masks:
            raise UserError(
                f"The scene {scene.path} has no masks, and tracing cannot be trained without them.",
                "Add a mask for each picture, or choose a preset that renders volumes.",
            )
        self._config = config
        self._generator = generator
        pictures = [scene.picture(view) for view in scene.train]
        colors = [torch.from_numpy(picture.rgb).reshape(-1, 3) for picture in pictures]
        masks = [torch.from_numpy(scene.mask(view)).reshape(-1) for view in scene.train]
        self._colors = torch.cat(colors).to(device)
        self._is_object = torch.cat(masks).to(device)
        self._object_pixels = torch.cat(masks).nonzero().squeeze(-1)
        self._ends = torch.tensor([len(mask) for mask in masks]).cumsum(0)
        self._cameras = scene.cameras[list(scene.train)].to(device=device, dtype=torch.float32)
        self._round: Int[Tensor, " left"] = torch.empty(0, dtype=torch.int64)
        if not len(self._object_pixels):
            raise UserError(f"All masks of {scene.path} are empty.", "Check that the object is white in the masks.")

    def draw(self) -> PixelBatch:
        """Return the pixels of the next step."""
        if self._config.from_one_image:
            image = self._next_image()
            start = int(self._ends[image - 1]) if image else 0
            pixels = self._integers(self._config.num_rays, int(self._ends[image]) - start) + start
        else:
            num_inside = round(self._config.foreground_share * self._config.num_rays)
            inside = self._object_pixels[self._integers(num_inside, len(self._object_pixels))]
            anywhere = self._integers(self._config.num_rays - num_inside, int(self._ends[-1]))
            pixels = torch.cat([inside, anywhere])
        return self._batch(pixels)

    def state(self) -> Int[Tensor, " left"]:
        """Return the images that are left in this round."""
        return self._round

    def load_state(self, left: Int[Tensor, " left"]) -> None:
        """Go on with the images that are left in a round."""
        self._round = left

    def _next_image(self) -> int:
        if not len(self._round):
            self._round = torch.randperm(len(self._ends), generator=self._generator)
        image, self._round = int(self._round[0]), self._round[1:]
        return image

    def _integers(self, count: int, below: int) -> Int[Tensor, " count"]:
        return torch.randint(below, (count,), generator=self._generator)

    def _batch(self, pixels: Int[Tensor, " n"]) -> PixelBatch:
        """Return the pixels with the given numbers, counted through all pictures."""
        images = torch.searchsorted(self._ends, pixels, right=True)
        offsets = pixels - torch.where(images > 0, self._ends[images - 1], 0)
        device = self._colors.device
        images, offsets, pixels = images.to(device), offsets.to(device), pixels.to(device)
        widths = self._cameras.sizes[images, 0]
        uv = torch.stack([offsets % widths, offsets // widths], dim=-1) + 0.5
        origins, directions = self._cameras.rays(images, uv)
        return PixelBatch(origins, directions, self._colors[pixels] / 255.0, self._is_object[pixels])


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
        self._optimizer = self._build_optimizer()
        self._cache = None
        if config.tracing.tracer == "fast":
            self._cache = FieldCache(config.tracing.cache_resolution, config.tracing.radius, device)
        self._progress = 0.0
        self._is_cache_fresh = False
        self._pixels = None if scene is None else TrainingPixels(scene, config.batch, device, self._generator)

    def next_batch(self, moment: Moment) -> PixelBatch:
        """Return the pixels of the next step.

        Raises:
            ValueError: if the model was made without a scene.
        """
        if self._pixels is None:
            raise ValueError(f"step {moment.step} needs a scene, but the model was made without one.")
        return self._pixels.draw()
