"""When a run ends, and where in it a step stands."""

from __future__ import annotations

from dataclasses import dataclass

from shapewright.checks import check_range


@dataclass(frozen=True)
class Moment:
    """Where training stands.

    Args:
        step: Number of steps made so far.
        progress: Share of the steps or of the time budget used, in [0, 1].
    """

    step: int
    progress: float


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Length of a training run and how often it reports and saves.

    Args:
        steps: Stop after this many steps.
        minutes: Stop after this much training time; with ``steps`` too, whichever comes first.
        log_every: Steps between two rows of metrics.
        checkpoint_every_steps: Steps between two checkpoints; none: by time alone.
        checkpoint_every_seconds: Seconds between two checkpoints; none: by steps alone.
        keep_last: Number of newest checkpoints to keep, beside the best.
        max_bad_steps: Give up after this many non-finite steps in a row.
    """

    steps: int | None = None
    minutes: float | None = None
    log_every: int = 50
    checkpoint_every_steps: int | None = None
    checkpoint_every_seconds: float | None = 60.0
    keep_last: int = 3
    max_bad_steps: int = 10

    def __post_init__(self) -> None:
        """Check that the run has an end and that the counts are positive."""
        if self.steps is None and self.minutes is None:
            raise ValueError("A training run needs steps or minutes.")
        for name in ("steps", "log_every", "checkpoint_every_steps", "keep_last", "max_bad_steps"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 1)
        for name in ("minutes", "checkpoint_every_seconds"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, 0.0)

    def progress(self, step: int, seconds: float) -> float:
        """Return the share of the run that ``step`` steps in ``seconds`` seconds make, in [0, 1]."""
        by_steps = step / self.steps if self.steps is not None else 0.0
        by_time = 0.0
        if self.minutes is not None:
            by_time = seconds / (60.0 * self.minutes) if self.minutes > 0 else 1.0
        return min(max(by_steps, by_time), 1.0)
