"""A training on pictures that is killed goes on with the same losses, bit for bit, by ``resume RUN`` alone."""

import subprocess

import pytest

from tests.faults.test_surface_resume import COMMAND, ENVIRONMENT, straight_and_resumed
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
    straight, again = straight_and_resumed(lambda out: start(data, out), tmp_path, STEPS // 2)
    assert len(straight) == STEPS
    assert again == straight
