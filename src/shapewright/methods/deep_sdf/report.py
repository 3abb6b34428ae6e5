"""The report of a shape space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shapewright.export.html import write_report
from shapewright.export.metric_tables import metrics_by_shape
from shapewright.export.report import Panel, Report, curves_of, metrics_table
from shapewright.methods.deep_sdf.judging import Judged
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.rendering.mesh_pictures import draw_mesh
from shapewright.rendering.picture_camera import MeshView

_HEADLINES = {
    "chamfer_x1000_mean": ("Chamfer distance x1000, mean", "{:.3f}"),
    "f_score_radius_2pct_mean": ("F-score at 2 % of the radius", "{:.3f}"),
    "volume_iou_mean": ("Shared volume (IoU)", "{:.3f}"),
    "normal_consistency_mean": ("Normal consistency", "{:.3f}"),
}
_TABLE = (
    "chamfer_x1000", "chamfer_floor_x1000", "chamfer_x1000_original", "f_score_radius_1pct", "f_score_radius_2pct",
    "normal_consistency", "volume_iou", "mesh_accuracy_p90", "completion_share_01", "accuracy_mean",
    "completeness_mean", "sign_accuracy", "sdf_error",
)  # fmt: skip
_CURVES = {"sdf_loss": "clamped distance", "loss": "", "code_norm": "mean length of a code", "positive_share": ""}
_LARGEST_PANELS = 40
VIEW = MeshView(center=(0.0, 0.0, 0.0), radius=1.0, size_px=320)


def write_run_report(space: ShapeSpace, judged: Sequence[Judged], result: Mapping[str, Any]) -> None:
    """Write ``report.html``: the shapes beside their truths, tables, curves, settings."""
    metrics = result["metrics"]
    kind = "Held-out" if result["split"] == "test" else "Learned"
    summary = [(label, form.format(metrics[name])) for name, (label, form) in _HEADLINES.items() if name in metrics]
    summary += [
        ("Shapes", f"{len(space.shapes.train)} learned, {len(space.shapes.test)} held out, {len(judged)} measured"),
        ("Without a surface", str(sum(shape.mesh is None for shape in judged))),
        ("Code", f"{space.codes.shape[1]} numbers"),
    ]
    first = next((shape for shape in judged if shape.mesh is not None), None)
    rows = {shape.key.name: shape.metrics for shape in judged}
    names = tuple(name for name in _TABLE if any(name in row for row in rows.values()))
    others = [(f"true {first.key.name}", first.truth.mesh)] if first is not None and first.truth is not None else []
    report = Report(
        title=f"{space.run.path.resolve().name}: a shape space of {len(space.shapes.originals)} shapes",
        command=" ".join(space.run.info.get("command", [])),
        summary=summary,
        mesh=None if first is None else first.mesh,
        other_meshes=others,
        panels=[_panel(shape, kind) for shape in judged[:_LARGEST_PANELS]],
        panels_title="Shapes",
        panels_note="Held-out shapes were not learned: their codes were fitted." if kind == "Held-out" else "",
        curves=curves_of(space.run.read_metrics(), _CURVES),
        tables=[
            metrics_table(f"Mean over the {kind.lower()} shapes", metrics),
            metrics_by_shape(f"{kind} shapes", rows, names, "Lengths in radii of the unit sphere unless said."),
        ],
        settings=space.run.config,
    )
    write_report(space.run.path / "report.html", report)


def _panel(shape: Judged, kind: str) -> Panel:
    """Return the pictures of one shape: truth and reconstruction."""
    images = []
    if shape.truth is not None:
        images.append(("truth", draw_mesh(shape.truth.mesh, VIEW)))
    if shape.mesh is not None:
        images.append(("shape space", draw_mesh(shape.mesh, VIEW)))
    score = shape.metrics.get("chamfer_x1000")
    note = shape.problem or ("" if score is None else f"Chamfer x1000 {score:.3f}")
    return Panel(f"{kind} shape {shape.key.name}", images, note)
