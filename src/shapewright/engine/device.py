"""The processor that a run uses, and the threads of the process."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from shapewright.errors import UserError


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that ``name`` means.

    Args:
        name: ``auto`` (a CUDA device if there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: if the name is unknown or the machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (":" in name and not index.isdecimal()):
        raise UserError(f"Unknown device {name!r}.", "Use auto, cpu, cuda or cuda:N.")
    if kind == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if int(index or 0) >= count:
        raise UserError(
            f"There is no device {name!r}: torch sees {count} CUDA devices.",
            "Use --device cpu, or run `shapewright doctor` to see what torch finds.",
        )
    return torch.device(name)


def half_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the type of the hidden layers' products: ``auto`` is bf16 where the processor multiplies it natively."""
    if name == "fp32":
        return torch.float32
    if name == "bf16":
        return torch.bfloat16
    native = torch.cuda.is_bf16_supported(False) if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def prepare_process(threads: int | None = None) -> None:
    """Set the floating-point mode and the number of threads; call it before any other torch work.

    Denormal numbers cost up to a hundred times a normal one on CPUs and appear in every
    decaying Adam state. Threads inherit the mode when they start, so it must come first.

    Args:
        threads: Threads of torch; none: ``OMP_NUM_THREADS``, or all that the process may use.
    """
    torch.set_flush_denormal(True)
    if threads is not None or "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads if threads is not None else available_cpus())


def available_cpus() -> int:
    """Return the number of processors this process may use: affinity and container limit."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _container_limit(Path("/sys/fs/cgroup/cpu.max"))
    return max(1, min(count, limit) if limit is not None else count)


def _container_limit(path: Path) -> int | None:
    """Return the processors a control group grants (``quota period`` in microseconds)."""
    try:
        quota, period = path.read_text(encoding="ascii").split()
        return None if quota == "max" else -(-int(quota) // int(period))
    except (OSError, ValueError):
        return None
