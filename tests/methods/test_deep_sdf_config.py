"""Settings of ``deep_sdf``: what is impossible is refused where it is said."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from shapewright.engine.config import from_dict, to_dict
from shapewright.errors import UserError
from shapewright.methods.deep_sdf.config import (
    CodeConfig,
    DataConfig,
    DecoderConfig,
    DeepSdfConfig,
    FitConfig,
    LossConfig,
    MeshConfig,
    OptimConfig,
    RateConfig,
)
from shapewright.methods.deep_sdf.model import Decoder
from shapewright.methods.deep_sdf.presets import DEFAULT_PRESET, PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_build_their_decoder(name):
    config = PRESETS[name]
    assert from_dict(DeepSdfConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert Decoder(config.network).num_layers == len(config.network.widths) + 1


def test_the_default_is_for_a_laptop_and_the_paper_is_published():
    assert not PRESETS[DEFAULT_PRESET].network.dropout_layers
    assert PRESETS[DEFAULT_PRESET].optim.precision == "auto"
    assert sum(parameter.numel() for parameter in Decoder(PRESETS["paper"].network).parameters()) == 1_843_195


@pytest.mark.parametrize(
    ("cls", "values", "message"),
    [
        (DecoderConfig, {"code_length": -1}, "code_length"),
        (DecoderConfig, {"widths": ()}, "at least one hidden layer"),
        (DecoderConfig, {"widths": (8, 0)}, "a width"),
        (DecoderConfig, {"latent_in": (0,)}, r"a layer of latent_in must lie in \[1, 6\]"),
        (DecoderConfig, {"latent_in": (7,)}, r"a layer of latent_in must lie in \[1, 6\]"),
        (DecoderConfig, {"norm_layers": (-1,)}, "a layer of norm_layers"),
        (DecoderConfig, {"dropout_layers": (9,)}, "a layer of dropout_layers"),
        (DecoderConfig, {"dropout": 1.5}, "dropout must lie in"),
        (DecoderConfig, {"octaves": 0}, "octaves"),
        (RateConfig, {"initial": -1.0}, "initial"),
        (RateConfig, {"final": math.nan}, "final"),
        (RateConfig, {"interval": 0}, "interval"),
        (RateConfig, {"length": 0}, "length"),
        (CodeConfig, {"bound": 0.0}, "bound must be positive"),
        (CodeConfig, {"init_std": -1.0}, "init_std"),
        (CodeConfig, {"penalty": -1.0}, "penalty"),
        (LossConfig, {"clamp": 0.0}, "clamp must be positive"),
        (LossConfig, {"target_only_share": 2.0}, "target_only_share"),
        (OptimConfig, {"batch_split": 0}, "batch_split"),
        (OptimConfig, {"gradient_clip": 0.0}, "gradient_clip must be positive"),
        (DataConfig, {"samples_per_shape": 1}, "samples_per_shape"),
        (DataConfig, {"shapes_per_batch": 0}, "shapes_per_batch"),
        (DataConfig, {"test_share": 1.0}, "test_share"),
        (FitConfig, {"iterations": 0}, "iterations"),
        (FitConfig, {"starts": 0}, "starts"),
        (MeshConfig, {"resolution": 1}, "resolution"),
        (MeshConfig, {"lipschitz": 0.0}, "lipschitz must be positive"),
        (DeepSdfConfig, {"num_epochs": 0}, "num_epochs"),
        (DeepSdfConfig, {"keep_every": 0}, "keep_every"),
    ],
)
def test_impossible_values_are_refused_by_name(cls, values, message):
    with pytest.raises(ValueError, match=message):
        cls(**values)
    with pytest.raises(UserError, match=message):
        from_dict(cls, values)


def test_the_last_layer_may_be_joined_and_normalised():
    config = DecoderConfig(code_length=2, widths=(12, 12), latent_in=(2,), norm_layers=(2,), weight_norm=True)
    assert Decoder(config).get_submodule("lin2").weight_v.shape == (1, 12)


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        DeepSdfConfig().num_epochs = 3
