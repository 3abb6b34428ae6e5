"""Runs on each of the published formats, from the files as they are published to the table of the held-out set."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.cli.main import main
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.io.meshes import read_mesh
from shapewright.methods.pose_invariant import gallery
from shapewright.methods.pose_invariant.evaluation import evaluate
from shapewright.methods.pose_invariant.judging import predict
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import train
from tests.data.picture_files import write_kato, write_lsm, write_pascal, write_vpl

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


def write_photo(folder):
    """Write a picture of a blue box, with transparency."""
    pixels = np.zeros((90, 120, 4), np.uint8)
    pixels[20:70, 30:100] = (50, 100, 200, 255)
    Image.fromarray(pixels).save(folder / "photo.png")
    return str(folder / "photo.png")


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


@pytest.mark.parametrize("preset", ["pascal3d", "kato"])
def test_a_file_and_a_picture_of_the_data_meet_where_colours_alone_are_seen(tmp_path, preset):
    if preset == "pascal3d":
        write_pascal(tmp_path / "src", count=3)
        job = PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="pascal3d", size=64)
        prepare_pictures(job)
    else:
        write_kato(tmp_path / "data")
    run_on(tmp_path / "data", preset, tmp_path / "run", channels=3)
    opened = TrainedRun.open(tmp_path / "run", device="cpu")
    names = (write_photo(tmp_path), f"{opened.pictures('train').ids[0]}:0")
    assert all(path.is_file() for path in gallery.interpolate(opened, names, tmp_path / "way", steps=2))


def test_the_way_between_pictures_is_decoded_as_their_category(tmp_path):
    for name in ("car", "chair"):
        write_kato(tmp_path / "data", name)
    objects = {name: {"train": [f"{name}{number}" for number in range(3)]} for name in ("car", "chair")}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"objects": objects}))
    run_on(tmp_path / "data", "kato", tmp_path / "run", class_conditional=True)
    opened, photo, way = TrainedRun.open(tmp_path / "run", device="cpu"), write_photo(tmp_path), tmp_path / "way"
    pictures = opened.pictures("train")
    gallery.interpolate(opened, ("chair0:0", "chair1:5"), way, steps=2)
    expected = predict(opened.method, pictures).mesh(pictures.ids.index("chair1"), 5)
    assert torch.allclose(read_mesh(way / "step_001.glb").vertices, expected.vertices, atol=1e-5)
    gallery.interpolate(opened, (photo, "chair1:5"), way, steps=2, category="chair")
    assert torch.allclose(read_mesh(way / "step_001.glb").vertices, expected.vertices, atol=1e-5)
    for names, category, message in [
        (("car0:0", "chair0:0"), None, "two categories, car and chair"),
        ((photo, "chair0:0"), "car", "two categories, car and chair"),
        ((photo, "chair0:0"), None, "learned 2 categories"),
        ((photo, photo), "dog", "not learned 'dog'"),
    ]:
        with pytest.raises(UserError, match=message):
            gallery.interpolate(opened, names, tmp_path / "no", category=category)
    words = ["interpolate", str(tmp_path / "run"), photo, photo, "--out", str(tmp_path / "no"), "--category", "dog"]
    assert main(words) == 2
    assert not (tmp_path / "no").exists()
