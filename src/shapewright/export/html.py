"""The report: one page with everything inside, that opens without a network."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import starmap
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

import shapewright
from shapewright.export.charts import line_chart
from shapewright.export.packing import pack_mesh
from shapewright.export.report import Curve, Panel, Report, Table, metric_label, metrics_table, shown
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import atomic_write

__all__ = ["Curve", "Panel", "Report", "Table", "metrics_table", "write_report"]

MAX_IMAGE_PX = 1200
JPEG_QUALITY = 90
LONG_VALUE = 12


def write_report(path: Path, report: Report) -> None:
    """Write a report as one HTML page, atomically.

    The page needs no network and no other file: the mesh, the pictures, the viewer and the style are inside.

    Raises:
        UserError: if the file cannot be written.
    """
    sections = [
        _static("viewer.html") if _named_meshes(report) else "",
        _section(
            report.panels_title, "".join(map(_panel, report.panels)), f"{report.panels_note} {PANELS_NOTE}".strip()
        ),
        _section("Numbers", "".join(map(_table, report.tables)), wrap="tables"),
        _section("Training", "".join(map(line_chart, report.curves)), wrap="charts"),
        _reproduce(report),
    ]
    page = Template(_static("page.html")).substitute(
        title=escape(report.title),
        style=_static("report.css"),
        script=_static("viewer.js") + _static("report.js"),
        summary=_summary(report),
        sections="\n".join(filter(None, sections)),
        meshes=_json(_meshes(report)),
        version=escape(shapewright.__version__),
    )
    atomic_write(path, page.encode())


PANELS_NOTE = "Click a picture to enlarge it; the arrow keys then flip to its neighbours at the same place."


def _static(name: str) -> str:
    return (files("shapewright.export") / "static" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return JSON that cannot close the script element it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _named_meshes(report: Report) -> list[tuple[str, Mesh]]:
    first = [("Reconstruction", report.mesh)] if report.mesh is not None else []
    return [(name, mesh) for name, mesh in [*first, *report.other_meshes] if mesh.num_faces]


def _meshes(report: Report) -> dict[str, Any]:
    """Return what the viewer shows; the first mesh decides where the camera looks, so that all can be compared."""
    meshes = _named_meshes(report)
    scene: dict[str, Any] = {"up": report.mesh_up, "eye": report.mesh_eye, "shapes": list(starmap(pack_mesh, meshes))}
    if meshes:
        vertices = meshes[0][1].vertices.double()
        center = meshes[0][1].bounds.double().mean(0)
        scene["center"], scene["radius"] = center.tolist(), float((vertices - center).norm(dim=-1).max()) or 1.0
    return scene


def _summary(report: Report) -> str:
    tiles = "".join(_tile(label, value) for label, value in report.summary)
    return f'<dl class="summary">{tiles}</dl>' if tiles else ""


def _tile(label: str, value: str) -> str:
    size = " class=long" if len(value) > LONG_VALUE else ""
    return f"<div><dt>{escape(label)}</dt><dd{size}>{escape(value)}</dd></div>"


def _section(title: str, body: str, note: str = "", wrap: str = "") -> str:
    if not body:
        return ""
    lead = f'<p class="note">{escape(note)}</p>' if note else ""
    inner = f'<div class="{wrap}">{body}</div>' if wrap else body
    return f"<section><h2>{escape(title)}</h2>{lead}{inner}</section>"


def _panel(panel: Panel) -> str:
    figures = "".join(_figure(panel.name, caption, image) for caption, image in panel.images)
    note = f"<span>{escape(panel.note)}</span>" if panel.note else ""
    return f'<div class="panel"><h3>{escape(panel.name)}{note}</h3><div class="pictures">{figures}</div></div>'


def _figure(name: str, caption: str, image: UInt8[np.ndarray, "h w 3"]) -> str:
    text = escape(caption)
    return (
        f'<figure><button type="button" class="picture"><img src="{_jpeg(image)}" alt="{escape(name)}: {text}" '
        f'width="{image.shape[1]}" height="{image.shape[0]}" loading="lazy"></button>'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _jpeg(image: UInt8[np.ndarray, "h w 3"]) -> str:
    """Return a picture as a data address, made smaller if it is huge."""
    picture = Image.fromarray(np.ascontiguousarray(image))
    picture.thumbnail((MAX_IMAGE_PX, MAX_IMAGE_PX), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(table: Table) -> str:
    columns = [_column([row[index] for row in table.rows]) for index in range(len(table.columns))]
    is_number = [cells is not None for cells in columns]
    titles = [metric_label(column) for column in table.columns]
    head = "".join(_cell("th", title, number) for title, number in zip(titles, is_number, strict=True))
    rows = []
    for index, row in enumerate(table.rows):
        texts = [shown(value) if cells is None else cells[index] for value, cells in zip(row, columns, strict=True)]
        cells = (_cell("td", text, number) for text, number in zip(texts, is_number, strict=True))
        rows.append(f"<tr>{''.join(cells)}</tr>")
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    return (
        f'<div class="table"><h3>{escape(table.title)}</h3>{note}<div class="scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def _cell(tag: str, text: str, is_number: bool) -> str:
    return f"<{tag}{' class=number' if is_number else ''}>{escape(text)}</{tag}>"


def _column(values: Sequence[Any]) -> list[str] | None:
    """Return the numbers of a column with the same decimals, or None if it holds something else."""
    numbers = [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(values) or not numbers:
        return None
    if all(isinstance(value, int) for value in numbers):
        return [f"{value:,}" for value in numbers]
    largest = max((abs(value) for value in numbers if math.isfinite(value)), default=1.0)
    decimals = max(0, min(6, 3 - math.floor(math.log10(largest)))) if largest > 0 else 1
    return [f"{value:,.{decimals}f}" for value in numbers]


def _reproduce(report: Report) -> str:
    parts = []
    if report.command:
        parts.append(
            f'<div class="command"><code>{escape(report.command)}</code><button type="button">Copy</button></div>'
        )
    if report.settings:
        rows = "".join(
            f"<tr><td><code>{escape(name)}</code></td><td><code>{escape(value)}</code></td></tr>"
            for name, value in _flat(report.settings)
        )
        parts.append(f"<details><summary>All settings</summary><table class='settings'>{rows}</table></details>")
    return _section("How it was made", "".join(parts))


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings with dotted names and the values as JSON."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((f"{prefix}{name}", json.dumps(value, default=str)))
    return rows
