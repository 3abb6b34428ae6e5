import errno
import os

import pytest
import torch

from shapewright.engine.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint, score_of
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run", {}, [])


def tensors(value: float):
    return {"w": torch.full((4, 3), value), "n": torch.tensor(7), "state": torch.arange(5, dtype=torch.uint8)}


def flip_byte(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))


def test_a_checkpoint_comes_back_bit_for_bit(run):
    saved = tensors(0.1) | {
        "view": torch.arange(6.0).view(2, 3).T,
        "empty": torch.zeros(0, 2),
        "half": torch.ones(2).half(),
    }
    save_checkpoint(run, 12, saved, {"seconds": 1.5})
    step, loaded, meta = load_checkpoint(run)
    assert (step, meta) == (12, {"seconds": 1.5})
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        assert loaded[name].dtype == value.dtype
        assert torch.equal(loaded[name], value)


def test_tensors_that_share_memory_are_saved(run):
    whole = torch.arange(6.0)
    save_checkpoint(run, 1, {"whole": whole, "part": whole[2:4]}, {})
    assert torch.equal(load_checkpoint(run)[1]["part"], whole[2:4])


def test_the_newest_and_the_best_are_kept(run):
    for step, score in [(10, 1.0), (20, 5.0), (30, 2.0), (40, None), (50, float("nan"))]:
        save_checkpoint(run, step, tensors(step), {}, keep_last=2, score=score)
    assert list_checkpoints(run) == [20, 40, 50]
    assert load_checkpoint(run)[0] == 50
    assert load_checkpoint(run, "best")[0] == 20
    assert load_checkpoint(run, 40)[0] == 40
    assert len(list(run.checkpoints.iterdir())) == 6


def test_without_scores_the_best_is_the_latest_and_the_log_says_so(run):
    for step in (1, 2):
        save_checkpoint(run, step, tensors(step), {})
    assert load_checkpoint(run)[0] == 2
    assert not (run.path / "log.txt").exists()
    assert load_checkpoint(run, "best")[0] == 2
    assert "No whole checkpoint has a score: taking the latest, step 2." in (run.path / "log.txt").read_text()


def test_a_best_that_is_damaged_is_not_claimed_for_one_without_a_score(run):
    save_checkpoint(run, 1, tensors(1), {}, score=3.0)
    save_checkpoint(run, 2, tensors(2), {})
    assert load_checkpoint(run, "best")[0] == 1
    assert not (run.path / "log.txt").exists()
    flip_byte(run.checkpoints / "step_00000001.safetensors")
    assert load_checkpoint(run, "best")[0] == 2
    assert "No whole checkpoint has a score" in (run.path / "log.txt").read_text()


def test_the_score_of_a_checkpoint_is_known_by_its_step(run):
    for step, score in [(1, 0.5), (2, None), (3, float("nan"))]:
        save_checkpoint(run, step, tensors(step), {}, score=score)
    assert [score_of(run, step) for step in (1, 2, 3, 4)] == [0.5, None, None, None]


@pytest.mark.parametrize("damage", ["flip", "cut", "no tensors", "bad json", "no json", "old schema"])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(run, damage):
    for step in (10, 20):
        save_checkpoint(run, step, tensors(step), {})
    data, summary = run.checkpoints / "step_00000020.safetensors", run.checkpoints / "step_00000020.json"
    if damage == "flip":
        flip_byte(data)
    elif damage == "cut":
        data.write_bytes(data.read_bytes()[:50])
    elif damage == "no tensors":
        data.unlink()
    elif damage == "bad json":
        summary.write_text('{"schema": 1')
    elif damage == "old schema":
        summary.write_text(summary.read_text().replace('"schema": 1', '"schema": 0'))
    else:
        summary.unlink()
    step, loaded, _ = load_checkpoint(run)
    assert step == 10
    assert torch.equal(loaded["w"], torch.full((4, 3), 10.0))
    if damage != "no json":
        assert "Trying the checkpoint before it" in (run.path / "log.txt").read_text()


def test_a_damaged_later_checkpoint_does_not_push_out_a_new_one(run):
    for step in (10, 20):
        save_checkpoint(run, step, tensors(step), {})
    flip_byte(run.checkpoints / "step_00000020.safetensors")
    save_checkpoint(run, 15, tensors(15), {}, keep_last=1)
    assert list_checkpoints(run) == [15]


def test_no_checkpoint_is_said_with_those_there_are(run):
    with pytest.raises(UserError, match=r"no intact checkpoint(.|\n)*--force"):
        load_checkpoint(run)
    save_checkpoint(run, 3, tensors(3), {})
    with pytest.raises(UserError, match=r"no intact checkpoint 4(.|\n)*: 3"):
        load_checkpoint(run, 4)


def test_a_full_disk_leaves_the_checkpoints_before_and_no_part(run, monkeypatch):
    save_checkpoint(run, 10, tensors(10), {})
    before = sorted(os.listdir(run.checkpoints))

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(UserError, match="disk is full"):
        save_checkpoint(run, 20, tensors(20), {})
    assert sorted(os.listdir(run.checkpoints)) == before
    assert load_checkpoint(run)[0] == 10


def test_leftovers_of_a_crash_are_swept_and_other_files_stay(run):
    (run.checkpoints / ".step_00000005.safetensors.123.tmp").write_bytes(b"part")
    (run.checkpoints / "step_00000005.safetensors").write_bytes(b"no json")
    (run.checkpoints / "notes.txt").write_text("mine")
    save_checkpoint(run, 10, tensors(10), {})
    names = {"notes.txt", "step_00000010.json", "step_00000010.safetensors"}
    assert {path.name for path in run.checkpoints.iterdir()} == names


def test_kept_checkpoints_stay_when_newer_ones_replace_the_others(tmp_path):
    run = RunDir.create(tmp_path / "run", {}, [])
    for step in range(1, 7):
        save_checkpoint(run, step, {"x": torch.zeros(1)}, {"kept": True} if step == 2 else {}, keep_last=2)
    assert list_checkpoints(run) == [2, 5, 6]
