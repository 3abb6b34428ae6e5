"""Which back end runs a kernel, why not another, and whether it computes the right thing.

``reference`` is plain torch and runs anywhere, ``cpu`` is numba, ``warp`` is NVIDIA Warp (CUDA, and its CPU device when
asked for). Nothing is loaded before its first use.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from types import ModuleType
from typing import NamedTuple

import torch

from shapewright.errors import UserError

VARIABLE = "SHAPEWRIGHT_KERNELS"
NAMES = ("reference", "cpu", "warp")
_asked: ContextVar[str | None] = ContextVar("kernels", default=None)


class Problem(NamedTuple):
    """Say why a back end cannot run, and what would mend it."""

    message: str
    hint: str


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run the kernels called inside on one back end; this wins over the environment variable.

    Args:
        name: ``reference``, ``cpu``, ``warp``, or ``auto`` for the choice by device.

    Raises:
        ValueError: if there is no such back end.
    """
    if name not in (*NAMES, "auto"):
        raise ValueError(f"name must be one of {', '.join((*NAMES, 'auto'))}, got {name!r}.")
    token = _asked.set(name)
    try:
        yield
    finally:
        _asked.reset(token)


def choose(device_type: str) -> str:
    """Return the back end for tensors of a device: the one asked for, or else the fastest that can run.

    Args:
        device_type: ``cpu``, ``cuda`` or another of torch's.

    Raises:
        UserError: if a back end was asked for that cannot run, or does not exist.
    """
    asked = _asked.get() or os.environ.get(VARIABLE) or "auto"
    if asked == "auto":
        return _automatic(device_type)
    if asked not in NAMES:
        raise UserError(f"{VARIABLE}={asked} names no back end.", f"Use one of auto, {', '.join(NAMES)}.")
    problem = find_problem(asked, device_type)
    if problem is not None:
        raise UserError(f"The back end {asked} cannot run on {device_type}: {problem.message}.", problem.hint)
    return asked


@lru_cache(maxsize=16)
def _automatic(device_type: str) -> str:
    name = {"cpu": "cpu", "cuda": "warp"}.get(device_type, "reference")
    problem = find_problem(name, device_type)
    if problem is None:
        return name
    warnings.warn(
        f"Kernels run slowly on {device_type}, in plain torch: {problem.message}. {problem.hint}",
        RuntimeWarning,
        stacklevel=4,
    )
    return "reference"


@lru_cache(maxsize=16)
def find_problem(name: str, device_type: str) -> Problem | None:
    """Return why a back end cannot run on a device, or None if it can; compiles a first kernel to find out."""
    if name == "reference":
        return None
    if name == "cpu" and device_type != "cpu":
        return Problem("numba's kernels read tensors of the processor only", "Use warp, or move the tensors.")
    try:
        trial = load(name, "softplus")
        if device_type == "cuda" and not load("warp", "device").has_cuda():
            hint = "Install driver R580 or newer, or run: pip install 'warp-lang<1.18'"
            return Problem("Warp finds no CUDA driver that it can use", hint)
        trial.softplus(torch.zeros(1, device=device_type), 1.0)
    except ImportError as error:
        package = "numba" if name == "cpu" else "shapewright[cuda]"
        return Problem(f"{_first_line(error)}", f"Run: pip install '{package}'")
    except Exception as error:
        return Problem(
            f"its first kernel failed ({_first_line(error)})", "Run shapewright doctor and report its output."
        )
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


@lru_cache(maxsize=64)
def load(name: str, operation: str) -> ModuleType:
    """Return the module of a back end's raw functions, which know no autograd.

    Args:
        name: Back end.
        operation: ``hash_grid``, ``softplus``, ``marching`` or ``compositing``.
    """
    return importlib.import_module(f"shapewright.kernels.{name}.{operation}")
