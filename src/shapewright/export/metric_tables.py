"""Tables of metrics, a row a shape: CSV files, and their summary over the shapes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shapewright.export.report import MEANINGS, Table, metric_label
from shapewright.io.files import atomic_write

Rows = Mapping[str, Mapping[str, float]]
SUMMARIES = ("mean", "median", "p90")
CHAMFER_HEAD = "shape, chamfer_dist"


def write_metrics_csv(path: Path, rows: Rows) -> None:
    """Write one row a shape, ``shape`` and its metrics, with every digit; a metric a shape does not have stays empty.

    Raises:
        UserError: if the file cannot be written.
    """
    names = _names(rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["shape", *names])
    for shape, metrics in rows.items():
        writer.writerow([shape, *(_cell(metrics.get(name)) for name in names)])
    atomic_write(path, text.getvalue().encode())


def write_chamfer_csv(path: Path, chamfers: Mapping[str, float]) -> None:
    """Write DeepSDF's table of Chamfer distances (facebookresearch/DeepSDF, ``evaluate.py``).

    Args:
        path: ``Evaluation/<checkpoint>/chamfer.csv`` there.
        chamfers: Of each ``dataset/class/id``, in original units and not times 1000: ``chamfer_x1000_original / 1000``.

    Raises:
        UserError: if the file cannot be written.
    """
    lines = [CHAMFER_HEAD, *(f"{shape}, {float(value)!r}" for shape, value in chamfers.items())]
    atomic_write(path, ("\n".join(lines) + "\n").encode())


def summarize_metrics(rows: Rows) -> dict[str, float]:
    """Return ``NAME_mean``, ``NAME_median`` and ``NAME_p90`` of every metric over the shapes that have it.

    ``p90`` is what nine of ten shapes reach or better: the 90 % quantile where less is better or nothing is known of
    the metric, the 10 % quantile where more is better. Values that are not finite are left out, and so is a metric
    without any finite value.
    """
    summary: dict[str, float] = {}
    for name in _names(rows):
        values = np.array([metrics[name] for metrics in rows.values() if math.isfinite(metrics.get(name, math.nan))])
        if len(values):
            figures = (values.mean(), np.median(values), np.quantile(values, _worst_decile(name)))
            summary |= {f"{name}_{kind}": float(figure) for kind, figure in zip(SUMMARIES, figures, strict=True)}
    return summary


def metrics_by_shape(title: str, rows: Rows, names: tuple[str, ...] = (), note: str = "") -> Table:
    """Return a table for the report: a row a shape, then their mean, median and what nine of ten reach.

    Args:
        title: Heading.
        rows: Metrics of each shape.
        names: The metrics to show; all if none is named.
        note: A line under the table.
    """
    shown = [name for name in _names(rows) if not names or name in names]
    summary = summarize_metrics(rows)
    lines = [(shape, *(metrics.get(name) for name in shown)) for shape, metrics in rows.items()]
    for kind, label in zip(SUMMARIES, ("mean", "median", "nine of ten reach"), strict=True):
        lines.append((label, *(summary.get(f"{name}_{kind}") for name in shown)))
    return Table(title, ("shape", *(metric_label(name) for name in shown)), lines, note)


def _names(rows: Rows) -> list[str]:
    """Return the names of all metrics in the order of their first appearance."""
    return list(dict.fromkeys(name for metrics in rows.values() for name in metrics))


def _worst_decile(name: str) -> float:
    known = MEANINGS.get(name.removesuffix("_original"))
    return 0.1 if known is not None and known.better == "higher" else 0.9


def _cell(value: float | None) -> str:
    return "" if value is None else repr(float(value))
