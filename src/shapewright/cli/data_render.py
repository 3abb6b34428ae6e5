"""``shapewright data render MESHES --protocol P --out D``: pictures and voxels of meshes, in published layouts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from shapewright.cli.arguments import check_least
from shapewright.cli.console import start_log
from shapewright.errors import UserError

if TYPE_CHECKING:
    from shapewright.data.render_object import RenderProtocol

Meshes = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="MESHES")]


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Render views of meshes, as single-view methods learn from: pictures with masks, voxels, points.

    Args:
        meshes: Files or folders of meshes, a table (CSV) with the columns category, key and shape_cluster, or
            procedural:1000 for so many made-up objects.
        out: Folder to write; it appears when all is done.
        protocol: Files and views of Kato's ShapeNet renderings, of LSM's, or free views.
        split: Shares of train, val and test; near copies (shape_cluster) stay together.
        seed: Start of all randomness.
        align_yaw: back: turn every mesh so that the side on which it is high lies at -x.
        workers: Processes; they change no byte.
        overwrite: Replace a data set that is there.
        size: Pixels along each side (free views only; none: 64).
        views: Pictures of each object (free views only; none: 24).
        viewpoints: Around at elevation 30, or random: above the horizon, or anywhere (free views only; none: ring).
        distance: Of the eyes from the origin (free views only; none: 2.732).
        half_angle: Half the field of view in degrees (free views only; none: 15).
        normalise: What becomes 1: the longest side of the box, or the diameter of the sphere around its middle
            (free views only; none: box).
    """

    meshes: Meshes
    out: Path
    protocol: Literal["kato", "lsm", "free"]
    split: str = ".7,.1,.2"
    seed: int = 0
    align_yaw: Literal["none", "back"] = "none"
    workers: int = 1
    overwrite: bool = False
    size: int | None = None
    views: int | None = None
    viewpoints: Literal["ring", "cap", "sphere"] | None = None
    distance: float | None = None
    half_angle: float | None = None
    normalise: Literal["box", "sphere"] | None = None


def run(words: list[str]) -> None:
    """Run the verb; the exit status is 1 if a mesh could not be rendered."""
    options = tyro.cli(RenderOptions, prog="shapewright data render", args=words)
    start_log()
    from shapewright.data.render_splits import parse_shares
    from shapewright.data.render_views import RenderJob, render_views

    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, not {options.workers}.", "Each worker is a process.")
    check_least("--seed", options.seed, 0)
    job = RenderJob(
        meshes=options.meshes,
        out=options.out,
        protocol=_protocol(options),
        shares=parse_shares(options.split),
        seed=options.seed,
        align_yaw=options.align_yaw,
        overwrite=options.overwrite,
        workers=options.workers,
    )
    result = render_views(job)
    for label, reason in result.refused.items():
        print(f"{label}  left out  {reason}")
    counts = {name: [len(names) for names in sets.values()] for name, sets in result.objects.items()}
    for name, (train, val, test) in counts.items():
        print(f"{name}: {train} train, {val} val, {test} test")
    print(f"{options.out}: {result.num_objects} objects, {len(result.refused)} left out.")
    if result.refused:
        raise SystemExit(1)
    print(f"Next: shapewright data check {options.out}")


def _protocol(options: RenderOptions) -> RenderProtocol:
    """Return how objects are seen, checked."""
    from shapewright.data.render_object import FREE, KATO, LSM

    own: dict[str, Any] = {
        "size": options.size,
        "views": options.views,
        "viewpoints": options.viewpoints,
        "distance": options.distance,
        "half_angle_deg": options.half_angle,
        "normalise": options.normalise,
    }
    given = {name: value for name, value in own.items() if value is not None}
    if options.protocol != "free":
        if given:
            name = next(iter(given)).removesuffix("_deg").replace("_", "-")
            raise UserError(
                f"--{name} cannot be changed with --protocol {options.protocol}.", "Take --protocol free for own views."
            )
        return {"kato": KATO, "lsm": LSM}[options.protocol]
    limits = {"size": (8, 4096), "views": (1, 10_000), "distance": (1.0, 1e6), "half_angle_deg": (0.01, 60.0)}
    for name, (least, most) in limits.items():
        value = own[name]
        if value is not None and not least <= value <= most:
            option = name.removesuffix("_deg").replace("_", "-")
            raise UserError(f"--{option} must be from {least:g} to {most:g}, not {value:g}.", "Choose another value.")
    return replace(FREE, **given)
