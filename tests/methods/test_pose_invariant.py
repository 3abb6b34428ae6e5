"""Single-view reconstruction in a run folder: every mode learns, resumes, is judged and exported."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.schedule import Moment, TrainConfig
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.io.meshes import read_mesh
from shapewright.methods.pose_invariant import gallery
from shapewright.methods.pose_invariant.config import (
    AdversaryConfig,
    OptimConfig,
    PoseInvariantConfig,
    RenderConfig,
)
from shapewright.methods.pose_invariant.evaluation import evaluate, metrics_text
from shapewright.methods.pose_invariant.judging import back_share, predict, shape_rows
from shapewright.methods.pose_invariant.method import learning_rate
from shapewright.methods.pose_invariant.model import Reconstructor
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import prepare_method, resume, train
from shapewright.rendering.projections import project_perspective
from tests.methods.picture_family import SMALL, write_ellipsoids

START = Start(device="cpu", seed=1)
decode = Reconstructor.decode


def small(mode="pose_invariant", steps=2, adversary=None, batch_size=4):
    return PoseInvariantConfig(
        mode=mode,
        media_every=steps,
        network=SMALL,
        adversary=adversary or AdversaryConfig(weight=0.1, codes="standardised"),
        optim=OptimConfig(batch_size=batch_size, lr=1e-3, precision="fp32"),
        train=TrainConfig(steps=steps, log_every=1),
    )


@pytest.fixture(scope="module")
def eggs(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("eggs") / "data")


@pytest.fixture(scope="module")
def trained(eggs, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    train(small(steps=4), eggs, out, START)
    return out


ADVERSARIES = {
    "log_l2": ("pose_invariant", AdversaryConfig()),
    "cross_entropy": ("pose_invariant", AdversaryConfig(kind="cross_entropy")),
    "calibrated": ("pose_invariant", AdversaryConfig(calibrated=True)),
    "reversal": ("pose_invariant", AdversaryConfig(kind="reversal", weight=0.1)),
    "continuous": ("pose_invariant", AdversaryConfig(kind="continuous")),
    "mmd": ("pose_invariant", AdversaryConfig(kind="mmd")),
    "none": ("pose_invariant", AdversaryConfig(kind="none")),
    "plain": ("plain", AdversaryConfig()),
    "prior": ("prior", AdversaryConfig()),
    "multi_view": ("multi_view", AdversaryConfig()),
    "multi_view_prior": ("multi_view_prior", AdversaryConfig(weight=0.03)),
    "vpl": ("view_prior", AdversaryConfig(weight=0.1)),
    "vpl, pictures": ("view_prior", AdversaryConfig(weight=0.1, real="pictures")),
    "vpl, iterative": ("view_prior", AdversaryConfig(weight=0.1, iterative=True)),
    "onehot": ("view_prior", AdversaryConfig(form="onehot")),
}


# Those that add a term of their own in every second step.
FOOLED = ("log_l2", "cross_entropy", "calibrated", "continuous", "mmd", "vpl, iterative", "onehot")


@pytest.mark.parametrize("name", ADVERSARIES)
def test_every_mode_trains_and_stops_where_it_was_told(name, eggs, tmp_path):
    mode, adversary = ADVERSARIES[name]
    config = small(mode, steps=2, adversary=adversary)
    if name == "onehot":
        config = dataclasses.replace(config, network=dataclasses.replace(SMALL, image_widths=(4, 4, 8, 8)))
    run = train(config, eggs, tmp_path / "run", START)
    rows = [row for row in run.read_metrics() if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert ("adversarial" in rows[1]) == (name in FOOLED)


def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(eggs, tmp_path):
    straight = train(small(steps=6), eggs, tmp_path / "straight", START)
    first = dataclasses.replace(small(steps=6), train=TrainConfig(steps=3, log_every=1), media_every=3)
    run = train(first, eggs, tmp_path / "parts", START)
    path = tmp_path / "parts" / "config.json"
    written = json.loads(path.read_text())
    written["config"]["train"]["steps"] = 6
    path.write_text(json.dumps(written))
    resume(tmp_path / "parts", "cpu")
    losses = [[row["loss"] for row in each.read_metrics() if "loss" in row] for each in (straight, run)]
    assert len(losses[0]) == 6
    assert losses[0] == losses[1]


def test_the_encoder_is_fooled_by_a_discriminator_that_stays_as_it_is(eggs, tmp_path):
    run = TrainedRun.open(train(small(steps=1), eggs, tmp_path / "run", START).path)
    from shapewright.methods.pose_invariant.training import prepare_method

    method = prepare_method(run.config, run.pictures("train"), eggs, torch.device("cpu"), 1)
    state = {part: {n: v.clone() for n, v in module.state_dict().items()} for part, module in method.modules.items()}

    def changed(part):
        return any(not torch.equal(v, state[part][n]) for n, v in method.modules[part].state_dict().items())

    moment = Moment(1, 0.5)  # the second step: the encoder's turn
    method.train_step(method.next_batch(moment), moment)
    assert changed("encoder")
    assert changed("decoder")
    assert not changed("discriminator")
    moment = Moment(2, 0.5)
    method.train_step(method.next_batch(moment), moment)
    assert changed("discriminator")


def test_the_loss_of_the_discriminator_does_not_reach_the_encoder(eggs, tmp_path):
    losses = []
    for kind in ("log_l2", "none"):
        config = small(steps=1, adversary=AdversaryConfig(kind=kind))
        opened = TrainedRun.open(train(config, eggs, tmp_path / kind, START).path)
        losses.append(opened.method.model.encoder.state_dict())
    assert all(torch.equal(losses[0][name], losses[1][name]) for name in losses[0])


def test_a_run_is_judged_on_held_out_objects_and_reported(trained):
    result = evaluate(trained, num_points=500)
    metrics = result["metrics"]
    assert result["split"] == "test"
    assert len(result["items"]) == 3
    assert 0 < metrics["voxel_iou_32"] < 1
    assert metrics["mmd_pairs"] == 276
    assert metrics["mmd_n"] == 3
    assert metrics["pose_probe_chance"] == pytest.approx(1 / 24)
    assert {"voxel_iou_32_mean_shape", "voxel_iou_32_nearest_silhouette"} <= set(result["controls"])
    assert json.loads((trained / "metrics.json").read_text())["metrics"] == metrics
    assert "egg" in (trained / "metrics.md").read_text()
    assert (trained / "report.html").stat().st_size > 10_000
    assert read_mesh(trained / "meshes" / "mesh.glb").num_vertices == 642


def test_runs_of_one_class_each_make_a_table_with_their_mean(trained):
    one = evaluate(trained, num_points=0)
    other = {**one, "by_class": {"ham": {name: value + 1 for name, value in one["by_class"]["egg"].items()}}}
    text = metrics_text([("eggs", one), ("hams", other)])
    row = next(line for line in text.splitlines() if "mean of the classes" in line)
    assert row.split("|")[3].strip() == "kato32_padded"
    assert float(row.split("|")[4]) == pytest.approx(one["by_class"]["egg"]["voxel_iou_32"] + 0.5, abs=1e-3)


def test_the_truth_scores_one_and_a_mesh_out_of_the_grid_is_told(trained):
    opened = TrainedRun.open(trained)
    pictures = opened.pictures("test")
    found = predict(opened.method, pictures)
    from shapewright.geometry.icosphere import icosphere

    sphere = icosphere()
    truth = torch.stack([torch.from_numpy(points) for points in pictures.points])
    exact = dataclasses.replace(
        found, vertices=truth[:, None].expand(-1, pictures.num_views, -1, -1), faces=sphere.faces
    )
    rows = shape_rows(pictures, exact, num_points=0)
    assert torch.all(rows["voxel_iou_32"] == 1)
    assert not rows["leak_share"].any()
    outside = dataclasses.replace(exact, vertices=exact.vertices * 1.2 / exact.vertices.abs().amax())
    assert shape_rows(pictures, outside, num_points=0)["leak_share"].any()


def test_the_best_checkpoint_is_chosen_by_sides_that_the_picture_does_not_show(trained):
    rows = [row for row in TrainedRun.open(trained).run.read_metrics() if "val_silhouette_iou_90deg" in row]
    assert rows
    info = json.loads(next((trained / "checkpoints").glob("*00000004.json")).read_text())
    expected = (rows[-1]["val_silhouette_iou_90deg"] + rows[-1]["val_silhouette_iou_180deg"]) / 2
    assert info["score"] == pytest.approx(expected)


def test_the_discriminator_is_judged_on_held_out_objects(eggs, tmp_path):
    for name, adversary in {"one": AdversaryConfig(), "two": AdversaryConfig(calibrated=True)}.items():
        opened = TrainedRun.open(train(small(steps=2, adversary=adversary), eggs, tmp_path / name, START).path)
        shares = [row["val_discriminator_accuracy"] for row in opened.run.read_metrics() if "val_mmd" in row]
        pictures = opened.pictures("val")
        codes = predict(opened.method, pictures).codes.flatten(0, 1)
        discriminator = opened.method.adversary.discriminator
        networks = discriminator if name == "two" else [discriminator]
        right = [network(codes).argmax(1) == pictures.pose_bins.flatten() for network in networks]
        assert shares == pytest.approx([float(torch.stack(right).float().mean())])


def test_meshes_that_have_left_their_pictures_are_told_once(eggs, tmp_path, monkeypatch):
    shift = torch.tensor([0.0, 50.0, 0.0])
    monkeypatch.setattr(Reconstructor, "decode", lambda self, codes, classes: decode(self, codes, classes) + shift)
    run = train(small(steps=3), eggs, tmp_path / "run", START)
    assert all(row["out_of_sight"] == 1 for row in run.read_metrics() if "loss" in row)
    assert (run.path / "log.txt").read_text().count("100 % of the meshes cover no pixel") == 1


def test_meshes_of_the_data_are_exported(trained):
    paths = gallery.export(TrainedRun.open(trained), ("obj", "glb"))
    assert len(paths) == 6
    assert all(read_mesh(path).num_faces == 1280 for path in paths)
    with pytest.raises(UserError, match="no object"):
        gallery.export(TrainedRun.open(trained), ("obj",), ids=["nothing"])
    with pytest.raises(UserError, match="no view 24"):
        gallery.export(TrainedRun.open(trained), ("obj",), view=24)


def test_objects_of_one_name_in_two_categories_have_files_of_their_own(trained, eggs, tmp_path, monkeypatch):
    pictures = open_pictures(eggs, "test", PictureOptions())
    ids, categories = ("a", "a", "b"), ("egg", "stone", "stone")
    twins = dataclasses.replace(pictures, ids=ids, categories=categories)
    monkeypatch.setattr(TrainedRun, "pictures", lambda self, split, data=None: twins)
    run = shutil.copytree(trained, tmp_path / "run", ignore=shutil.ignore_patterns("*.obj"))
    paths = gallery.export(TrainedRun.open(run), ("obj",))
    assert [path.name for path in paths] == ["egg_a.obj", "stone_a.obj", "b.obj"]
    assert [path for path in paths if not path.is_file()] == []
    for path in paths:
        path.unlink()
    evaluate(run, num_points=0)
    assert {path.name for path in (run / "meshes").glob("*.obj")} == {path.name for path in paths}


def test_pictures_that_were_made_anew_are_not_mistaken_for_those_of_the_training(tmp_path):
    data = write_ellipsoids(tmp_path / "src")
    prepare_pictures(PrepareJob(source=data, out=tmp_path / "data", source_format="kato"))
    run = train(small(), tmp_path / "data", tmp_path / "run", START).path
    evaluate(run, num_points=0)
    shutil.rmtree(tmp_path / "data")
    prepare_pictures(PrepareJob(source=write_ellipsoids(data, 1), out=tmp_path / "data", source_format="kato"))
    for again in (lambda: evaluate(run, num_points=0), lambda: resume(run, "cpu")):
        with pytest.raises(UserError, match="the pictures were made anew since"):
            again()
    assert evaluate(run, num_points=0, data=tmp_path / "data")


def test_the_way_between_two_pictures_is_drawn(trained, tmp_path):
    opened = TrainedRun.open(trained)
    name = opened.pictures("test").ids[0]
    paths = gallery.interpolate(opened, (f"{name}:0", f"{name}:12"), tmp_path / "way", steps=3)
    assert all(path.is_file() for path in paths)
    assert len([path for path in paths if path.suffix == ".glb"]) == 3
    with pytest.raises(UserError, match="neither a file nor"):
        gallery.interpolate(opened, ("egg:99", f"{name}:1"), tmp_path / "no")


def test_the_map_of_codes_tells_how_much_of_the_pose_they_keep(trained, tmp_path):
    metrics, paths = gallery.embed(TrainedRun.open(trained), tmp_path / "map", "pca")
    assert {path.suffix for path in paths} == {".png", ".pdf", ".npz"}
    assert metrics["mmd"] > 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "multi_view"}, "needs two or more pictures"),
        ({"mode": "pose_invariant"}, None),
    ],
)
def test_one_view_of_each_object_suits_all_modes_but_pairs(change, words, eggs, tmp_path):
    config = dataclasses.replace(small(), **change)
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, views_per_object=1))
    if words is None:
        assert train(config, eggs, tmp_path / "run", START).read_metrics()
    else:
        with pytest.raises(UserError, match=words):
            train(config, eggs, tmp_path / "run", START)
        assert not (tmp_path / "run").exists()


def test_pictures_from_one_side_only_are_refused(eggs, tmp_path):
    config = dataclasses.replace(small(), data=PictureOptions(views_per_object=1, views="first"))
    with pytest.raises(UserError, match="same pose bin"):
        train(config, eggs, tmp_path / "run", START)
    assert not (tmp_path / "run").exists()


def test_pictures_without_any_mask_are_refused(eggs, tmp_path):
    images = np.load(eggs / "egg_train_images.npz")["arr_0"]
    folder = write_ellipsoids(tmp_path / "data")
    np.savez_compressed(folder / "egg_train_images.npz", np.zeros_like(images))
    with pytest.raises(UserError, match="empty"):
        train(small(), folder, tmp_path / "run", START)


def test_objects_without_a_mask_are_left_out(tmp_path):
    folder = write_ellipsoids(tmp_path / "data")
    images = np.load(folder / "egg_train_images.npz")["arr_0"]
    images[2] = 0
    np.savez_compressed(folder / "egg_train_images.npz", images)
    run = train(small(steps=3, batch_size=6), folder, tmp_path / "run", START)
    assert all(np.isfinite(row["loss"]) for row in run.read_metrics() if "loss" in row)


@pytest.mark.parametrize(
    ("schedule", "step", "progress", "expected"),
    [
        ("constant", 0, 0.0, 0.25),
        ("constant", 2, 0.2, 0.75),
        ("constant", 9, 0.9, 1.0),
        ("cosine", 1, 0.0, 0.5),
        ("cosine", 5, 1.0, 0.01),
        ("step", 1, 0.1, 0.5),
        ("step", 8, 0.8, 0.1),
        ("drop", 8, 0.94, 1.0),
        ("drop", 9, 0.95, 0.1),
    ],
)
def test_the_rate_warms_up_and_follows_its_schedule(schedule, step, progress, expected):
    config = OptimConfig(
        lr=1.0, warm_up_steps=4, schedule=schedule, lr_decay_start=6, lr_decay_every=10, lr_decay_factor=0.1
    )
    assert learning_rate(config, Moment(step, progress)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("", "media_every", 0),
        ("render", "supersample", 0),
        ("render", "size", 0),
        ("optim", "lr", -1.0),
        ("optim", "beta1", 2.0),
        ("network", "code_dim", 0),
        ("network", "encoder_hidden", 0),
        ("network", "encoder_widths", ()),
        ("network", "decoder_hidden", (64, 0)),
        ("network", "image_widths", (8,)),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(part, name, value):
    given = to_dict(small())
    (given[part] if part else given)[name] = value
    with pytest.raises(UserError, match=name):
        from_dict(PoseInvariantConfig, given)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"decoder": "bounded", "decoder_hidden": ()}, "decoder_hidden"),
        ({"encoder": "resnet", "rectified_code": True}, "rectified_code"),
        ({"decoder": "patches", "template": "bunny.obj"}, "template bunny.obj"),
    ],
)
def test_a_setting_without_effect_is_refused(network, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SMALL, **network)


def test_a_texture_with_another_gradient_is_refused():
    network = dataclasses.replace(SMALL, decoder="patches", texture=True)
    with pytest.raises(ValueError, match="gradient nmr"):
        dataclasses.replace(small(), network=network, render=RenderConfig(gradient="reach"))


def test_sizes_that_the_discriminator_of_numbered_views_cannot_halve_are_refused(eggs, tmp_path):
    config = small("view_prior", adversary=AdversaryConfig(form="onehot"))
    config = dataclasses.replace(config, render=RenderConfig(size=48))
    with pytest.raises(UserError, match="48 px 5 times"):
        train(config, eggs, tmp_path / "run", START)
    assert not (tmp_path / "run").exists()


def test_an_adversary_that_would_never_be_trained_is_refused():
    with pytest.raises(ValueError, match="every"):
        AdversaryConfig(every=1)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_the_config_file(name):
    assert from_dict(PoseInvariantConfig, to_dict(PRESETS[name])) == PRESETS[name]


def test_a_textured_run_learns_colours_and_writes_them(eggs, tmp_path):
    network = dataclasses.replace(SMALL, decoder="patches", texture=True)
    adversary = AdversaryConfig(weight=0.1, real="pictures")
    config = dataclasses.replace(small("view_prior", adversary=adversary, batch_size=2), network=network)
    run = train(config, eggs, tmp_path / "run", START)
    rows = [row for row in run.read_metrics() if "loss" in row]
    assert all(0 < row["colour"] < 0.5 for row in rows)
    opened = TrainedRun.open(run.path)
    mesh = gallery.decoded(opened, torch.zeros(1, 8))[0]
    assert mesh.num_vertices == 1352
    assert mesh.vertex_colors is not None
    assert 0 <= float(mesh.vertex_colors.min()) <= float(mesh.vertex_colors.max()) <= 1
    with pytest.raises(UserError, match="decoder of patches"):
        train(dataclasses.replace(config, network=dataclasses.replace(network, decoder="mesh")), eggs, tmp_path / "no")


def test_flipped_pictures_come_with_the_cameras_and_bins_of_the_other_side(eggs, tmp_path):
    config = dataclasses.replace(small("pose_invariant"), augment="flip_and_colours")
    assert train(config, eggs, tmp_path / "run", START).read_metrics()
    unknown = dataclasses.replace(open_pictures(eggs, "train", config.data), mirrored_bins=None)
    with pytest.raises(UserError, match="do not have"):
        prepare_method(config, unknown, eggs, torch.device("cpu"), 0)
    continuous = dataclasses.replace(config, adversary=AdversaryConfig(kind="continuous"))
    for other in (dataclasses.replace(config, mode="plain"), continuous):
        assert prepare_method(other, unknown, eggs, torch.device("cpu"), 0)
    with pytest.raises(UserError, match="mirrored photographs"):
        prepare_method(dataclasses.replace(continuous, augment="moving_crops"), unknown, eggs, torch.device("cpu"), 0)


def test_damaged_validation_pictures_are_not_taken_for_missing_ones(eggs, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(eggs, data)
    (data / "egg_val_images.npz").write_bytes(b"PK damaged")
    with pytest.raises(UserError, match="egg_val_images"):
        train(small(), data, tmp_path / "run", START)
    (data / "egg_val_images.npz").unlink()
    run = train(small(), data, tmp_path / "without", START)
    assert not any("val_mmd" in row for row in run.read_metrics())


def test_faces_seen_from_behind_are_counted():
    mesh = icosphere(2)
    screen = project_perspective(0.4 * mesh.vertices, kato_ring(32)[range(3)])
    assert torch.equal(back_share(screen, mesh.faces, 32, 0.1), torch.zeros(3))
    assert torch.equal(back_share(screen, mesh.faces.flip(1), 32, 0.1), torch.ones(3))
    # With the front half open, the inside of the back half is seen.
    is_near = screen[0, mesh.faces, 2].mean(1) < screen[0, :, 2].mean()
    assert float(back_share(screen[:1], mesh.faces[~is_near], 32, 0.1)) > 0.9
    assert float(back_share(screen[:1] + 1000, mesh.faces, 32, 0.1)) == 0


def test_a_gradient_that_is_not_finite_changes_nothing(eggs):
    config = small()
    pictures = open_pictures(eggs, "train", config.data, 0)
    method = prepare_method(config, pictures, eggs, torch.device("cpu"), 0)
    before = [parameter.detach().clone() for parameter in method.model.parameters()]
    next(method.model.decoder.parameters()).register_hook(lambda gradient: gradient * torch.nan)
    assert method.train_step(method.next_batch(Moment(0, 0.0)), Moment(0, 0.0))["skipped"] == 1
    assert all(torch.equal(old, new) for old, new in zip(before, method.model.parameters(), strict=True))


def test_the_mode_prior_without_a_weight_is_refused():
    with pytest.raises(ValueError, match="The mode prior needs"):
        dataclasses.replace(PRESETS["cpu"], mode="prior")


def test_the_mean_of_the_networks_is_judged_and_kept(eggs, tmp_path):
    decayed = dataclasses.replace(small(steps=6), optim=OptimConfig(batch_size=4, lr=1e-2, ema_decay=0.5))
    pictures = open_pictures(eggs, "train", decayed.data)
    method = prepare_method(decayed, pictures, eggs, torch.device("cpu"), 0)
    expected = [torch.zeros_like(parameter) for parameter in method.model.parameters()]
    # Of the steps alone: where the networks started has no part in it.
    for step, weight in enumerate((1 / 7, 2 / 7, 4 / 7)):
        method.train_step(method.next_batch(Moment(step, 0.0)), Moment(step, 0.0))
        expected = [mean + weight * new.detach() for mean, new in zip(expected, method.model.parameters(), strict=True)]
    for mean, found in zip(expected, method.judged.parameters(), strict=True):
        assert torch.allclose(mean, found, atol=1e-6)
    other = prepare_method(decayed, pictures, eggs, torch.device("cpu"), 5)
    other.load_state_dict(method.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.judged.parameters(), method.judged.parameters(), strict=True))
    assert not torch.equal(next(method.judged.parameters()), next(method.model.parameters()))
    run = train(decayed, eggs, tmp_path / "run", START)
    opened = TrainedRun.open(run.path)
    found = predict(opened.method, pictures).codes[0, 0]
    assert torch.allclose(found, codes_of(opened.method.average, pictures), atol=1e-5)
    assert not torch.allclose(found, codes_of(opened.method.model, pictures), atol=1e-5)
    bare = prepare_method(small(), pictures, eggs, torch.device("cpu"), 0)
    with pytest.raises(UserError, match="average has other layers"):
        prepare_method(decayed, pictures, eggs, torch.device("cpu"), 0).load_state_dict(bare.state_dict())


def codes_of(model, pictures):
    zero = torch.zeros(1, dtype=torch.long)
    return model.reconstruct(pictures.pictures(zero, zero), zero)[0][0]
