"""Ready settings of ``deep_sdf``."""

from __future__ import annotations

from shapewright.engine.schedule import TrainConfig
from shapewright.methods.deep_sdf.config import (
    CodeConfig,
    DataConfig,
    DecoderConfig,
    DeepSdfConfig,
    OptimConfig,
    RateConfig,
)
from shapewright.methods.deep_sdf.specs import paper_config

DEFAULT_PRESET = "cpu"

# The code shifts every layer, which costs nothing a point and fits unseen shapes twice as well as one entrance more.
_CPU_NETWORK = DecoderConfig(
    code_length=256,
    widths=(128,) * 6,
    latent_in=(1, 2, 3, 4, 5),
    keep_width=True,
    encoding="fourier",
    octaves=4,
)
_CPU_OPTIM = OptimConfig(decoder_rate=RateConfig(initial=2e-3), code_rate=RateConfig(initial=5e-3), row_wise=True)

PRESETS: dict[str, DeepSdfConfig] = {
    # A laptop: a few shapes in minutes.
    "cpu": DeepSdfConfig(
        network=_CPU_NETWORK, codes=CodeConfig(init_std=0.01), optim=_CPU_OPTIM, train=TrainConfig(steps=2500)
    ),
    # A laptop: a category of fifty or more shapes with deformed variants, a quarter of an hour.
    "cpu-class": DeepSdfConfig(
        network=_CPU_NETWORK,
        codes=CodeConfig(init_std=0.01),
        optim=_CPU_OPTIM,
        data=DataConfig(samples_per_shape=512, shapes_per_batch=16),
        train=TrainConfig(steps=6000),
    ),
    # The published system (arXiv:1901.05103), with Curriculum DeepSDF's loss (arXiv:2003.08593) as an option.
    "paper": paper_config(),
}
