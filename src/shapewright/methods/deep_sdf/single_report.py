"""The report of one reconstructed shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from shapewright.engine.run_dir import RunDir
from shapewright.export.html import write_report
from shapewright.export.report import Panel, Report, Table, curves_of, metrics_table
from shapewright.geometry.mesh import Mesh
from shapewright.io.images import write_image
from shapewright.io.meshes import read_mesh
from shapewright.methods.deep_sdf.single_config import SingleMeshConfig
from shapewright.methods.deep_sdf.single_data import TrainingPoints
from shapewright.rendering.mesh_pictures import PointLayer, draw_mesh
from shapewright.rendering.picture_camera import MeshView

_AZIMUTHS_DEG = (30.0, 120.0, 210.0, 300.0)
_PICTURE_PX = 420
_DRAWN_POINTS = 20_000
_CURVES = {
    "loss": "",
    "point": "weighted |f| at the points",
    "normal": "weighted |grad f - n|",
    "distance": "weighted distance beyond the bounds",
    "eikonal": "weighted (|grad f| - 1)^2",
}
_HEADLINES = {
    "f_score_radius_1pct": ("F-score at 0.01 of the unit sphere", "{:.4f}"),
    "f_score_1pct": ("F-score at 1 % of the diagonal", "{:.4f}"),
    "chamfer_x1000": ("Chamfer x 1000", "{:.4f}"),
    "input_share_01": ("Input points within 0.01 of the mesh", "{:.4f}"),
    "sign_accuracy": ("Signs right at the samples", "{:.4f}"),
    "components": ("Connected parts", "{:.0f}"),
}


def write_single_report(
    run: RunDir, data: TrainingPoints, mesh: Mesh, result: Mapping[str, Any], seconds: Mapping[str, float]
) -> None:
    """Write ``report.html`` and the pictures of a run.

    Args:
        run: The run.
        data: What the shape was trained on.
        mesh: Its mesh, in the input's units.
        result: What ``metrics.json`` holds.
        seconds: CPU seconds of each part of the job.
    """
    metrics, info = result["metrics"], run.info
    truth = None if info.get("truth") is None else read_mesh(Path(info["truth"]))
    name = Path(info["data"]).name
    summary = [(label, form.format(metrics[key])) for key, (label, form) in _HEADLINES.items() if key in metrics]
    summary += [
        ("Input", " ".join(data.notes)),
        ("Mesh", f"{mesh.num_vertices:,} vertices, {mesh.num_faces:,} triangles"),
        ("CPU time", f"{sum(seconds.values()):.0f} s"),
    ]
    up = SingleMeshConfig(**run.config["mesh"]).up
    report = Report(
        title=f"{name}: one shape",
        command=" ".join(info.get("command", [])),
        summary=summary,
        mesh=mesh,
        other_meshes=[] if truth is None else [("true mesh", truth)],
        mesh_up=(0.0, 1.0, 0.0) if up == "y" else (0.0, 0.0, 1.0),
        panels=_panels(run, data, mesh, truth),
        panels_title="Pictures",
        panels_note="",
        curves=curves_of(run.read_metrics(), _CURVES),
        tables=[
            metrics_table("Fit", metrics, "Lengths in units in which the unit sphere holds the shape."),
            Table("Timings", ["part", "CPU seconds"], [[part, round(value, 1)] for part, value in seconds.items()]),
        ],
        settings=run.config,
    )
    write_report(run.path / "report.html", report)


def _panels(run: RunDir, data: TrainingPoints, mesh: Mesh, truth: Mesh | None) -> list[Panel]:
    """Return rows of pictures: the input's points, the mesh, the true mesh, each from four sides."""
    rows: list[tuple[str, str, Mesh, PointLayer | None]] = []
    frame = mesh if truth is None else truth
    if data.surface.num_points and data.kind == "cloud":
        points = data.placement.invert(data.surface.points.double()).to(mesh.vertices)
        drawn = PointLayer(points[:: max(1, len(points) // _DRAWN_POINTS)], radius_px=1.0)
        nothing = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
        rows.append(("points", "Input", nothing, drawn))
    rows.append(("mesh", "Mesh", mesh, None))
    if truth is not None:
        rows.append(("truth", "True mesh", truth, None))
    panels = []
    for key, title, shape, layer in rows:
        images = []
        for azimuth in _AZIMUTHS_DEG:
            picture = draw_mesh(shape, _view(frame, azimuth, run), _color(shape), layer)
            images.append((f"{azimuth:.0f}°", picture))
            if key == "mesh":
                write_image(run.media / f"mesh_{azimuth:03.0f}.png", picture)
        panels.append(Panel(title, images))
    return panels


def _color(mesh: Mesh) -> Any:
    return None if mesh.vertex_colors is None else "vertices"


def _view(mesh: Mesh, azimuth_deg: float, run: RunDir) -> MeshView:
    """Return a view that fits a mesh, the same for all rows."""
    lower, upper = mesh.bounds
    x, y, z = ((lower + upper) / 2).tolist()
    radius = float((mesh.vertices - (lower + upper) / 2).norm(dim=1).max())
    up = SingleMeshConfig(**run.config["mesh"]).up
    return MeshView(azimuth_deg=azimuth_deg, size_px=_PICTURE_PX, center=(x, y, z), radius=radius, up=up)
