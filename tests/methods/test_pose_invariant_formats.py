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
from shapewright.geometry.cube_sphere import cube_sphere
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mirror_pairs import mirror_partners
from shapewright.io.meshes import read_mesh
from shapewright.methods.pose_invariant import evaluation, gallery
from shapewright.methods.pose_invariant.evaluation import evaluate
from shapewright.methods.pose_invariant.judging import predict
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.reconstruction import reconstruct
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


def prepared_photographs(folder, **changes):
    """Prepare photographs; return their folder."""
    write_pascal(folder / "src", **changes)
    prepare_pictures(PrepareJob(source=folder / "src", out=folder / "data", source_format="pascal3d", size=64))
    return folder / "data"


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
    result = run_on(tmp_path / "data", "vpl_shapenet", tmp_path / "run", class_conditional="none")
    assert "vpl32_padded" in result["protocol"]
    assert result["metrics"]["voxel_iou_32"] >= 0


@pytest.mark.parametrize("preset", ["pascal3d", "vpl_pascal"])
def test_photographs_of_pascal3d(tmp_path, preset):
    write_pascal(tmp_path / "src", count=5)
    write_pascal(tmp_path / "src", kind="imagenet", count=3, seed=1)
    write_pascal(tmp_path / "src", kind="val", count=3, seed=2)
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=tmp_path / "data", source_format="pascal3d"))
    network = {"symmetric": True, "decoder_hidden": (8,)}
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
    run_on(data, "pascal3d", tmp_path / "run", symmetric=True)
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
    run_on(data, "pascal3d", tmp_path / "run", symmetric=True)
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


def test_a_photograph_is_cut_as_those_of_the_data(tmp_path):
    boxes = np.tile([20.0, 15.0, 25.0, 30.0], (3, 1))
    boxes[2] = 2, 3, 40, 50  # the margin reaches beyond the photograph
    noise = np.random.default_rng(0).integers(0, 255, (3, 80, 70, 3), dtype=np.uint8)
    data = prepared_photographs(tmp_path, count=3, images=noise, bounding_boxes=boxes)
    run_on(data, "pascal3d", tmp_path / "run")
    opened = TrainedRun.open(tmp_path / "run", device="cpu")
    pictures = opened.pictures("train")
    for number, (left, top, width, height) in enumerate(boxes.astype(int).tolist()):
        mask = np.zeros((80, 70), np.uint8)
        mask[top : top + height, left : left + width] = 255
        Image.fromarray(noise[number]).save(tmp_path / "photo.png")
        Image.fromarray(mask).save(tmp_path / "mask.png")
        given, framed = opened.read_picture(tmp_path / "photo.png", tmp_path / "mask.png")
        assert np.array_equal((255 * given).round().byte().numpy(), pictures.images[number, 0])
        assert framed.shape == (4, 64, 64)
    reconstruct(opened, tmp_path / "photo.png", tmp_path / "out", tmp_path / "mask.png")
    shown = np.asarray(Image.open(tmp_path / "out" / "input.png"))
    assert np.array_equal(shown, pictures.images[2, 0].transpose(1, 2, 0))
    with torch.no_grad():
        code = opened.method.judged.encode(pictures.pictures(torch.tensor([2]), torch.tensor([0])))
    expected = gallery.decoded(opened, code)[0].vertices
    assert torch.allclose(read_mesh(tmp_path / "out" / "mesh.obj").vertices, expected, atol=1e-4)
    Image.fromarray(noise[0, :64, :64]).save(tmp_path / "photo.png")
    Image.fromarray(mask[:64, :64]).save(tmp_path / "mask.png")
    given, _ = opened.read_picture(tmp_path / "photo.png", tmp_path / "mask.png", framing=False)
    assert np.array_equal((255 * given).round().byte().permute(1, 2, 0).numpy(), noise[0, :64, :64])


def test_photographs_have_a_probe_but_no_entanglement(tmp_path):
    data = write_turned(tmp_path, train=[10, 10, 55, 55], val=[10, 10, 55])
    metrics = run_on(data, "pascal3d", tmp_path / "run")["metrics"]
    assert {"pose_probe", "pose_probe_chance", "shape_variance_between_objects"} <= set(metrics)
    assert not {"entanglement", "shape_variance_over_views", "mmd"} & set(metrics)


def test_one_object_with_its_own_cameras_has_no_novel_sides(tmp_path):
    write_lsm(tmp_path / "lsm", sets={"train": ["a", "b", "c"], "val": ["d"], "test": ["e"]})
    result = run_on(tmp_path / "lsm", "lsm", tmp_path / "run")
    names = set(result["metrics"])
    assert "silhouette_iou_input" in names
    assert not any(name.endswith("deg") or name.startswith(("mmd", "code_share")) for name in names)
    assert "cannot see entanglement" in (tmp_path / "run" / "log.txt").read_text()


def test_only_the_discriminator_is_told_the_category_of_published_pictures(tmp_path):
    for name in ("car", "chair"):
        write_kato(tmp_path / "data", name)
    parameters = {}
    for mode in ("none", "discriminator", "both"):
        run_on(tmp_path / "data", "kato", tmp_path / mode, class_conditional=mode)
        method = TrainedRun.open(tmp_path / mode, device="cpu").method
        parameters[mode] = [
            sum(p.numel() for p in method.modules[n].parameters()) for n in ("decoder", "discriminator")
        ]
    (plain, guess), (same, told), both = parameters["none"], parameters["discriminator"], parameters["both"]
    assert same == plain
    assert told == guess + 2 * 8
    assert both == [plain + 2 * 8, told]


def test_a_decoder_that_is_told_the_category_judges_none_that_it_has_not_learned(tmp_path):
    for name, split in (("car", "train"), ("chair", "train"), ("car", "test"), ("dog", "test")):
        write_kato(tmp_path / ("data" if split == "train" else "other"), name, split)
    for mode in ("both", "none"):
        run_on(tmp_path / "data", "kato", tmp_path / mode, class_conditional=mode)
    with pytest.raises(UserError, match=r"has dog, which .* has not learned; its decoder is told the category"):
        evaluate(tmp_path / "both", num_points=0, data=tmp_path / "other")
    assert evaluate(tmp_path / "none", num_points=0, data=tmp_path / "other")


@pytest.mark.parametrize("decoder", ["mesh", "bounded", "patches", "patches_fc"])
def test_every_decoder_can_be_symmetric(tmp_path, decoder):
    write_kato(tmp_path / "data")
    run_on(tmp_path / "data", "kato", tmp_path / "run", decoder=decoder, symmetric=True)
    opened = TrainedRun.open(tmp_path / "run", device="cpu")
    mesh = gallery.decoded(opened, torch.randn(1, 8))[0]
    template = icosphere() if decoder in ("mesh", "bounded") else cube_sphere()
    mirrored = mesh.vertices[mirror_partners(template.vertices)] * torch.tensor([1.0, 1.0, -1.0])
    assert torch.allclose(mesh.vertices, mirrored, atol=1e-5)


def test_the_way_between_pictures_is_decoded_as_their_category(tmp_path):
    for name in ("car", "chair"):
        write_kato(tmp_path / "data", name)
    objects = {name: {"train": [f"{name}{number}" for number in range(3)]} for name in ("car", "chair")}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps({"objects": objects}))
    run_on(tmp_path / "data", "kato", tmp_path / "run", class_conditional="both")
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
