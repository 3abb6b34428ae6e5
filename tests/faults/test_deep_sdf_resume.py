"""A training of a shape space that is killed goes on with the same losses, bit for bit, by ``resume RUN`` alone."""

import subprocess

import pytest

from tests.faults.test_surface_resume import COMMAND, ENVIRONMENT, straight_and_resumed
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
    straight, again = straight_and_resumed(lambda out: start(data, out), tmp_path, STEPS * 3 // 5)
    assert len(straight) == STEPS
    assert again == straight
