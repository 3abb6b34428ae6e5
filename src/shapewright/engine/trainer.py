"""The training loop: cadence, resume, time budget, the non-finite guard, signals."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shapewright.engine.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from shapewright.engine.run_dir import RunDir
from shapewright.engine.schedule import Moment, TrainConfig
from shapewright.engine.signals import caught_signals
from shapewright.errors import TrainingDiverged

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Method", "Moment", "TrainConfig", "TrainResult", "Trainer"]

TICK_SECONDS = 0.5
progress_logger = logging.getLogger("shapewright.progress")


class Method(Protocol):
    """What can be trained: it owns its optimizers and calls backward itself."""

    def next_batch(self, moment: Moment) -> Any:
        """Return the data of the next step."""
        ...

    def train_step(self, batch: Any, moment: Moment) -> Mapping[str, float | Tensor]:
        """Make one step and return scalars; ``{"skipped": 1.0}`` and no change if not finite."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything needed to go on exactly: optimizer and generator states too."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        ...


@dataclass(frozen=True)
class TrainResult:
    """Number of steps made and seconds of training used, over all parts of the run."""

    step: int
    seconds: float


Callback = Callable[["Trainer", Moment, Mapping[str, Any]], None]


class Trainer:
    """Train a method in a run folder, going on from its latest checkpoint if it has one.

    Args:
        method: What to train.
        run: Where it is kept; the folder is locked while training.
        config: Length and cadence.
        callbacks: Called after each step with the trainer, the moment and the step's values.
    """

    def __init__(self, method: Method, run: RunDir, config: TrainConfig, callbacks: Sequence[Callback] = ()) -> None:
        self.method = method
        self.run = run
        self.config = config
        self.callbacks = callbacks
        self.step = 0
        self._first_step = 0
        self._seconds_before = 0.0
        self._started = time.monotonic()
        self._saved_step = -1
        self._saved_at = 0.0
        self._ticked_at = -math.inf
        self._bad_steps = 0

    @property
    def seconds(self) -> float:
        """Return the training time used so far, in seconds, earlier parts of the run included."""
        return self._seconds_before + time.monotonic() - self._started

    def fit(self) -> TrainResult:
        """Train until the steps or the minutes are used up, and leave a checkpoint of the end.

        Raises:
            TrainingDiverged: if too many steps in a row were not finite.
            KeyboardInterrupt: at SIGINT, after a checkpoint.
            SystemExit: with status 143 at SIGTERM, after a checkpoint.
            UserError: if the run is in use by another process, or the disk is full.
        """
        with self.run.lock(), caught_signals() as caught:
            self._resume()
            while (moment := self._moment()).progress < 1.0 and not caught:
                self._one_step(moment)
            if self.step != self._saved_step:
                self.save()
        if caught:
            self.run.log(f"Stopped by a signal after step {self.step}; `resume` goes on there.")
            if caught[0] == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + caught[0])
        return TrainResult(self.step, self.seconds)

    def save(self, score: float | None = None, kept: bool = False) -> None:
        """Write a checkpoint of this moment.

        Args:
            score: How good it is, higher is better, for ``best``.
            kept: Keep it when newer ones replace the others.
        """
        meta = {"seconds": self.seconds} | ({"kept": True} if kept else {})
        save_checkpoint(self.run, self.step, self.method.state_dict(), meta, self.config.keep_last, score)
        self._saved_step, self._saved_at = self.step, self.seconds

    def _moment(self) -> Moment:
        return Moment(self.step, self.config.progress(self.step, self.seconds))

    def _resume(self) -> None:
        """Load the latest checkpoint and drop the metrics after it; without one, start afresh."""
        if list_checkpoints(self.run):
            self.step, tensors, meta = load_checkpoint(self.run)
            self.method.load_state_dict(tensors)
            self._seconds_before = float(meta["seconds"])
            self._first_step = self._saved_step = self.step
            self.run.log(f"Going on after step {self.step}.")
        self.run.truncate_metrics(self.step)
        self._started = time.monotonic()
        self._saved_at = self._seconds_before

    def _one_step(self, moment: Moment) -> None:
        """Make one step, then report, call back and, unless a callback has saved, save as it is due."""
        values = self.method.train_step(self.method.next_batch(moment), moment)
        self.step += 1
        self._guard(values)
        self._report(values)
        for callback in self.callbacks:
            callback(self, moment, values)
        if self.step != self._saved_step and self._checkpoint_is_due():
            self.save()

    def _guard(self, values: Mapping[str, float | Tensor]) -> None:
        """Count non-finite steps in a row and give up when they are too many."""
        loss, skipped = float(values.get("loss", 0.0)), float(values.get("skipped", 0.0))
        if math.isfinite(loss) and not skipped:
            self._bad_steps = 0
            return
        self._bad_steps += 1
        self.run.log(f"Step {self.step} was not finite and was skipped.", logging.WARNING)
        if self._bad_steps >= self.config.max_bad_steps:
            raise TrainingDiverged(
                f"Training diverged: {self._bad_steps} steps in a row, up to step {self.step}, were not finite.",
                "Lower the learning rate, or check the data with `shapewright data check`.",
            )

    def _report(self, values: Mapping[str, float | Tensor]) -> None:
        """Append a row to the metrics when due, and tell the progress logger."""
        seconds = self.seconds
        progress = self.config.progress(self.step, seconds)
        due = self.step % self.config.log_every == 0 or self.step == 1 or progress >= 1.0
        if not due and seconds - self._ticked_at < TICK_SECONDS:
            return
        self._ticked_at = seconds
        numbers = {name: float(value) for name, value in values.items()}
        if due:
            self.run.append_metrics({"step": self.step, "seconds": round(seconds, 3)} | numbers)
        rate = (self.step - self._first_step) / max(seconds - self._seconds_before, 1e-9)
        left = int(seconds * (1.0 / progress - 1.0)) if progress > 0 else 0
        loss = f"  loss {numbers['loss']:.4g}" if "loss" in numbers else ""
        text = f"step {self.step}{loss}  {rate:.1f} steps/s  {left // 60}:{left % 60:02d} left"
        level = logging.INFO if due else logging.DEBUG
        progress_logger.log(level, text, extra={"progress": progress})

    def _checkpoint_is_due(self) -> bool:
        steps, seconds = self.config.checkpoint_every_steps, self.config.checkpoint_every_seconds
        by_steps = steps is not None and self.step % steps == 0
        return by_steps or (seconds is not None and self.seconds - self._saved_at >= seconds)
