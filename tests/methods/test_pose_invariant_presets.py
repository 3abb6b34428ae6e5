"""The published sizes stay reachable: every preset has its networks' parameters and makes a step."""

import dataclasses

import pytest
import torch

from shapewright.data.picture_folders import open_pictures
from shapewright.engine.schedule import Moment
from shapewright.methods.pose_invariant.adversaries import adversary_of
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.methods.pose_invariant.model import PictureKind, Reconstructor
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.training import prepare_method
from tests.methods.picture_family import write_ellipsoids

# Size, bins, classes and field of view of the data of each preset; then parameters: encoder, decoder, discriminator.
THIRTEEN = tuple(f"class{k:02d}" for k in range(13))
PUBLISHED = {
    "kato": ((64, 24, ("car",), 15.0), (19_383_488, 6_570_886, 167_320)),
    "lsm": ((64, 72, ("car",), 14.93), (19_383_488, 6_570_886, 173_512)),
    "pascal3d": ((224, 40, ("car",), None), (11_176_512, 4_630_483, 169_384)),
    "vpl_shapenet": ((224, 72, THIRTEEN, 14.93), (24_020_288, 15_607_146, 2_776_193)),
    "vpl_multi_view": ((224, 24, THIRTEEN, 14.93), (24_020_288, 15_607_146, 2_776_193)),
    "vpl_pascal": ((224, 40, ("car",), None), (11_176_512, 35_504_048, 2_894_401)),
    "nmr": ((64, 24, ("car",), 15.0), (19_383_488, 6_577_033, 0)),
}

# The first losses of the preset for processors on six ellipsoids, in single precision with one thread.
GOLDEN = [
    7.14123,
    0.80601,
    7.04993,
    0.79306,
    7.07764,
    0.79635,
    7.07075,
    0.78566,
    7.02914,
    0.79123,
    7.07426,
    0.78762,
    7.02371,
    0.75914,
    7.03626,
    0.73366,
    7.07190,
    0.71682,
    6.99230,
    0.73420,
]


def count(module):
    return sum(parameter.numel() for parameter in module.parameters()) if isinstance(module, torch.nn.Module) else 0


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_number_of_parameters(name):
    (size, bins, classes, half_angle), expected = PUBLISHED[name]
    kind = PictureKind(size=size, num_bins=bins, classes=classes, half_angle_deg=half_angle)
    model = Reconstructor(PRESETS[name].network, size, len(classes))
    found = count(model.encoder), count(model.decoder), count(adversary_of(PRESETS[name], kind))
    assert found == expected


def test_every_published_preset_is_tested_here():
    assert set(PUBLISHED) | {"cpu", "cpu_cycle", "cpu_view_prior"} == set(PRESETS)


@pytest.fixture(scope="module")
def eggs(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("eggs") / "data", sizes={"train": 3})


def test_losses_are_those_of_the_last_release(tmp_path):
    preset = PRESETS["cpu_cycle"]
    optim = dataclasses.replace(preset.optim, batch_size=6, precision="fp32")
    config = dataclasses.replace(preset, optim=optim, loss=dataclasses.replace(preset.loss, code_prior_weight=0.01))
    data = write_ellipsoids(tmp_path / "data", sizes={"train": 6})
    method = prepare_method(config, open_pictures(data, "train", config.data), data, torch.device("cpu"), 0)
    moments = [Moment(step, step / 3000) for step in range(len(GOLDEN))]
    losses = [float(method.train_step(method.next_batch(moment), moment)["loss"]) for moment in moments]
    assert losses == pytest.approx(GOLDEN, rel=0.02)


@pytest.mark.parametrize("name", PRESETS)
def test_a_full_size_preset_makes_a_step(name, eggs):
    preset = PRESETS[name]
    data = dataclasses.replace(preset.data, views="random")
    pictures = open_pictures(eggs, "train", data)
    if PUBLISHED.get(name, ((0, 0, 0, 1.0),))[0][3] is None:
        views = dataclasses.replace(pictures.views, half_angle_deg=None)
        pictures = dataclasses.replace(pictures, views=views)
    augment = "none" if preset.augment == "moving_crops" else preset.augment
    small = dataclasses.replace(
        preset, data=data, augment=augment, optim=dataclasses.replace(preset.optim, batch_size=2)
    )
    method = prepare_method(small, pictures, eggs, torch.device("cpu"), 0)
    assert isinstance(method, PoseInvariantMethod)
    values = method.train_step(method.next_batch(Moment(0, 0.0)), Moment(0, 0.0))
    assert "skipped" not in values
    assert values["loss"] == pytest.approx(values["loss"])
    assert values["silhouette_loss"] > 0
