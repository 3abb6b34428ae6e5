"""Options of the tracing renderer of ``surface``, and the two presets that use it."""

from __future__ import annotations

from dataclasses import dataclass, field

from shapewright.fields.config import EncodingConfig, RadianceConfig, SdfConfig, ViewEncodingConfig
from shapewright.rendering.traced_rays import TracingConfig


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
