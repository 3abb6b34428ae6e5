import json
import subprocess
import sys

import pytest

from shapewright import __version__
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError


@pytest.fixture
def run(tmp_path):
    return RunDir.create(tmp_path / "run", {"a": 1}, ["shapewright", "train"], {"seed": 7, "method": "surface"})


def test_a_run_folder_opens_again_with_its_settings(run):
    again = RunDir.open(run.path)
    assert again == run
    assert again.config == {"a": 1}
    info = again.info
    assert info["command"] == ["shapewright", "train"]
    assert info["seed"] == 7
    assert info["versions"]["shapewright"] == __version__
    assert "torch" in info["versions"]


def test_an_empty_folder_may_be_used(tmp_path):
    RunDir.create(tmp_path, {}, [])


def test_a_folder_that_is_not_empty_is_refused(run):
    with pytest.raises(UserError, match="is not empty"):
        RunDir.create(run.path, {"a": 2}, [])
    assert run.config == {"a": 1}


def test_force_replaces_a_run_and_keeps_what_is_not_its_own(run):
    run.append_metrics({"step": 1})
    (run.meshes / "mesh.glb").write_bytes(b"old")
    (run.path / "notes.txt").write_text("mine")
    again = RunDir.create(run.path, {"a": 2}, [], force=True)
    assert again.config == {"a": 2}
    assert again.read_metrics() == []
    assert list(again.meshes.iterdir()) == []
    assert (run.path / "notes.txt").read_text() == "mine"


def test_force_does_not_touch_a_folder_that_is_no_run(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(UserError, match="not a run folder"):
        RunDir.create(tmp_path, {}, [], force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_force_does_not_touch_a_run_in_use(run):
    with run.lock(), pytest.raises(UserError, match="in use"):
        RunDir.create(run.path, {"a": 2}, [], force=True)
    assert run.config == {"a": 1}


def test_a_file_is_no_place_for_a_run(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file"):
            RunDir.create(path, {}, [])


def test_only_run_folders_open(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        RunDir.open(tmp_path)
    (tmp_path / "config.json").write_text('{"schema": 99, "config": {}}')
    with pytest.raises(UserError, match="schema 99"):
        RunDir.open(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="not valid JSON: it holds no object"):
        RunDir.open(tmp_path)


def test_metrics_come_back_in_order_and_are_cut_after_a_step(run):
    for step in range(1, 6):
        run.append_metrics({"step": step, "loss": float("nan") if step == 2 else 0.5})
    assert [row["loss"] for row in run.read_metrics()] == [0.5, None, 0.5, 0.5, 0.5]
    run.truncate_metrics(3)
    assert [row["step"] for row in run.read_metrics()] == [1, 2, 3]


def test_a_row_cut_off_by_a_crash_is_left_out(run):
    run.append_metrics({"step": 1})
    with open(run.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 2, "lo')
    assert run.read_metrics() == [{"step": 1}]


def test_results_are_plain_json(run):
    run.write_metrics({"metrics": {"psnr": float("inf"), "iou": 0.5}, "items": [{"id": "a", "psnr": 1.0}]})
    result = json.loads((run.path / "metrics.json").read_text())
    assert result == {"schema": 1, "metrics": {"psnr": None, "iou": 0.5}, "items": [{"id": "a", "psnr": 1.0}]}


def test_the_log_has_time_and_level(run):
    run.log("hello")
    line = (run.path / "log.txt").read_text()
    assert line.endswith(" INFO hello\n")
    assert line[:2] == "20"


def test_deleted_pictures_and_meshes_can_be_made_again(run):
    for folder in (run.media, run.meshes):
        folder.rmdir()
    opened = RunDir.open(run.path)
    assert opened.media.is_dir()
    assert opened.meshes.is_dir()


def test_a_lock_excludes_and_ends(run):
    with run.lock(), pytest.raises(UserError, match=r"in use by process \d+"), run.lock():
        pass
    with run.lock():
        pass
    assert (run.path / "lock").read_text() == ""


def test_the_lock_of_a_killed_process_is_taken_over(run):
    code = (
        "import os, signal, sys; from pathlib import Path; from shapewright.engine.run_dir import RunDir\n"
        "lock = RunDir(Path(sys.argv[1])).lock(); lock.__enter__(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(run.path)], check=False).returncode == -9
    assert (run.path / "lock").read_text() != ""
    with run.lock():
        pass
    assert "Took over the lock of process" in (run.path / "log.txt").read_text()
