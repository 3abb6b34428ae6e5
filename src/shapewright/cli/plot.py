"""``shapewright plot RUN...``: the curves of one or more runs as one SVG picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from shapewright.cli.arguments import split_names
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError
from shapewright.io.files import atomic_write

WIDTH, HEIGHT, MARGIN = 560, 260, 56
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f")
Points = list[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class PlotOptions:
    """Draw what metrics.jsonl of each run holds, one panel a quantity, one colour a run.

    Args:
        runs: Folders of runs.
        out: Picture to write.
        metrics: Quantities with commas between them; empty: all.
        x: What runs along the horizontal axis.
        mean_over: Draw running means over this many rows.
    """

    runs: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
    out: Path = Path("curves.svg")
    metrics: str = ""
    x: Literal["step", "seconds"] = "step"
    mean_over: int = 1


def run(words: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(PlotOptions, prog="shapewright plot", args=words)
    if not options.runs:
        raise UserError("No run was given.", "Name one or more run folders: shapewright plot RUN1 RUN2")
    rows = {str(path): RunDir.open(path).read_metrics() for path in options.runs}
    for name, values in rows.items():
        if not values:
            raise UserError(f"{name} has no metrics yet.", "Train it first, or leave it out.")
    known = sorted({key for values in rows.values() for row in values for key in row} - {"step", "seconds"})
    names = split_names("--metrics", options.metrics, known) if options.metrics else tuple(known)
    atomic_write(
        options.out,
        svg_of_runs(
            {name: running_means(values, options.mean_over) for name, values in rows.items()}, names, options.x
        ).encode(),
    )
    print(options.out)


def running_means(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Return rows whose quantities are the means of up to ``count`` rows around them; steps and seconds stay.

    Raises:
        UserError: if ``count`` is not positive.
    """
    if count < 1:
        raise UserError(f"--mean-over is {count}.", "Give the number of rows to average, at least 1.")
    smooth = []
    for place, row in enumerate(rows):
        around = rows[max(0, place - (count - 1) // 2) : place + count // 2 + 1]
        means = {}
        for name in row:
            values = [other[name] for other in around if other.get(name) is not None]
            if name not in ("step", "seconds") and values:
                means[name] = sum(values) / len(values)
        smooth.append(row | means)
    return smooth


def svg_of_runs(runs: dict[str, list[dict[str, Any]]], names: Sequence[str], x: str) -> str:
    """Return an SVG with one panel a quantity and a legend of the runs."""
    panels = []
    for i, name in enumerate(names):
        curves = [_points(rows, x, name) for rows in runs.values()]
        panels.append(f'<g transform="translate(0 {i * HEIGHT})">{_panel(name, x, curves)}</g>')
    top = len(names) * HEIGHT
    legend = "".join(
        f'<text x="{MARGIN}" y="{top + 18 * (i + 1)}" fill="{COLORS[i % len(COLORS)]}">{escape(name)}</text>'
        for i, name in enumerate(runs)
    )
    size = f'width="{WIDTH}" height="{top + 18 * (len(runs) + 1)}"'
    style = 'font-family="sans-serif" font-size="12"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>{"".join(panels)}{legend}</svg>\n'


def _points(rows: list[dict[str, Any]], x: str, name: str) -> Points:
    return [(float(row[x]), float(row[name])) for row in rows if row.get(name) is not None]


def _panel(name: str, x: str, curves: list[Points]) -> str:
    """Return one panel; the vertical axis is logarithmic where all values are positive and far apart."""
    points = [point for curve in curves for point in curve]
    if not points:
        return ""
    values = [value for _, value in points]
    is_log = min(values) > 0 and max(values) > 30 * min(values)
    scale = math.log10 if is_log else float
    left, right = _range([place for place, _ in points])
    bottom, top = _range([scale(value) for value in values])
    inner_width, inner_height = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN

    def place(point: tuple[float, float]) -> str:
        across = MARGIN + inner_width * (point[0] - left) / (right - left)
        down = MARGIN + inner_height * (top - scale(point[1])) / (top - bottom)
        return f"{across:.1f},{down:.1f}"

    lines = "".join(
        f'<polyline fill="none" stroke="{COLORS[i % len(COLORS)]}" points="{" ".join(map(place, curve))}"/>'
        for i, curve in enumerate(curves)
        if curve
    )
    frame = f'<rect x="{MARGIN}" y="{MARGIN}" width="{inner_width}" height="{inner_height}" fill="none" stroke="#bbb"/>'
    base = HEIGHT - MARGIN
    labels = [
        (MARGIN, MARGIN - 10, f"{name}{' (logarithmic)' if is_log else ''}", "start"),
        (MARGIN - 4, MARGIN + 10, f"{max(values):.3g}", "end"),
        (MARGIN - 4, base, f"{min(values):.3g}", "end"),
        (MARGIN, base + 16, f"{left:.6g}", "start"),
        (WIDTH - MARGIN, base + 16, f"{right:.6g} {x}", "end"),
    ]
    texts = "".join(f'<text x="{a}" y="{b}" text-anchor="{anchor}">{escape(t)}</text>' for a, b, t, anchor in labels)
    return frame + lines + texts


def _range(values: list[float]) -> tuple[float, float]:
    """Return the least and the greatest value, apart from each other."""
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
