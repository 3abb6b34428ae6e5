"""What is judged, what is refused, and what the tables say of how the numbers came about."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from shapewright.data.picture_folders import keep_views, open_pictures
from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.geometry.solid_voxels import VPL32
from shapewright.methods.pose_invariant import evaluation, judging, training
from shapewright.methods.pose_invariant.config import AdversaryConfig, NetworkConfig, OptimConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.evaluation import evaluate, metrics_text
from shapewright.methods.pose_invariant.judging import controls, judge_codes, predict, shape_rows
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import prepare_method, train
from shapewright.metrics.mmd import CONSTANT_CODE
from tests.methods.picture_family import write_ellipsoids

SMALL = NetworkConfig(
    encoder_widths=(8, 8, 8), encoder_hidden=16, code_dim=8, decoder_hidden=(16,), discriminator_hidden=(8,)
)
CONFIG = PoseInvariantConfig(
    media_every=2,
    network=SMALL,
    adversary=AdversaryConfig(weight=0.1, codes="standardised"),
    optim=OptimConfig(batch_size=4, lr=1e-3, precision="fp32"),
    train=TrainConfig(steps=2, log_every=1),
)
START = Start(device="cpu", seed=1)


@pytest.fixture(scope="module")
def eggs(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("eggs") / "data")


@pytest.fixture(scope="module")
def trained(eggs, tmp_path_factory):
    return train(CONFIG, eggs, tmp_path_factory.mktemp("run") / "run", START).path


def photographs(pictures):
    """Return the same pictures without their masks, which are only to be learned."""
    return dataclasses.replace(pictures, images=pictures.images[:, :, :3], targets=pictures.images[:, :, 3])


def test_photographs_do_not_suit_a_network_that_takes_masks(eggs):
    pictures = photographs(open_pictures(eggs, "train", CONFIG.data))
    with pytest.raises(UserError, match="takes 4 channels, but the pictures have 3") as caught:
        prepare_method(CONFIG, pictures, eggs, torch.device("cpu"), 0)
    assert "--network.channels 3" in str(caught.value)
    of_colours = dataclasses.replace(CONFIG, network=dataclasses.replace(SMALL, channels=3))
    assert prepare_method(of_colours, pictures, eggs, torch.device("cpu"), 0)


def with_angle(pictures, half_angle_deg):
    """Return the same pictures, as if they were taken with another field of view."""
    return dataclasses.replace(pictures, views=dataclasses.replace(pictures.views, half_angle_deg=half_angle_deg))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (photographs, "have 3 channels, but .* takes 4"),
        (lambda pictures: with_angle(pictures, 12.5), "is 12.5 degrees, but .* draws with 15 degrees"),
        (lambda pictures: with_angle(pictures, None), r"is none \(orthographic\), but .* draws with 15 degrees"),
    ],
)
def test_pictures_of_another_kind_are_refused_by_their_numbers(change, words, trained, eggs, monkeypatch):
    monkeypatch.setattr(
        TrainedRun, "pictures", lambda self, split, data=None: change(open_pictures(eggs, split, CONFIG.data))
    )
    with pytest.raises(UserError, match=words) as caught:
        evaluate(trained, num_points=0, data=eggs)
    assert "--data" in str(caught.value)


def test_validation_looks_at_objects_of_all_classes(tmp_path, monkeypatch):
    data = write_ellipsoids(tmp_path / "data", sizes={"train": 4, "val": 4})
    write_ellipsoids(data, seed=1, name="ham", sizes={"train": 4, "val": 2})
    monkeypatch.setattr(training, "MOST_VALIDATED", 4)
    judged = []
    predict = training.predict
    monkeypatch.setattr(training, "predict", lambda method, some: judged.append(some) or predict(method, some))
    train(CONFIG, data, tmp_path / "run", START)
    assert judged[0].categories == ("egg", "egg", "egg", "ham")
    held_out = open_pictures(data, "val", CONFIG.data)
    places = [held_out.ids.index(name) for name in judged[0].ids]
    assert len(set(places)) == 4
    assert np.array_equal(judged[0].images, held_out.images[places])
    assert np.array_equal(judged[0].voxels, held_out.voxels[places])


def test_objects_are_spread_with_their_own_cameras(eggs):
    pictures = open_pictures(eggs, "train", CONFIG.data)
    own = keep_views(pictures, 2, "random", 0)
    assert own.spread(6) is own
    some = own.spread(2)
    assert some.ids == (own.ids[0], own.ids[5])
    assert torch.equal(some.views.world_from_camera, own.views.world_from_camera[[0, 5]])
    assert torch.equal(some.mirrored_bins, own.mirrored_bins[[0, 5]])
    assert torch.equal(some.pose_bins, own.pose_bins[[0, 5]])


def test_a_choice_that_cannot_see_entanglement_is_logged_once(eggs, tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, media_every=1)
    seen = train(config, eggs, tmp_path / "seen", START)
    assert "entanglement" not in (seen.path / "log.txt").read_text()
    monkeypatch.setattr(training, "open_pictures", lambda *given: keep_views(open_pictures(*given), 3, "first", 0))
    blind = train(config, eggs, tmp_path / "blind", START)
    assert sum("val_silhouette_iou_input" in row for row in blind.read_metrics()) == 2
    assert (blind.path / "log.txt").read_text().count("cannot see entanglement") == 1


def test_a_selection_by_voxels_is_told_and_needs_them(eggs, tmp_path):
    config = dataclasses.replace(CONFIG, select="voxel_compat")
    run = train(config, eggs, tmp_path / "run", START)
    assert evaluate(run.path, "test", "best", num_points=0)["selected_by"] == "voxel_compat"
    assert "voxel_compat, which is 3D supervision" in (run.path / "metrics.md").read_text()
    assert "voxel_compat, which is 3D supervision" in (run.path / "report.html").read_text()
    assert evaluate(run.path, "test", num_points=0)["selected_by"] == "last step"
    assert "3D supervision" not in (run.path / "metrics.md").read_text()
    data = write_ellipsoids(tmp_path / "data")
    (data / "egg_val_voxels.npz").unlink()
    with pytest.raises(UserError, match="no voxels to select by"):
        train(config, data, tmp_path / "no", START)
    assert not (tmp_path / "no").exists()


def test_a_best_that_was_never_scored_claims_no_selection(tmp_path):
    data = write_ellipsoids(tmp_path / "data", sizes={"train": 4, "test": 3})
    run = train(CONFIG, data, tmp_path / "run", START)
    assert evaluate(run.path, checkpoint="best", num_points=0)["selected_by"] == "latest: nothing was scored"
    assert "selected by: latest: nothing was scored" in (run.path / "metrics.md").read_text()


def test_tables_tell_how_the_numbers_of_every_run_came_about(trained):
    one = evaluate(trained, "test", num_points=0)
    other = evaluate(trained, "val", "best", num_points=0)
    other["protocol"] = other["protocol"].replace("kato32", "vpl32")
    lines = metrics_text([("one", one), ("other", other)]).splitlines()
    assert lines[0].startswith("- one: test objects, every picture of each; voxels by kato32_padded.")
    assert lines[0].endswith("Objects: 3 egg. Checkpoint 2 selected by: last step.")
    assert lines[1].startswith("- other: val objects, every picture of each; voxels by vpl32_padded.")
    assert lines[1].endswith("Checkpoint 2 selected by: silhouette.")
    assert evaluate(trained, "test", 2, num_points=0)["selected_by"] == "number"


def test_runs_whose_voxels_follow_different_rules_have_no_mean(trained):
    one = evaluate(trained, num_points=0)
    assert one["voxel_rule"] == "kato32_padded"
    of_ham = {"ham": one["by_class"]["egg"]}
    other = one | {"by_class": of_ham, "voxel_rule": "vpl32_padded"}
    without = one | {"by_class": {"jam": {}}, "voxel_rule": None}
    text = metrics_text([("one", one), ("other", other)])
    for row in (
        "| one | pose_invariant | 2 | kato32_padded | ",
        "| other | pose_invariant | 2 | vpl32_padded | ",
        "| one | egg | kato32_padded | ",
        "| other | ham | vpl32_padded | ",
    ):
        assert f"\n{row}" in text
    text = metrics_text([("one", one), ("other", other), ("without", without)])
    assert "| all |" not in text
    assert "there is no mean of the classes: their voxels follow the rules kato32_padded, vpl32_padded." in text
    text = metrics_text([("one", one), ("other", other | {"voxel_rule": "kato32_padded"})])
    assert "| all | mean of the classes | kato32_padded | " in text
    assert "there is no mean" not in text


def test_controls_compare_voxels_of_one_rule(eggs):
    train, test = (open_pictures(eggs, split, CONFIG.data) for split in ("train", "test"))
    assert controls(train, test)
    assert controls(train, dataclasses.replace(test, voxel_rule=VPL32)) == {}


def test_the_nearest_silhouette_is_that_of_the_training_object_whose_voxels_count(eggs):
    train, test = (open_pictures(eggs, split, CONFIG.data) for split in ("train", "test"))
    scores = []
    for own, voxels in zip(test.images[:, :, 3] / 255.0, test.voxels, strict=True):
        for view in range(24):
            masks = train.images[:, view, 3] / 255.0
            both = (masks * own[view]).sum(axis=(1, 2))
            nearest = (both / (masks.sum(axis=(1, 2)) + own[view].sum() - both)).argmax()
            other = train.voxels[nearest]
            scores.append((other & voxels).sum() / (other | voxels).sum())
    assert controls(train, test)["voxel_iou_32_nearest_silhouette"] == pytest.approx(np.mean(scores))


def test_other_pictures_are_judged_without_those_of_the_training(eggs, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"data": str(tmp_path / "gone")}))
    result = evaluate(run, num_points=0, data=eggs)
    assert result["controls"] == {}
    assert [note.partition(".")[0] for note in result["notes"]] == ["There are no controls"]
    assert result["metrics"] == evaluate(trained, num_points=0)["metrics"]


def test_voxels_are_judged_a_few_objects_at_a_time(eggs, trained, monkeypatch):
    opened = TrainedRun.open(trained)
    pictures = opened.pictures("train")
    found = predict(opened.method, pictures)
    whole = shape_rows(pictures, found, num_points=0)
    monkeypatch.setattr(judging, "_OBJECTS_AT_ONCE", 4)
    parts = shape_rows(pictures, found, num_points=0)
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_codes_that_are_all_equal_have_a_note_in_place_of_a_discrepancy(trained, monkeypatch):
    predict = evaluation.predict

    def collapsed(method, pictures):
        found = predict(method, pictures)
        return dataclasses.replace(found, codes=torch.ones_like(found.codes))

    assert evaluate(trained, num_points=0)["notes"] == []
    assert "Note" not in (trained / "metrics.md").read_text()
    monkeypatch.setattr(evaluation, "predict", collapsed)
    result = evaluate(trained, num_points=0)
    assert "mmd" not in result["metrics"]
    assert result["metrics"]["code_spread"] == 0
    assert result["notes"] == [f"There is no mmd. {CONSTANT_CODE}"]
    assert json.loads((trained / "metrics.json").read_text())["notes"] == result["notes"]
    assert f"Note on {trained.name}: {result['notes'][0]}" in (trained / "metrics.md").read_text()
    assert "There is no mmd. All codes are equal" in (trained / "report.html").read_text()


def test_bins_that_are_too_empty_for_a_discrepancy_are_told(trained, eggs):
    pictures = keep_views(open_pictures(eggs, "test", CONFIG.data), 2, "random", 0)
    metrics, notes = judge_codes(pictures, evaluation.predict(TrainedRun.open(trained).method, pictures))
    assert "mmd" not in metrics
    assert len(notes) == 1
    assert "pose bins hold 20 pictures" in notes[0]
