"""Checkpoints: tensors in safetensors, the rest in JSON, a SHA-256 over the tensors.

``checkpoints/step_00000100.safetensors`` holds the tensors and ``step_00000100.json`` says
``{"schema", "step", "sha256", "score", "meta"}``. The JSON is written last, so that a checkpoint
without it does not exist. A flipped byte loads silently in safetensors: the hash finds it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
from torch import Tensor, contiguous_format

from shapewright.engine.run_dir import SCHEMA, RunDir
from shapewright.errors import UserError
from shapewright.io.files import atomic_write, read_json, write_json

NAME = re.compile(r"step_\d{8,}\.(json|safetensors)|\.step_.*\.tmp")

Checkpoint = tuple[int, dict[str, Tensor], dict[str, Any]]


def save_checkpoint(
    run: RunDir,
    step: int,
    tensors: dict[str, Tensor],
    meta: dict[str, Any],
    keep_last: int = 3,
    score: float | None = None,
) -> None:
    """Write a checkpoint atomically; then delete all but the newest ``keep_last``, the best and the kept ones.

    Checkpoints of later steps go too: they are damaged, or of a future that is computed anew.

    Args:
        run: The run it belongs to.
        step: Number of steps made.
        tensors: Everything needed to go on: parameters, optimizer and generator states.
        meta: Plain values for the JSON; with ``"kept": True`` it stays for good.
        keep_last: How many of the newest to keep, at least 1.
        score: How good it is, higher is better; none: not measured.

    Raises:
        UserError: if the disk is full; the checkpoints before stay whole.
    """
    own = {name: value.detach().cpu().clone(memory_format=contiguous_format) for name, value in tensors.items()}
    data = safetensors.torch.save(own)
    stem = run.checkpoints / f"step_{step:08d}"
    summary = {
        "schema": SCHEMA,
        "step": step,
        "sha256": hashlib.sha256(data).hexdigest(),
        "score": score if score is not None and math.isfinite(score) else None,
        "meta": meta,
    }
    atomic_write(stem.with_suffix(".safetensors"), data)
    write_json(stem.with_suffix(".json"), summary)
    _prune(run, step, keep_last)


def load_checkpoint(run: RunDir, which: Literal["latest", "best"] | int = "latest") -> Checkpoint:
    """Return the step, tensors and meta of a checkpoint whose hash is right.

    Args:
        run: The run.
        which: ``latest``, ``best`` (highest score; without scores, the latest, and the log says so), or a step.

    Raises:
        UserError: if there is none, or all that fit ``which`` are damaged.
    """
    for path in _candidates(run, which):
        try:
            found = _read(path)
        except UserError as error:
            run.log(f"{error.message} Trying the checkpoint before it.", logging.WARNING)
            continue
        if which == "best" and _score(path) == -math.inf:
            run.log(f"No whole checkpoint has a score: taking the latest, step {found[0]}.", logging.WARNING)
        return found
    steps = list_checkpoints(run)
    hint = f"Steps with a checkpoint: {', '.join(map(str, steps))}." if steps else "Train it again, with --force."
    raise UserError(f"{run.path} has no intact checkpoint {which!r}.", hint)


def list_checkpoints(run: RunDir) -> list[int]:
    """Return the steps that have a checkpoint, oldest first."""
    return [_step(path) for path in _summaries(run)]


def score_of(run: RunDir, step: int) -> float | None:
    """Return the score of the checkpoint of a step; none: it was not measured, or there is none."""
    scores = [_score(path) for path in _candidates(run, step)]
    return scores[0] if scores and scores[0] > -math.inf else None


def _summaries(run: RunDir) -> list[Path]:
    paths = run.checkpoints.glob("step_*.json")
    return sorted((path for path in paths if NAME.fullmatch(path.name)), key=_step)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))


def _candidates(run: RunDir, which: str | int) -> list[Path]:
    """Return the summaries to try in turn."""
    newest_first = _summaries(run)[::-1]
    if isinstance(which, int):
        return [path for path in newest_first if _step(path) == which]
    if which == "best":
        return sorted(newest_first, key=_score, reverse=True)
    return newest_first


def _score(path: Path) -> float:
    """Return the score of a checkpoint; damaged or without a score: minus infinity."""
    try:
        score = read_json(path).get("score")
    except UserError:
        return -math.inf
    return -math.inf if score is None else float(score)


def _is_kept(path: Path) -> bool:
    """Tell if a checkpoint shall stay; a damaged one need not."""
    try:
        return bool(read_json(path)["meta"].get("kept"))
    except (UserError, KeyError, AttributeError):
        return False


def _read(path: Path) -> Checkpoint:
    """Return a checkpoint, or raise ``UserError`` if a part is missing or damaged."""
    summary = read_json(path)
    tensor_path = path.with_suffix(".safetensors")
    try:
        data = tensor_path.read_bytes()
        if summary["schema"] != SCHEMA:
            raise UserError(f"{path} has schema {summary['schema']!r}, not {SCHEMA}.")
        if hashlib.sha256(data).hexdigest() != summary["sha256"]:
            raise UserError(f"{tensor_path} is damaged: its SHA-256 is wrong.")
        return int(summary["step"]), safetensors.torch.load(data), summary["meta"]
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{tensor_path} cannot be read: {error}.") from error


def _prune(run: RunDir, step: int, keep_last: int) -> None:
    """Delete the files of all checkpoints but those to keep, and what a crash left behind."""
    summaries = [path for path in _summaries(run) if _step(path) <= step]
    kept = {path.stem for path in summaries[-keep_last:]}
    best = max(summaries, key=_score)
    if _score(best) > -math.inf:
        kept.add(best.stem)
    kept.update(path.stem for path in summaries if _is_kept(path))
    for path in run.checkpoints.iterdir():
        if NAME.fullmatch(path.name) and path.stem not in kept:
            path.unlink(missing_ok=True)
