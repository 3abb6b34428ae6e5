"""Measuring runs on objects that they have not seen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.data.capture import listed
from shapewright.data.picture_sets import PictureSet
from shapewright.engine.checkpoint import score_of
from shapewright.errors import UserError
from shapewright.export.html import write_report
from shapewright.export.report import Panel, Report, Table, curves_of, metrics_table
from shapewright.geometry.solid_voxels import padded
from shapewright.io.files import atomic_write
from shapewright.io.meshes import write_mesh
from shapewright.methods.pose_invariant.drawings import six_sides
from shapewright.methods.pose_invariant.judging import (
    Predictions,
    controls,
    judge_codes,
    mean_by_class,
    predict,
    shape_rows,
    silhouette_rows,
)
from shapewright.methods.pose_invariant.trained import Checkpoint, Split, TrainedRun

SHOWN_OBJECTS = 6
_CURVES = {
    "loss": "",
    "silhouette_loss": "",
    "discriminator": "negative log-likelihood",
    "discriminator_accuracy": "share",
    "discriminator_trust": "",
    "discriminator_explains": "share",
    "adversarial": "",
    "val_voxel_iou_32": "IoU",
    "val_silhouette_iou_90deg": "IoU",
    "val_mmd": "",
}
_HEADLINES = {
    "voxel_iou_32": ("Voxel IoU, 32 cells a side", "{:.3f}"),
    "chamfer_x1000": ("Chamfer distance x 1000", "{:.2f}"),
    "silhouette_iou_input": ("Outline overlap, side of the picture", "{:.3f}"),
    "silhouette_iou_90deg": ("Outline overlap, 90 degrees away", "{:.3f}"),
    "inside_out_share": ("Surface seen from behind", "{:.3f}"),
    "mmd": ("MMD between poses", "{:.3f}"),
    "mmd_unbiased": ("MMD, unbiased", "{:.3f}"),
    "pose_probe": ("Pose guessed from the code", "{:.3f}"),
}


def evaluate(
    run_path: Path,
    split: Split | None = None,
    checkpoint: Checkpoint = "latest",
    num_points: int = 10_000,
    data: Path | None = None,
) -> dict[str, Any]:
    """Measure a run on all pictures of a set; write ``metrics.json``, ``metrics.md``, meshes and the report.

    Args:
        run_path: The run folder.
        split: Which objects; none: test, or val, or train, whichever is the first to exist.
        checkpoint: Of which step.
        num_points: Points of the Chamfer distance; 0 leaves it out.
        data: Other pictures of the same format.

    Raises:
        UserError: if the run or its pictures cannot be read.
    """
    wall, cpu = time.monotonic(), time.process_time()
    opened = TrainedRun.open(run_path, checkpoint)
    split = split or opened.test_split(data)
    pictures = opened.pictures(split, data)
    _check_kind(opened, pictures, data or opened.data)
    found = predict(opened.method, pictures)
    rows = shape_rows(pictures, found, num_points) | silhouette_rows(opened.method, pictures, found)
    table = mean_by_class(rows, pictures.categories)
    of_codes, notes = judge_codes(pictures, found)
    of_training, why = _controls(opened, pictures)
    notes += why
    by_object = {name: values.double().mean(1) for name, values in rows.items()}
    voxel_rule = padded(pictures.voxel_rule).name if pictures.voxels is not None else None
    result = {
        "schema": 1,
        "method": "pose_invariant",
        "mode": opened.config.mode,
        "protocol": f"{split} objects, every picture of each"
        + f"; voxels by {voxel_rule}" * (voxel_rule is not None)
        + f"; Chamfer from {num_points} points" * bool(num_points and pictures.points is not None),
        "voxel_rule": voxel_rule,
        "split": split,
        "checkpoint": opened.step,
        "selected_by": _selected_by(opened, checkpoint),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.monotonic() - wall, 2),
        "metrics": table["mean"] | of_codes,
        "notes": notes,
        "by_class": {name: row for name, row in table.items() if name != "mean"},
        "controls": of_training,
        "items": [
            {"id": name, "class": category} | {metric: float(values[place]) for metric, values in by_object.items()}
            for place, (name, category) in enumerate(zip(pictures.ids, pictures.categories, strict=True))
        ],
    }
    opened.run.write_metrics(result)
    atomic_write(opened.run.path / "metrics.md", metrics_text([(opened.run.path.name, result)]).encode())
    shown = np.linspace(0, len(pictures) - 1, min(SHOWN_OBJECTS, len(pictures))).astype(int).tolist()
    for place in shown:
        write_mesh(opened.run.meshes / f"{pictures.file_names[place]}.obj", found.mesh(place, 0))
    write_mesh(opened.run.meshes / "mesh.glb", found.mesh(shown[0], 0))
    _write_run_report(opened, pictures, found, result, shown)
    return result


def _controls(opened: TrainedRun, pictures: PictureSet) -> tuple[dict[str, float], list[str]]:
    """Return what guesses from the training objects get, or why there are none: other pictures are judged without."""
    try:
        return controls(opened.pictures("train"), pictures), []
    except UserError as error:
        return {}, [f"There are no controls. {error.message}"]


def _check_kind(opened: TrainedRun, pictures: PictureSet, data: Path) -> None:
    """Raise if the pictures of a folder are not of the kind that the run takes."""
    kind, channels, there = opened.method.kind, opened.config.network.channels, pictures.images.shape[2]
    if pictures.size != kind.size:
        raise UserError(
            f"The pictures of {data} have {pictures.size} px, but {opened.run.path} takes {kind.size}.",
            "Render or prepare them with that size.",
        )
    if there < channels:
        raise UserError(
            f"The pictures of {data} have {there} channels, but {opened.run.path} takes {channels}.",
            "Give pictures with masks with --data, or train with --network.channels 3.",
        )
    unknown = [name for name in pictures.classes if name not in kind.classes]
    if unknown and opened.method.judged.num_told:
        raise UserError(
            f"{data} has {listed(unknown)}, which {opened.run.path} has not learned; its decoder is told the category.",
            f"It has learned {listed(list(kind.classes))}.",
        )
    if pictures.views.half_angle_deg != kind.half_angle_deg:
        raise UserError(
            f"Half the field of view of {data} is {_angle(pictures.views.half_angle_deg)}, "
            f"but {opened.run.path} draws with {_angle(kind.half_angle_deg)}.",
            "Give pictures that were taken alike with --data, or train on these.",
        )


def _selected_by(opened: TrainedRun, checkpoint: Checkpoint) -> str:
    """Return how the checkpoint was chosen."""
    if isinstance(checkpoint, int):
        return "number"
    if checkpoint != "best":
        return "last step"
    return opened.config.select if score_of(opened.run, opened.step) is not None else "latest: nothing was scored"


def _angle(half_angle_deg: float | None) -> str:
    return "none (orthographic)" if half_angle_deg is None else f"{half_angle_deg:.10g} degrees"


def metrics_text(results: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """Return tables in Markdown: a row a run, a row a class of each run, and their mean if runs share no class.

    Above them stands how the numbers of each run came about. Runs whose voxels follow different rules have no mean.

    Args:
        results: Name of each run, and what ``evaluate`` returned.
    """
    lines = [*(f"- {name}: {_provenance(result)}" for name, result in results), ""]
    names = list(dict.fromkeys(name for _, result in results for name in result["metrics"]))
    lines += _heads(["run", "mode", "step", "voxel rule", *names])
    for name, result in results:
        told = [name, result["mode"], str(result["checkpoint"]), result["voxel_rule"] or ""]
        lines.append(_row([*told, *(_number(result["metrics"].get(metric)) for metric in names)]))
    metrics = [name for name in names if any(name in row for _, r in results for row in r["by_class"].values())]
    lines += ["", *_heads(["run", "class", "voxel rule", *metrics])]
    means = []
    for name, result in results:
        for label, row in result["by_class"].items():
            cells = [_number(row.get(metric)) for metric in metrics]
            lines.append(_row([name, label, result["voxel_rule"] or "", *cells]))
            means.append([row.get(metric, np.nan) for metric in metrics])
    labels = [label for _, result in results for label in result["by_class"]]
    rules = list(dict.fromkeys(result["voxel_rule"] for _, result in results if result["voxel_rule"]))
    if len(results) > 1 and len(set(labels)) == len(labels):
        if len(rules) > 1:
            lines.append(f"\nNote: there is no mean of the classes: their voxels follow the rules {', '.join(rules)}.")
        else:
            cells = [_number(value) for value in np.mean(means, axis=0)]
            lines.append(_row(["all", "mean of the classes", "".join(rules), *cells]))
    for name, result in results:
        for control, value in result["controls"].items():
            lines.append(f"\nControl of {name}: {control} {value:.4f}")
        lines += [f"\nNote on {name}: {note}" for note in result["notes"]]
    return "\n".join(lines) + "\n"


def _provenance(result: Mapping[str, Any]) -> str:
    """Return in a line how the numbers of a run came about: set, voxel rule, checkpoint, objects of each class."""
    counts = Counter(item["class"] for item in result["items"])
    objects = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    chosen = result["selected_by"] + ", which is 3D supervision" * (result["selected_by"] == "voxel_compat")
    return f"{result['protocol']}. Objects: {objects}. Checkpoint {result['checkpoint']} selected by: {chosen}."


def _heads(names: Sequence[str]) -> list[str]:
    """Return the two lines above a table."""
    return [_row(names), "|---" * len(names) + "|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _write_run_report(
    opened: TrainedRun,
    pictures: PictureSet,
    found: Predictions,
    result: Mapping[str, Any],
    shown: Sequence[int],
) -> None:
    """Write ``report.html``: figures, curves, and some objects from six sides."""
    metrics = result["metrics"]
    panels = []
    for place in shown:
        view = place * 5 % pictures.num_views
        sheet = six_sides(pictures.images[place, view], found.mesh(place, view))
        panels.append(Panel(pictures.ids[place], [("picture, and the mesh from six sides", sheet)]))
    names = list(result["items"][0])
    report = Report(
        title=f"{opened.data.name}: one picture in, one mesh out ({opened.config.mode})",
        command=" ".join(opened.run.info.get("command", [])),
        summary=[(label, form.format(metrics[name])) for name, (label, form) in _HEADLINES.items() if name in metrics],
        mesh=found.mesh(shown[0], 0),
        panels=panels,
        panels_title="Objects that training has not seen" if result["split"] != "train" else "Objects of the training",
        panels_note="One picture of each, and the mesh that was made of it, in the frame of the object.",
        curves=curves_of(opened.run.read_metrics(), _CURVES),
        tables=[
            metrics_table("Mean over the pictures", metrics, " ".join([_provenance(result), *result["notes"]])),
            metrics_table("Controls", result["controls"]),
            Table("Objects", names, [[item[name] for name in names] for item in result["items"]]),
        ],
        settings=opened.run.config,
    )
    write_report(opened.run.path / "report.html", report)
