"""The jobs of one shape on folders: what the command line calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from shapewright.engine.checkpoint import list_checkpoints, load_checkpoint
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.device import prepare_process
from shapewright.engine.run_dir import RunDir
from shapewright.engine.trainer import Trainer
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import file_sha256
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.methods.deep_sdf.single_config import SingleConfig
from shapewright.methods.deep_sdf.single_data import TrainingPoints, read_training_points
from shapewright.methods.deep_sdf.single_mesh import extract_mesh, fit_metrics, truth_metrics
from shapewright.methods.deep_sdf.single_method import SingleShapeMethod

Components = Literal["supported", "largest", "all"]


@dataclass(frozen=True, kw_only=True)
class SingleStart:
    """Say how a run starts.

    Args:
        seed: Start of all random numbers.
        command: The command line, for the record.
        force: Replace an earlier run in the folder.
        truth: The true mesh, if there is one to measure against.
    """

    seed: int = 0
    command: Sequence[str] = ()
    force: bool = False
    truth: Path | None = None


def reconstruct_single(config: SingleConfig, input_path: Path, out: Path, start: SingleStart | None = None) -> Path:
    """Turn one scan, set of signed distances or mesh into a clean mesh, with its figures and a report.

    Args:
        config: Settings.
        input_path: The scan.
        out: The run folder; new or empty.
        start: Seed, record, true mesh.

    Returns:
        The run folder, with ``meshes/mesh.glb`` in the input's units, ``metrics.json`` and ``report.html``.

    Raises:
        UserError: if the input or the folder cannot be used, or training diverges.
    """
    start = start or SingleStart()
    began = time.process_time()
    prepare_process()
    RunDir.check_new(out, start.force)
    if start.truth is not None:
        read_mesh(start.truth)
    data = read_training_points(input_path, config, start.seed)
    details = {
        "method": "deep_sdf",
        "mode": "single",
        "data": str(input_path.resolve()),
        "data_sha256": file_sha256(input_path),
        "truth": None if start.truth is None else str(start.truth.resolve()),
        "device": "cpu",
        "seed": start.seed,
    }
    run = RunDir.create(out, to_dict(config), start.command, details, start.force)
    for note in data.notes:
        run.log(f"{input_path.name}: {note}")
    _finish(run, config, data, {"preparation": time.process_time() - began})
    return run.path


def resume_single(run_path: Path) -> Path:
    """Go on with a run from its latest checkpoint, and make mesh and report; return the run folder.

    Raises:
        UserError: if the folder is no such run, or its input is gone or has changed.
    """
    began = time.process_time()
    prepare_process()
    run = _open(run_path)
    config = from_dict(SingleConfig, run.config)
    data = _read_again(run, config)
    _finish(run, config, data, {"preparation": time.process_time() - began})
    return run.path


def evaluate_single(
    run_path: Path, truth: Path | None = None, checkpoint: Literal["latest", "best"] | int = "latest"
) -> dict[str, Any]:
    """Measure the mesh of a run, write ``metrics.json``, and return what it holds.

    Args:
        run_path: The run folder.
        truth: The true mesh; by default the one that the run was started with, if any.
        checkpoint: Which state to draw the mesh from, if it is not there yet.
    """
    prepare_process()
    run, method = open_single(run_path, checkpoint)
    if truth is None and run.info.get("truth"):
        truth = Path(run.info["truth"])
    path = run.meshes / "mesh.glb"
    mesh = read_mesh(path) if path.is_file() else extract_mesh(method, method.config.mesh)
    return _measure(run, method, mesh, truth)


def export_single(
    run_path: Path,
    formats: Sequence[str] = ("glb",),
    resolution: int | None = None,
    components: Components | None = None,
    keep_normalized: bool = False,
) -> list[Path]:
    """Draw the mesh of a run again and write it in every format; return the files.

    Args:
        run_path: The run folder.
        formats: ``glb``, ``ply``, ``obj``.
        resolution: Lattice points along the longest side; by default the run's.
        components: Which parts to keep; by default the run's.
        keep_normalized: Stay in normalised units instead of the input's.
    """
    prepare_process()
    run, method = open_single(run_path)
    config = method.config.mesh
    config = dataclasses.replace(
        config, resolution=resolution or config.resolution, components=components or config.components
    )
    mesh = extract_mesh(method, config, keep_normalized)
    written = [run.meshes / f"mesh.{suffix}" for suffix in formats]
    for path in written:
        write_mesh(path, mesh)
    return written


def open_single(
    run_path: Path, checkpoint: Literal["latest", "best"] | int = "latest"
) -> tuple[RunDir, SingleShapeMethod]:
    """Return a run and its method as of a checkpoint.

    Raises:
        UserError: if the folder is no run of one shape, has no checkpoint, or its input is gone or has changed.
    """
    run = _open(run_path)
    config = from_dict(SingleConfig, run.config)
    method = SingleShapeMethod(config, _read_again(run, config), int(run.info["seed"]))
    method.load_state_dict(load_checkpoint(run, checkpoint)[1])
    return run, method


def _open(run_path: Path) -> RunDir:
    run = RunDir.open(run_path)
    if run.info.get("mode") != "single":
        raise UserError(
            f"{run_path} is not a run of one shape, but of {run.info.get('method', 'an unknown method')!r}.",
            "Give a folder that `shapewright reconstruct SCAN --out` wrote.",
        )
    return run


def _read_again(run: RunDir, config: SingleConfig) -> TrainingPoints:
    """Return the training points of a run, from the very same file as at its start."""
    path = Path(run.info["data"])
    if not path.is_file():
        raise UserError(f"The input of {run.path} is gone: {path}.", "Put the file back.")
    if file_sha256(path) != run.info["data_sha256"]:
        raise UserError(f"{path} is not the file that {run.path} was started with.", "Start a new run with it.")
    return read_training_points(path, config, int(run.info["seed"]))


def _finish(run: RunDir, config: SingleConfig, data: TrainingPoints, seconds: dict[str, float]) -> None:
    """Train to the end, then draw, measure and report."""
    from shapewright.methods.deep_sdf.single_report import write_single_report

    clock = _Clock(seconds)
    method = SingleShapeMethod(config, data, int(run.info["seed"]))
    if not list_checkpoints(run):
        method.fit_sphere()
    Trainer(method, run, config.train).fit()
    clock.lap("training")
    mesh = extract_mesh(method, config.mesh)
    write_mesh(run.meshes / "mesh.glb", mesh)
    clock.lap("mesh")
    truth = None if run.info.get("truth") is None else Path(run.info["truth"])
    result = _measure(run, method, mesh, truth)
    clock.lap("evaluation")
    write_single_report(run, data, mesh, result, seconds)


class _Clock:
    """Add the CPU seconds since the last call to a dictionary."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds, self._last = seconds, time.process_time()

    def lap(self, name: str) -> None:
        """Name what was done since the last call."""
        now = time.process_time()
        self._seconds[name] = self._seconds.get(name, 0.0) + now - self._last
        self._last = now


def _measure(run: RunDir, method: SingleShapeMethod, mesh: Mesh, truth: Path | None) -> dict[str, Any]:
    """Write ``metrics.json`` of a mesh and return what it holds."""
    wall, cpu = time.monotonic(), time.process_time()
    metrics = fit_metrics(method, mesh)
    if truth is not None:
        metrics |= truth_metrics(mesh, read_mesh(truth))
    steps = list_checkpoints(run)
    name = Path(run.info["data"]).name
    result = {
        "schema": 1,
        "method": "deep_sdf",
        "protocol": "one shape against its input" + ("" if truth is None else " and the true mesh"),
        "split": "input",
        "checkpoint": steps[-1] if steps else 0,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.monotonic() - wall, 2),
        "metrics": metrics,
        "controls": {},
        "items": [{"id": name, **metrics}],
    }
    run.write_metrics(result)
    return result
