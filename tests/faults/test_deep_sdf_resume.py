"""A training of a shape space that is killed goes on with the same losses, bit for bit, by ``resume RUN`` alone."""

import signal
import subprocess

import pytest

from tests.faults.test_surface_resume import COMMAND, ENVIRONMENT, kill_after, rows
from tests.methods.sdf_family import write_balls

STEPS = 120
SMALL = [
    *("--network.code-length", "8", "--network.widths", "32", "32", "32", "--network.latent-in", "1", "2"),
    *("--network.dropout", "0.1", "--network.dropout-layers", "0", "1"),
    *("--data.samples-per-shape", "512", "--data.shapes-per-batch", "4", "--optim.precision", "fp32"),
]


def start(data, out):
    cadence = ["--steps", str(STEPS), "--train.log-every", "1", "--train.checkpoint-every-steps", str(STEPS // 2)]
    words = ["train", "deep_sdf", "--data", str(data), "--out", str(out), *cadence, *SMALL]
    return subprocess.Popen([*COMMAND, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.mark.slow
def test_a_killed_training_goes_on_with_the_same_losses(tmp_path):
    data = write_balls(tmp_path / "balls", (0.3, 0.4, 0.5, 0.6, 0.7))
    straight = start(data, tmp_path / "straight")
    output, _ = straight.communicate(timeout=200)
    assert straight.returncode == 0, output
    killed = start(data, tmp_path / "killed")
    kill_after(killed, tmp_path / "killed", STEPS * 3 // 5)
    assert killed.returncode == -signal.SIGKILL
    words = [*COMMAND, "resume", str(tmp_path / "killed")]
    assert subprocess.run(words, env=ENVIRONMENT, capture_output=True, check=False, timeout=200).returncode == 0
    expected = rows(tmp_path / "straight")
    assert len(expected) == STEPS
    assert rows(tmp_path / "killed") == expected
