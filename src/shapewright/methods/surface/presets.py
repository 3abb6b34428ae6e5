"""Ready settings of ``surface``."""

from __future__ import annotations

import dataclasses

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

_SHORT_MINUTES = 4.0


def fit_to_minutes(config: SurfaceConfig, minutes: float) -> SurfaceConfig:
    """Return settings for a run of a few minutes: what a short run cannot use is left out.

    Below four minutes the volume renderer takes fewer levels and a smaller hash table, whose updates are most of a
    step's memory traffic, learns faster (long runs generalise better when they learn slowly), is sharp earlier but less
    so at the end, and draws a coarser mesh. Settings that somebody changed stay as they are.
    """
    if config.renderer != "volume" or minutes >= _SHORT_MINUTES or config.volume != SurfaceConfig().volume:
        return config
    default = config.volume
    volume = dataclasses.replace(
        default,
        grid=dataclasses.replace(
            default.grid, log2_table_size=17, num_levels=8, max_resolution=256, start_levels=5, all_levels_by=0.2
        ),
        sampling=dataclasses.replace(
            default.sampling,
            step_widths=2.5,
            least_step=0.004,
            sharpness_start=100.0,
            sharpness_end=500.0,
            sharpest_by=0.6,
        ),
        loss=dataclasses.replace(default.loss, charbonnier=0.01),
        optim=dataclasses.replace(default.optim, table_rate=2e-2, network_rate=6e-3),
    )
    mesh = dataclasses.replace(config.mesh, resolution=min(config.mesh.resolution, 256))
    return dataclasses.replace(config, volume=volume, mesh=mesh)
