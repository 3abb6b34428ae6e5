"""The report of a surface run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from shapewright.data.scene import Scene
from shapewright.engine.run_dir import RunDir
from shapewright.export.html import write_report
from shapewright.export.pictures import error_map
from shapewright.export.report import Panel, Report, Table, curves_of, metrics_table
from shapewright.geometry.mesh import Mesh
from shapewright.io.meshes import read_mesh
from shapewright.methods.surface.evaluation import TRUE_MESH, EvaluatedView
from shapewright.methods.surface.pictures import as_bytes, draw, mean_up

_CURVES = {"photometric": "mean absolute error", "eikonal": "(|gradient| - 1)^2", "mask": "cross-entropy", "loss": ""}
_HEADLINES = {
    "psnr_misses_black": ("PSNR on the object", "{:.2f} dB"),
    "psnr_full_white": ("PSNR of whole pictures", "{:.2f} dB"),
    "silhouette_iou": ("Outline overlap (IoU)", "{:.4f}"),
    "surface_distance_pct": ("Distance to the true surface", "{:.3f} % of the diagonal"),
}


def write_run_report(
    run: RunDir,
    scene: Scene,
    mesh: Mesh,
    result: Mapping[str, Any],
    views: Sequence[EvaluatedView],
    timings: Mapping[str, float],
) -> None:
    """Write ``report.html`` of a run, with its mesh, held-out views, metrics, curves and timings."""
    metrics = result["metrics"]
    kind = "Held-out" if result["split"] == "test" else "Training"
    summary = [(label, form.format(metrics[name])) for name, (label, form) in _HEADLINES.items() if name in metrics]
    summary += [
        ("Pictures", f"{len(scene.train)} for training, {len(scene.test)} held out"),
        ("Mesh", f"{mesh.num_vertices:,} vertices, {mesh.num_faces:,} triangles"),
        ("Time", f"{sum(timings.values()):.0f} s"),
    ]
    names = list(result["items"][0]) if result["items"] else []
    truth = scene.path / TRUE_MESH
    report = Report(
        title=f"{scene.path.resolve().name}: a surface from {len(scene.train)} pictures",
        command=" ".join(run.info.get("command", [])),
        summary=summary,
        mesh=mesh,
        other_meshes=[("true mesh", read_mesh(truth))] if truth.is_file() else [],
        mesh_up=_triple(mean_up(scene)),
        mesh_eye=_triple(scene.cameras[list(scene.train)].centers.mean(0)),
        panels=[_panel(view, kind) for view in views],
        curves=curves_of(run.read_metrics(), _CURVES),
        tables=[
            metrics_table(f"Mean over the {kind.lower()} views", metrics),
            metrics_table("Controls", result["controls"]),
            Table(f"{kind} views", names, [[item[name] for name in names] for item in result["items"]]),
            Table("Timings", ["part", "seconds"], [[part, round(value, 1)] for part, value in timings.items()]),
        ],
        settings=run.config,
    )
    write_report(run.path / "report.html", report)


def _triple(vector: torch.Tensor) -> tuple[float, float, float]:
    x, y, z = vector.tolist()
    return x, y, z


def _panel(view: EvaluatedView, kind: str) -> Panel:
    """Return the pictures of one view: photo, render, error, normals, depth."""
    rgb = torch.from_numpy(view.picture.rgb.astype(np.float32) / 255.0)
    if view.picture.alpha is None:
        photo = rgb
    else:
        alpha = torch.from_numpy(view.picture.alpha.astype(np.float32) / 255.0)[..., None]
        photo = rgb * alpha + 1.0 - alpha
    rendered = view.rendering.rgb + 1.0 - view.rendering.opacity[..., None]
    images = [
        ("photo", as_bytes(photo)),
        ("render", draw(view.rendering, "rgb")),
        ("error", error_map(rendered, photo)),
        ("normals", draw(view.rendering, "normal")),
        ("depth", draw(view.rendering, "depth")),
    ]
    psnr = view.metrics.get("psnr_misses_black", view.metrics.get("psnr_full", float("nan")))
    return Panel(f"{kind} view {view.name}: {psnr:.2f} dB", images)
