"""Ready settings of ``surface``."""

from __future__ import annotations

from shapewright.engine.schedule import TrainConfig
from shapewright.methods.surface.config import MeshConfig, SurfaceConfig
from shapewright.methods.surface.tracing_config import HASH, IDR_PAPER

DEFAULT_PRESET = "cpu-fast"

PRESETS: dict[str, SurfaceConfig] = {
    # A laptop: volume rendering of a small field, minutes.
    "cpu-fast": SurfaceConfig(),
    # The published system (arXiv:2003.09852): 2000 epochs, one image a step; 98,000 steps are those of 49 images.
    "idr-paper": SurfaceConfig(
        renderer="tracing",
        tracing=IDR_PAPER,
        mesh=MeshConfig(resolution=512),
        train=TrainConfig(steps=98_000, checkpoint_every_seconds=600.0),
    ),
    # The paper's renderer over a hash grid, with the fast tracer.
    "hash": SurfaceConfig(
        renderer="tracing", tracing=HASH, mesh=MeshConfig(resolution=512), train=TrainConfig(steps=20_000)
    ),
}
