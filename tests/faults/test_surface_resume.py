"""A real training that is killed goes on with the same losses, bit for bit, by ``shapewright resume RUN`` alone."""

import os
import signal
import subprocess
import sys
import time

import pytest

from shapewright.engine.run_dir import RunDir
from tests.data.ball import ball_cameras, write_idr

COMMAND = [sys.executable, "-m", "shapewright.cli.main"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = {
    "volume": [
        *("--volume.sampling.samples", "512", "--volume.sampling.cache-resolution", "32"),
        *("--volume.grid.log2-table-size", "12", "--volume.hull-fit-steps", "5"),
    ],
    "tracing": [
        *("--preset", "hash", "--tracing.batch.num-rays", "64", "--tracing.encoding.num-levels", "4"),
        *("--tracing.encoding.log2-table-size", "10", "--tracing.tracing.cache-resolution", "16"),
    ],
}
STEPS = {"volume": 200, "tracing": 40}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_idr(ball_cameras(9), tmp_path_factory.mktemp("ball") / "scene")


def start(renderer, scene, out):
    steps = STEPS[renderer]
    cadence = ["--steps", str(steps), "--train.log-every", "1", "--train.checkpoint-every-steps", str(steps // 2)]
    words = ["train", "surface", "--data", str(scene), "--out", str(out), *cadence, *SMALL[renderer]]
    return subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def rows(out):
    """Return all that was measured in each step, but for the time."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in RunDir(out).read_metrics()]


def kill_after(process, out, count):
    deadline = time.monotonic() + 120
    while len(rows(out)) < count and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.communicate()


def straight_and_resumed(start, folder, kill_at):
    """Return what was measured in each step of a training, and in one that is killed after some steps and resumed.

    Args:
        start: Begins the training in a run folder and returns its process.
        folder: Where ``straight`` and ``killed`` are to lie.
        kill_at: Steps after which to kill.
    """
    straight = start(folder / "straight")
    output, _ = straight.communicate(timeout=200)
    assert straight.returncode == 0, output
    killed = start(folder / "killed")
    kill_after(killed, folder / "killed", kill_at)
    assert killed.returncode == -signal.SIGKILL
    words = [*COMMAND, "resume", str(folder / "killed")]
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=False, timeout=200).returncode == 0
    return rows(folder / "straight"), rows(folder / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("renderer", SMALL)
def test_a_killed_training_goes_on_with_the_same_losses(scene, tmp_path, renderer):
    steps = STEPS[renderer]
    straight, again = straight_and_resumed(lambda out: start(renderer, scene, out), tmp_path, steps * 3 // 5)
    assert len(straight) == steps
    assert again == straight
    assert f"Going on after step {steps // 2}" in (tmp_path / "killed" / "log.txt").read_text()
