"""A training on pictures that is killed goes on with the same losses, bit for bit, by ``resume RUN`` alone."""

import signal
import subprocess

import pytest

from tests.faults.test_surface_resume import COMMAND, ENVIRONMENT, kill_after, rows
from tests.methods.picture_family import write_ellipsoids

STEPS = 60
SMALL = [
    *("--network.encoder-widths", "8", "8", "8", "--network.encoder-hidden", "16", "--network.code-dim", "8"),
    *("--network.decoder-hidden", "16", "--network.discriminator-hidden", "8", "--optim.batch-size", "4"),
]


def start(data, out):
    cadence = ["--steps", str(STEPS), "--train.log-every", "1", "--train.checkpoint-every-steps", str(STEPS // 3)]
    words = ["train", "pose_invariant", "--data", str(data), "--out", str(out), *cadence, *SMALL]
    words += ["--media-every", str(STEPS)]
    return subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_losses(tmp_path):
    data = write_ellipsoids(tmp_path / "eggs", sizes={"train": 5})
    straight = start(data, tmp_path / "straight")
    output, _ = straight.communicate(timeout=200)
    assert straight.returncode == 0, output
    killed = start(data, tmp_path / "killed")
    kill_after(killed, tmp_path / "killed", STEPS // 2)
    assert killed.returncode == -signal.SIGKILL
    words = [*COMMAND, "resume", str(tmp_path / "killed")]
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=False, timeout=200).returncode == 0
    expected = rows(tmp_path / "straight")
    assert len(expected) == STEPS
    assert rows(tmp_path / "killed") == expected
