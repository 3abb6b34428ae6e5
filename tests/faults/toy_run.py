"""Train the toy method in a process of its own: ``RUN STEPS [FAULT STEP]``.

The fault happens after the step: ``kill``; ``kill-in-save``: in the middle of the next checkpoint;
``slow``: say so, and take long over each step from there on.
"""

import os
import signal
import sys
import time
from pathlib import Path

from shapewright.cli import main as cli
from shapewright.engine.run_dir import RunDir
from shapewright.engine.trainer import TrainConfig, Trainer
from tests.engine.toy import ToyMethod


def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def cause(fault, step, at):
    if fault == "kill" and step == at:
        die()
    elif fault == "kill-in-save" and step == at:
        os.fsync = die
    elif fault == "slow" and step >= at:
        print(step, flush=True)
        time.sleep(0.02)


def train(words):
    path, steps, fault, at = [*words, "", "0"][:4]
    config = TrainConfig(steps=int(steps), log_every=1, checkpoint_every_steps=50)
    run = RunDir.open(Path(path)) if Path(path).exists() else RunDir.create(Path(path), {}, words)
    Trainer(ToyMethod(), run, config, [lambda t, m, v: cause(fault, t.step, int(at))]).fit()


if __name__ == "__main__":
    cli.run_verb = train
    sys.exit(cli.main())
