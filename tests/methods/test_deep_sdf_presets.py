import dataclasses

import pytest
import torch

from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.schedule import Moment
from shapewright.methods.deep_sdf.config import DeepSdfConfig
from shapewright.methods.deep_sdf.method import DeepSdfMethod
from shapewright.methods.deep_sdf.presets import DEFAULT_PRESET, PRESETS
from tests.methods.test_deep_sdf_method import ball_store

# The first losses of the preset for processors on five balls, in single precision with one thread.
GOLDEN = [
    0.19556,
    0.23880,
    0.08718,
    0.06629,
    0.05092,
    0.03464,
    0.02976,
    0.02489,
    0.02737,
    0.02260,
    0.02115,
    0.02028,
    0.01631,
    0.01568,
    0.01516,
    0.01451,
    0.01249,
    0.01338,
    0.01228,
    0.01300,
]


def method_of(name, **changes):
    config = PRESETS[name]
    data = dataclasses.replace(config.data, samples_per_shape=512)
    optim = dataclasses.replace(config.optim, precision="fp32", **changes)
    config = dataclasses.replace(config, data=data, optim=optim)
    return DeepSdfMethod(config, ball_store(), 5, torch.device("cpu"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_a_step(name):
    method = method_of(name, batch_split=5)
    values = method.train_step(method.next_batch(Moment(0, 0.0)), Moment(0, 0.0))
    assert "skipped" not in values
    assert values["loss"] > 0


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_its_file(name):
    assert from_dict(DeepSdfConfig, to_dict(PRESETS[name])) == PRESETS[name]


def test_the_published_network_has_its_size():
    decoder = method_of("paper").decoder
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 1_843_195


def test_the_first_losses_are_those_agreed():
    torch.set_num_threads(1)
    method = method_of(DEFAULT_PRESET)
    steps = len(GOLDEN)
    losses = [
        method.train_step(method.next_batch(Moment(step, step / steps)), Moment(step, step / steps))["sdf_loss"]
        for step in range(steps)
    ]
    assert losses == pytest.approx(GOLDEN, rel=0.02)
