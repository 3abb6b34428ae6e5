"""A run that is killed, stopped, damaged or out of space goes on as if nothing had happened."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shapewright.engine.checkpoint import list_checkpoints
from shapewright.engine.run_dir import RunDir
from shapewright.engine.trainer import TrainConfig, Trainer
from shapewright.errors import UserError
from tests.engine.toy import ToyMethod

ROOT = Path(__file__).parents[2]
CONFIG = TrainConfig(steps=200, log_every=1, checkpoint_every_steps=50)


def start(*words):
    """Start the toy run in a process of its own."""
    command = [sys.executable, "-m", "tests.faults.toy_run", *map(str, words)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(*words):
    process = start(*words)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def go_on(path):
    Trainer(ToyMethod(), RunDir.open(path), CONFIG).fit()


def losses(path):
    return [(row["step"], row["loss"]) for row in RunDir.open(path).read_metrics()]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Return the losses of 200 steps without any fault."""
    run = RunDir.create(tmp_path_factory.mktemp("straight") / "run", {}, [])
    Trainer(ToyMethod(), run, CONFIG).fit()
    return losses(run.path)


@pytest.mark.parametrize(("fault", "step"), [("kill", 117), ("kill", 100), ("kill", 3), ("kill-in-save", 110)])
def test_a_killed_run_goes_on_with_the_same_losses_bit_for_bit(tmp_path, straight, fault, step):
    path = tmp_path / "run"
    assert finish(path, 200, fault, step)[0] == -signal.SIGKILL
    go_on(path)
    assert losses(path) == straight
    assert "Took over the lock" in (path / "log.txt").read_text()
    assert not list((path / "checkpoints").glob(".*"))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_saves_at_once_and_goes_on_exactly(tmp_path, straight, number, code):
    path = tmp_path / "run"
    process = start(path, 200, "slow", 33)
    assert process.stdout is not None
    assert process.stdout.readline() == "33\n"
    process.send_signal(number)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == code
    assert "Traceback" not in errors
    [step] = list_checkpoints(RunDir.open(path))
    assert 33 <= step < 50
    go_on(path)
    assert losses(path) == straight


def test_a_run_that_is_in_use_is_refused_and_not_disturbed(tmp_path):
    path = tmp_path / "run"
    process = start(path, 10**9, "slow", 5)
    assert process.stdout is not None
    assert process.stdout.readline() == "5\n"
    code, errors = finish(path, 200)
    assert code == 2
    assert f"is in use by process {process.pid} on" in errors
    assert errors.count("\n") == 2
    process.terminate()
    process.communicate(timeout=200)
    assert process.returncode == 143


def test_a_damaged_newest_checkpoint_costs_only_the_steps_after_the_one_before(tmp_path, straight):
    path = tmp_path / "run"
    assert finish(path, 200, "kill", 117)[0] == -signal.SIGKILL
    newest = path / "checkpoints" / "step_00000100.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1] + b"\0\0")
    go_on(path)
    assert losses(path) == straight
    log = (path / "log.txt").read_text()
    assert "step_00000100.safetensors is damaged" in log
    assert "Going on after step 50" in log


def test_a_run_on_a_full_disk_stops_with_the_checkpoints_before_whole(tmp_path, straight, monkeypatch):
    run = RunDir.create(tmp_path / "run", {}, [])

    def fill_disk(trainer, moment, values):
        if trainer.step == 120:
            monkeypatch.setattr(os, "fsync", fail)

    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(UserError, match=r"disk is full: .*step_00000150.safetensors .* MiB free"):
        Trainer(ToyMethod(), run, CONFIG, [fill_disk]).fit()
    assert list_checkpoints(run) == [50, 100]
    assert len(list(run.checkpoints.iterdir())) == 4
    monkeypatch.undo()
    go_on(run.path)
    assert losses(run.path) == straight
