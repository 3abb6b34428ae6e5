"""Runs on each of the published formats, from the files as they are published to the table of the held-out set."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation

from shapewright.cli.main import main
from shapewright.data.picture_folders import open_pictures
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.io.meshes import read_mesh
from shapewright.methods.pose_invariant import evaluation, gallery
from shapewright.methods.pose_invariant.evaluation import evaluate
from shapewright.methods.pose_invariant.judging import predict
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import prepare_method, train
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


def test_photographs_are_painted_with_the_colours_of_what_is_to_be_learned(tmp_path):
    pictures = write_pascal(tmp_path / "src", count=5)["images_ref"]
    pictures[..., :3] = (200, 100, 50)
    write_pascal(tmp_path / "src", count=5, images_ref=pictures)
    write_pascal(tmp_path / "src", kind="val", count=3, seed=2)
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="pascal3d"))
    small = {"decoder": "patches_fc", "texture": True}
    run_on(tmp_path / "data", "vpl_pascal", tmp_path / "run", **small)
    opened = TrainedRun.open(tmp_path / "run")
    rows = [row for row in opened.run.read_metrics() if "colour" in row]
    assert all(0 < row["colour"] < opened.config.loss.colour_weight for row in rows)
    source = prepare_method(opened.config, opened.pictures("train"), tmp_path / "data", torch.device("cpu"), 0).source
    batch = source.batch(0)
    expected = batch.masks[:, None] * torch.tensor([200.0, 100.0, 50.0])[:, None, None] / 255
    assert torch.allclose(batch.colours, expected, atol=0.02)
    for path in (tmp_path / "data").glob("*_colours.npy"):
        path.unlink()
    with pytest.raises(UserError, match="_colours"):
        prepare_method(opened.config, opened.pictures("train"), tmp_path / "data", torch.device("cpu"), 0)


@pytest.fixture
def judged(monkeypatch):
    """Return the sets of pictures whose codes are judged, in turn."""
    seen = []
    plain = evaluation.judge_codes
    monkeypatch.setattr(
        evaluation, "judge_codes", lambda pictures, found: seen.append(pictures) or plain(pictures, found)
    )
    return seen


def write_turned(folder, train, val):
    """Prepare photographs of objects turned about y."""
    for kind, degrees in (("train", train), ("val", val)):
        turns = Rotation.from_euler("y", np.array(degrees)[:, None], degrees=True).as_matrix()
        write_pascal(folder / "src", kind=kind, count=len(degrees), rotation_matrices=turns)
    prepare_pictures(PrepareJob(source=folder / "src", out=folder / "data", source_format="pascal3d", size=64))
    return folder / "data"


def test_photographs_of_another_folder_are_in_the_bins_of_the_run(tmp_path, judged):
    data = write_turned(tmp_path / "own", train=[10, 55, 100, 145], val=[100, -35])
    other = write_turned(tmp_path / "other", train=[-35, 100, 145], val=[145, 10, -80])
    run_on(data, "pascal3d", tmp_path / "run", decoder="symmetric")
    assert judged.pop().pose_bins.ravel().tolist() == [2, -1]
    stored = json.loads((tmp_path / "run" / "run.json").read_text())["bin_table"]["euler_bins"]
    assert stored == [292, 356, 420, 484]
    config = TrainedRun.open(tmp_path / "run", device="cpu").config
    assert open_pictures(other, "val", config.data).pose_bins.ravel().tolist() == [2, -1, -1]
    evaluate(tmp_path / "run", num_points=0, data=other)
    pictures = judged.pop()
    assert pictures.pose_bins.ravel().tolist() == [3, 0, -1]
    assert pictures.num_bins == 4


def test_random_views_of_another_folder_are_in_the_bins_of_the_run(tmp_path, judged):
    sets = {"train": ["a", "b", "c"], "test": ["e", "f"]}
    write_lsm(tmp_path / "lsm", sets=sets)
    run_on(tmp_path / "lsm", "lsm", tmp_path / "run")
    own = judged.pop()
    prepare_pictures(PrepareJob(source=tmp_path / "lsm", out=tmp_path / "other", source_format="lsm"))
    facts = json.loads((tmp_path / "other" / "dataset.json").read_text())
    facts["pose_bins"]["02958343"]["elevations_deg"] = [-90.0, 90.0]  # as pictures from a whole sphere have them
    (tmp_path / "other" / "dataset.json").write_text(json.dumps(facts))
    config = TrainedRun.open(tmp_path / "run", device="cpu").config
    assert open_pictures(tmp_path / "other", "test", config.data).num_bins == 216
    evaluate(tmp_path / "run", num_points=0, data=tmp_path / "other")
    pictures = judged.pop()
    assert pictures.num_bins == own.num_bins == 72
    assert torch.equal(pictures.pose_bins, own.pose_bins)


def test_a_run_from_before_tables_were_kept_takes_the_bins_of_the_folder(tmp_path, judged):
    data = write_turned(tmp_path / "own", train=[10, 55], val=[55])
    run_on(data, "pascal3d", tmp_path / "run", decoder="symmetric")
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    del facts["bin_table"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    evaluate(tmp_path / "run", num_points=0)
    assert [pictures.pose_bins.tolist() for pictures in judged] == [[[1]], [[1]]]


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
