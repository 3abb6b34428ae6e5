"""What a report says, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from shapewright.geometry.mesh import Mesh


@dataclass(frozen=True)
class Panel:
    """Hold pictures that belong side by side, as a photo, its render and the error.

    Args:
        name: Heading, as the name of the view.
        images: Captions and pictures.
        note: A line under the heading.
    """

    name: str
    images: Sequence[tuple[str, UInt8[np.ndarray, "h w 3"]]]
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """Hold one quantity over the course of training."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    unit: str = ""
    x_label: str = "step"


@dataclass(frozen=True)
class Table:
    """Hold a table; numbers are shown with at most four digits, right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """Hold all that a report shows; what is empty is left out.

    Args:
        title: What was reconstructed.
        command: The command that made the run.
        summary: The few figures that matter: label and value.
        mesh: The result, shown in the viewer.
        other_meshes: More meshes to switch to, as the true one: name and mesh.
        mesh_up: Direction that is up in the viewer, in the mesh's space.
        mesh_eye: Direction from the object to the first eye; from the front, a little above, by default.
        panels: Rows of pictures.
        curves: Quantities over training.
        tables: Metrics, timings.
        settings: Options by name, nested.
    """

    title: str
    command: str = ""
    summary: Sequence[tuple[str, str]] = ()
    mesh: Mesh | None = None
    other_meshes: Sequence[tuple[str, Mesh]] = ()
    mesh_up: tuple[float, float, float] = (0.0, 1.0, 0.0)
    mesh_eye: tuple[float, float, float] | None = None
    panels: Sequence[Panel] = ()
    curves: Sequence[Curve] = ()
    tables: Sequence[Table] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Meaning:
    label: str
    unit: str
    better: str
    text: str


MEANINGS = {
    "psnr_misses_black": _Meaning(
        "PSNR on the object", "dB", "higher", "Colour accuracy inside the object's outline; holes count as black."
    ),
    "psnr_misses_white": _Meaning("PSNR, holes white", "dB", "higher", "The same with holes shown white."),
    "psnr_hit": _Meaning(
        "PSNR where hit", "dB", "higher", "Colour accuracy where both the photo and the render show the object."
    ),
    "psnr_full_white": _Meaning("PSNR, full picture", "dB", "higher", "The whole picture on a white background."),
    "ssim": _Meaning("SSIM", "", "higher", "Similarity of structure in the box around the object; 1 is identical."),
    "ssim_full": _Meaning("SSIM, full picture", "", "higher", "The same over the whole picture."),
    "silhouette_iou": _Meaning(
        "Outline overlap", "", "higher", "Intersection over union of the rendered outline and the mask; 1 is identical."
    ),
    "constant_color_psnr": _Meaning(
        "Control: one colour", "dB", "", "PSNR of painting the object in its mean colour; a model must be far above."
    ),
    "surface_distance_pct": _Meaning(
        "Distance to the truth", "%", "lower", "Mean distance between the surfaces, both ways, in % of the diagonal."
    ),
    "accuracy_pct": _Meaning(
        "Accuracy", "%", "lower", "Mean distance from the result to the true surface, in % of the diagonal."
    ),
    "completeness_pct": _Meaning(
        "Completeness", "%", "lower", "Mean distance from the true surface to the result, in % of the diagonal."
    ),
    "f_score_1pct": _Meaning("F-score at 1 %", "", "higher", "Share of both surfaces closer than 1 % of the diagonal."),
    "depth_error_median": _Meaning(
        "Depth error", "", "lower", "Median error of the rendered depth, relative to the object's size."
    ),
}


def metrics_table(title: str, metrics: Mapping[str, float], note: str = "") -> Table:
    """Return a table of metrics with their names in words, units, and what they mean."""
    rows = []
    for name, value in metrics.items():
        meaning = MEANINGS.get(name, _Meaning(name.replace("_", " "), "", "", ""))
        better = f"{meaning.better} is better" if meaning.better else ""
        rows.append((meaning.label, f"{shown(value)} {meaning.unit}".strip(), better, meaning.text))
    return Table(title, ("what", "value", "", "meaning"), rows, note)


def shown(value: Any) -> str:
    """Return a value as text: numbers with four significant digits, true and false as words, None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)
