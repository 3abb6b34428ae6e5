"""The jobs of ``deep_sdf`` on folders: what the command line calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from shapewright.data.sdf_samples import write_split
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.export.metric_tables import summarize_metrics, write_chamfer_csv, write_metrics_csv
from shapewright.io.meshes import write_mesh
from shapewright.methods.deep_sdf.fitting import with_weights
from shapewright.methods.deep_sdf.judging import Judged, code_path, codes_of, judge
from shapewright.methods.deep_sdf.report import write_run_report
from shapewright.methods.deep_sdf.results import read_code
from shapewright.methods.deep_sdf.shapes import TRAIN_SPLIT
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.methods.deep_sdf.training import import_original, resume, train

__all__ = ["Start", "evaluate", "export", "export_original", "import_original", "resume", "train"]

Split = Literal["test", "train"]
Checkpoint = Literal["latest", "best"] | int


def evaluate(
    run_path: Path,
    split: Split | None = None,
    checkpoint: Checkpoint = "latest",
    num_points: int = 30_000,
    refine: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Measure a run on its held-out shapes (or, without any, on the learned ones), and write tables and the report.

    Writes ``metrics.json``, ``metrics.csv``, ``chamfer.csv`` (as the original), ``report.html`` and the meshes.

    Args:
        run_path: The run folder.
        split: Which shapes; learned ones are drawn from their own codes, the others fitted first.
        checkpoint: Of which step.
        num_points: Points of the Chamfer distance.
        refine: Fit the last layers to each held-out shape as well.
        overwrite: Fit codes again that were fitted before.

    Raises:
        UserError: if the run or its samples cannot be read, or the split is empty.
    """
    wall, cpu = time.monotonic(), time.process_time()
    space = ShapeSpace.open(run_path, checkpoint=checkpoint)
    split = split or ("test" if space.shapes.test else "train")
    if split == "train":
        keys = [space.shapes.train[place] for place in space.shapes.originals]
        judged = [judge(space, key, space.codes[space.names[str(key)]], num_points) for key in keys]
    else:
        if not space.shapes.test:
            raise UserError(f"{run_path} has no held-out shapes.", "Use --split train, or train with a test split.")
        judged = [
            judge(space, key, stored.code, num_points, with_weights(space.decoder, stored.refined if refine else {}))
            for key, stored in codes_of(space, space.shapes.test, refine, overwrite).items()
        ]
    _write_meshes(space, judged)
    rows = {str(shape.key): shape.metrics for shape in judged}
    result = {
        "schema": 1,
        "method": "deep_sdf",
        "protocol": f"{split} shapes, {'last layers fitted, ' * refine}Chamfer from {num_points} points, unit sphere",
        "split": split,
        "checkpoint": space.step,
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.monotonic() - wall, 2),
        "metrics": summarize_metrics(rows),
        "controls": {},
        "items": [shape.item() for shape in judged],
    }
    space.run.write_metrics(result)
    write_metrics_csv(space.run.path / "metrics.csv", rows)
    chamfers = {
        name: row["chamfer_x1000_original"] / 1000 for name, row in rows.items() if "chamfer_x1000_original" in row
    }
    write_chamfer_csv(space.run.path / "chamfer.csv", chamfers)
    write_run_report(space, judged, result)
    return result


def _write_meshes(space: ShapeSpace, judged: Sequence[Judged]) -> None:
    """Write the shapes in the units of their files; the first one is ``mesh.glb``."""
    shown = [shape for shape in judged if shape.mesh is not None]
    for place, shape in enumerate(shown):
        mesh = shape.mesh
        if mesh is None:
            continue
        if shape.truth is not None:
            to_unit = shape.truth.to_unit
            mesh = mesh.transformed(1.0 / to_unit.scale, -to_unit.offset)
        write_mesh(space.run.meshes / f"{code_path(space, shape.key).stem}.glb", mesh)
        if place == 0:
            write_mesh(space.run.meshes / "mesh.glb", mesh)


def export(
    run_path: Path,
    formats: Sequence[str] = ("glb",),
    ids: Sequence[str] = (),
    resolution: int | None = None,
    keep_normalized: bool = False,
) -> list[Path]:
    """Draw learned shapes from their codes and write them in every format; return the files.

    Args:
        run_path: The run folder.
        formats: ``glb``, ``ply``, ``obj``.
        ids: Names of shapes; none: all that were learned, variants left out.
        resolution: Lattice points a side; the run's by default.
        keep_normalized: Stay in the unit sphere; otherwise the units of the mesh files are restored where known.

    Raises:
        UserError: if a shape is unknown, or a field has no surface.
    """
    space = ShapeSpace.open(run_path)
    names = list(ids) or [str(space.shapes.train[place]) for place in space.shapes.originals]
    config = dataclasses.replace(space.config.mesh, resolution=resolution or space.config.mesh.resolution)
    written = []
    for name in names:
        mesh = space.mesh(space.code(name), config=config)
        place = space.names.get(name)
        key = None if place is None else space.shapes.train[place]
        to_unit = None if key is None or keep_normalized else space.shapes.folder.normalisation(key)
        if to_unit is not None:
            mesh = mesh.transformed(1.0 / to_unit.scale, -to_unit.offset)
        stem = name.replace("/", "__") if key is None else code_path(space, key).stem
        for suffix in formats:
            path = space.run.meshes / f"{stem}.{suffix}"
            write_mesh(path, mesh)
            written.append(path)
    return written


def export_original(run_path: Path, out: Path) -> Path:
    """Write the run, and the codes fitted with it, as an experiment folder of the original program; return it."""
    from shapewright.engine.checkpoint import load_checkpoint
    from shapewright.methods.deep_sdf.original import reconstructed_code_path, write_code, write_experiment

    space = ShapeSpace.open(run_path)
    _, tensors, _ = load_checkpoint(space.run, space.step)
    state = {name.removeprefix("decoder."): value for name, value in tensors.items() if name.startswith("decoder.")}
    steps_per_epoch = max(1, len(space.shapes.train) // space.config.data.shapes_per_batch)
    epoch = max(1, space.step // steps_per_epoch)
    data = dataclasses.replace(space.config.data, train_split=TRAIN_SPLIT)
    config = dataclasses.replace(space.config, data=data)
    write_experiment(out, config, state, torch.as_tensor(tensors["codes.codes"]), epoch)
    write_split(out / TRAIN_SPLIT, space.shapes.train)
    for key in space.shapes.test:
        if code_path(space, key).exists():
            code = read_code(code_path(space, key), space.codes.shape[1]).code
            write_code(reconstructed_code_path(out, epoch, key), code)
    return out
