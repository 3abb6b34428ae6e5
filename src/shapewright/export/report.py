"""What a report says, as plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import UInt8

from shapewright.geometry.mesh import Mesh

VIEWS_NOTE = (
    "Held-out views were never seen in training. In error maps black is no error and pale yellow a fifth of the full "
    "range or more."
)


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


def curves_of(rows: Sequence[Mapping[str, Any]], units: Mapping[str, str]) -> list[Curve]:
    """Return the curves of some quantities over the steps, from the rows of ``metrics.jsonl``.

    Args:
        rows: What was measured.
        units: Unit of each quantity to draw; those that no row has are left out.
    """
    found = {name: [row for row in rows if name in row] for name in units}
    return [
        Curve(name, [row["step"] for row in having], [row[name] for row in having], units[name])
        for name, having in found.items()
        if having
    ]


@dataclass(frozen=True)
class Table:
    """Hold a table; columns of numbers share their decimals, names of metrics in the head are put into words."""

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
        panels_title: Heading of the pictures.
        panels_note: What the reader should know of them.
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
    panels_title: str = "Photos and renders"
    panels_note: str = VIEWS_NOTE
    curves: Sequence[Curve] = ()
    tables: Sequence[Table] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Meaning:
    label: str
    unit: str
    better: str
    text: str


ORIGINAL = "_original"

MEANINGS = {
    "psnr_misses_black": _Meaning(
        "PSNR on the object", "dB", "higher", "Colour accuracy inside the object's outline; holes count as black."
    ),
    "psnr_misses_white": _Meaning("PSNR, holes white", "dB", "higher", "The same with holes shown white."),
    "psnr_hit": _Meaning(
        "PSNR where hit", "dB", "higher", "Colour accuracy where both the photo and the render show the object."
    ),
    "psnr_full_white": _Meaning("PSNR, full picture", "dB", "higher", "The whole picture on a white background."),
    "psnr_full": _Meaning("PSNR, full picture", "dB", "higher", "The whole picture with its background."),
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
    "accuracy_median_pct": _Meaning("Accuracy, median", "%", "lower", "The same, the middle one of all points."),
    "accuracy_p95_pct": _Meaning("Accuracy, 95th of 100", "%", "lower", "95 of 100 points are nearer than this."),
    "completeness_median_pct": _Meaning(
        "Completeness, median", "%", "lower", "The same, the middle one of all points."
    ),
    "completeness_p95_pct": _Meaning(
        "Completeness, 95th of 100", "%", "lower", "95 of 100 points are nearer than this."
    ),
    "f_score_1pct": _Meaning("F-score at 1 %", "", "higher", "Share of both surfaces closer than 1 % of the diagonal."),
    "chamfer_x1000": _Meaning(
        "Chamfer x 1000", "", "lower", "Sum of the mean squared distances between points of both surfaces, times 1000."
    ),
    "chamfer_floor_x1000": _Meaning(
        "Chamfer floor x 1000", "", "", "What the true surface itself scores with as many points: nothing beats it."
    ),
    "f_score_radius_1pct": _Meaning(
        "F-score at 0.01", "", "higher", "Share of both surfaces closer than 1 % of the unit sphere's radius."
    ),
    "f_score_radius_2pct": _Meaning(
        "F-score at 0.02", "", "higher", "Share of both surfaces closer than 2 % of the unit sphere's radius."
    ),
    "normal_consistency": _Meaning(
        "Normal consistency", "", "higher", "Mean |cosine| between the surfaces' directions; 1 is identical."
    ),
    "volume_iou": _Meaning(
        "Volume overlap", "", "higher", "Intersection over union of what both shapes enclose; 1 is identical."
    ),
    "mesh_accuracy_p90": _Meaning(
        "Mesh accuracy", "", "lower", "Nine tenths of the result lie nearer to the true surface than this."
    ),
    "completion_share_01": _Meaning(
        "Completion", "", "higher", "Share of the true surface that the result comes closer to than 0.01."
    ),
    "accuracy_mean": _Meaning("Accuracy", "", "lower", "Mean distance from the result to the true surface."),
    "completeness_mean": _Meaning("Completeness", "", "lower", "Mean distance from the true surface to the result."),
    "accuracy_p90": _Meaning(
        "Accuracy, 90th of 100", "", "lower", "90 of 100 points of the result are nearer to the true surface."
    ),
    "completeness_p90": _Meaning(
        "Completeness, 90th of 100", "", "lower", "90 of 100 points of the true surface are nearer to the result."
    ),
    "accuracy_mean_square": _Meaning(
        "Accuracy, squared", "", "lower", "Mean squared distance from the result to the true surface."
    ),
    "completeness_mean_square": _Meaning(
        "Completeness, squared", "", "lower", "Mean squared distance from the true surface to the result."
    ),
    "emd_x1000": _Meaning(
        "Earth mover's x 1000", "", "lower", "Mean way of moving points of one surface onto the other, times 1000."
    ),
    "depth_error_median": _Meaning(
        "Depth error", "", "lower", "Median error of the rendered depth, relative to the object's size."
    ),
}


def metrics_table(title: str, metrics: Mapping[str, float], note: str = "") -> Table:
    """Return a table of metrics with their names in words, units, and what they mean."""
    rows = []
    for name, value in metrics.items():
        meaning = _meaning(name)
        better = f"{meaning.better} is better" if meaning.better else ""
        rows.append((meaning.label, f"{shown(value)} {meaning.unit}".strip(), better, meaning.text))
    return Table(title, ("what", "value", "", "meaning"), rows, note)


def metric_label(name: str) -> str:
    """Return the name of a metric in words, or the name itself if it is none of the known ones."""
    known = MEANINGS.get(name.removesuffix(ORIGINAL))
    if known is None:
        return name
    label = f"{known.label}, original units" if name.endswith(ORIGINAL) else known.label
    return f"{label} ({known.unit})" if known.unit else label


def _meaning(name: str) -> _Meaning:
    """Return what is known of a metric.

    ``NAME_least`` is the worst view's value of one where more is better, ``NAME_original`` one in the units of the
    mesh as it was given, while lengths are in those of the unit sphere otherwise.
    """
    if name.endswith(ORIGINAL) and name.removesuffix(ORIGINAL) in MEANINGS:
        text = "The same in the mesh's own units."
        return replace(MEANINGS[name.removesuffix(ORIGINAL)], label=metric_label(name), text=text)
    whole = name.removesuffix("_least")
    known = MEANINGS.get(whole)
    if known is None:
        return _Meaning(name.replace("_", " "), "", "", "")
    return known if whole == name else replace(known, label=f"{known.label}, worst view", text="")


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
