"""Runs on each of the published formats, from the files as they are published to the table of the held-out set."""

import dataclasses

import numpy as np
import pytest

from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.methods.pose_invariant.evaluation import evaluate
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.training import train
from tests.data.picture_files import write_lsm, write_pascal, write_vpl

SMALL = {
    "encoder": "conv",
    "encoder_widths": (4, 4, 4),
    "encoder_hidden": 8,
    "code_dim": 8,
    "decoder_hidden": (8,),
    "discriminator_hidden": (8,),
    "image_widths": (4, 4, 4, 4, 4),
}


def run_on(data, preset, out, **network):
    """Train two steps with the settings of a preset but small networks, and judge."""
    config = PRESETS[preset]
    config = dataclasses.replace(
        config,
        media_every=2,
        data=dataclasses.replace(config.data, image_size=64),
        network=dataclasses.replace(config.network, **{**SMALL, **network}),
        optim=dataclasses.replace(config.optim, batch_size=2, precision="fp32"),
        train=TrainConfig(steps=2, log_every=1),
    )
    run = train(config, data, out, Start(device="cpu", seed=0))
    assert all(np.isfinite(row["loss"]) for row in run.read_metrics() if "loss" in row)
    return evaluate(out, num_points=0)


def test_lsm_as_it_is_downloaded(tmp_path):
    write_lsm(tmp_path / "lsm", sets={"train": ["a", "b", "c"], "val": ["d"], "test": ["e", "f"]})
    result = run_on(tmp_path / "lsm", "lsm", tmp_path / "run")
    assert "kato32_padded" in result["protocol"]
    assert len(result["items"]) == 2


def test_packed_pictures_of_view_prior_learning_by_their_own_rule(tmp_path):
    for split in ("train", "val", "test"):
        write_vpl(tmp_path / "src", split=split, ids=(f"{split}a", f"{split}b"))
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="vpl"))
    result = run_on(tmp_path / "data", "vpl_shapenet", tmp_path / "run", class_conditional=False)
    assert "vpl32_padded" in result["protocol"]
    assert result["metrics"]["voxel_iou_32"] >= 0


@pytest.mark.parametrize("preset", ["pascal3d", "vpl_pascal"])
def test_photographs_of_pascal3d(tmp_path, preset):
    write_pascal(tmp_path / "src", count=5)
    write_pascal(tmp_path / "src", kind="imagenet", count=3, seed=1)
    write_pascal(tmp_path / "src", kind="val", count=3, seed=2)
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="pascal3d"))
    network = {"decoder": "symmetric", "decoder_hidden": (8,)}
    result = run_on(tmp_path / "data", preset, tmp_path / "run", **network)
    assert "vpl32_pascal3d_padded" in result["protocol"]
    assert len(result["items"]) == 3
    assert "silhouette_iou_input" in result["metrics"]
