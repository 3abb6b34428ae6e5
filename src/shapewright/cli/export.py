"""``shapewright export RUN``: the mesh of a run as files for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from shapewright.cli.arguments import MESH_FORMATS, Run, method_of, split_names
from shapewright.cli.console import start_log


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Extract the mesh of a run and write it into its folder meshes/.

    Args:
        run: Folder of the run.
        format: Formats with commas between them: glb, ply, obj.
        resolution: Lattice points along the longest side; none: as the settings of the run say.
        units: World coordinates of the cameras, or the normalised ones of training.
        components: Keep the largest part, or all.
        hull_cull: Remove what lies outside the silhouettes.
    """

    run: Run
    format: str = "glb"
    resolution: int | None = None
    units: Literal["world", "normalised"] = "world"
    components: Literal["largest", "all"] = "largest"
    hull_cull: bool = True


def run(words: list[str]) -> None:
    """Run the verb."""
    method = method_of(words)
    if method == "deep_sdf":
        from shapewright.cli import deep_sdf

        deep_sdf.export(words)
        return
    if method == "deep_sdf/single":
        from shapewright.cli import single_shape

        single_shape.export(words)
        return
    if method == "pose_invariant":
        from shapewright.cli import pose_invariant

        pose_invariant.export(words)
        return
    options = tyro.cli(ExportOptions, prog="shapewright export", args=words)
    formats = split_names("--format", options.format, MESH_FORMATS)
    start_log()
    from shapewright.methods.surface import pipeline

    written = pipeline.export(
        options.run,
        formats=formats,
        resolution=options.resolution,
        units=options.units,
        components=options.components,
        hull_cull=options.hull_cull,
    )
    for path in written:
        print(path)
