"""All settings of ``surface``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shapewright.data.scene import Normalise
from shapewright.engine.schedule import TrainConfig
from shapewright.methods.surface.tracing_config import TracingModelConfig
from shapewright.methods.surface.volume_config import VolumeConfig


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """Describe the mesh that a run ends with.

    Attributes:
        resolution: Lattice points along the longest side of the object's box.
        components: Keep the largest connected part, or all.
        hull_cull: Remove what lies outside the silhouettes.
        units: World coordinates of the cameras, or the normalised ones of training.
    """

    resolution: int = 320
    components: Literal["largest", "all"] = "largest"
    hull_cull: bool = True
    units: Literal["world", "normalised"] = "world"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Describe how the pictures are read.

    Attributes:
        holdout_every: Every so many pictures one is kept for evaluation; 0: none. Formats with their own split keep it.
        cameras_file: Name of the cameras file inside the scene; none: the format's usual one.
        normalise: Take scale and centre from the file, the masks, the cloud of points, the point all cameras look at,
            or their mean; ``auto``: the first of these that the scene has. ``--normalise`` is short for it.
    """

    holdout_every: int = 8
    cameras_file: str | None = None
    normalise: Normalise = "auto"


@dataclass(frozen=True, kw_only=True)
class SurfaceConfig:
    """Gather the settings of a run.

    Attributes:
        renderer: ``volume`` (NeuS weights, fast on CPUs) or ``tracing`` (IDR).
        data: Reading the pictures.
        volume: The field and its training, with ``renderer = volume``.
        tracing: The networks and their training, with ``renderer = tracing``.
        mesh: The mesh at the end.
        train: Length and cadence.
    """

    renderer: Literal["volume", "tracing"] = "volume"
    data: DataConfig = field(default_factory=DataConfig)
    volume: VolumeConfig = field(default_factory=VolumeConfig)
    tracing: TracingModelConfig = field(default_factory=TracingModelConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(minutes=9.5))
