"""The commands on one shape from one scan: options, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from shapewright.cli.arguments import MESH_FORMATS, Run, split_names
from shapewright.cli.console import print_rows, start_log
from shapewright.cli.run_options import RunOptions, parse_run
from shapewright.methods.deep_sdf.single_config import DEFAULT_SINGLE_PRESET, SINGLE_PRESETS, SingleConfig


@dataclass(frozen=True, kw_only=True)
class SingleOptions(RunOptions):
    """Turn one scan, one set of signed distances or one messy mesh into a clean mesh.

    Args:
        source: Points (PLY, XYZ, PCD, NPY, NPZ), samples (.npz with pos and neg), or a mesh.
        out: Folder to write, new or empty; none: runs/NAME.
        truth: The true mesh, to measure against.
        config: All settings.
    """

    out: Path | None = None  # type: ignore[assignment]
    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCAN")]
    truth: Path | None = None
    config: Annotated[SingleConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


def reconstruct(words: Sequence[str]) -> None:
    """Run ``reconstruct SCAN``."""
    options = parse_run(SingleOptions, "shapewright reconstruct", words, SINGLE_PRESETS, DEFAULT_SINGLE_PRESET)
    start_log()
    from shapewright.methods.deep_sdf.single_shape import SingleStart, reconstruct_single

    command = ["shapewright", "reconstruct", *words]
    start = SingleStart(seed=options.seed, command=command, force=options.force, truth=options.truth)
    out = options.out or Path("runs") / options.source.stem
    reconstruct_single(options.config, options.source, out, start)
    print(f"Mesh:   {out / 'meshes' / 'mesh.glb'}\nReport: {out / 'report.html'}")


def evaluate(run: Run, truth: Path | None = None, checkpoint: Literal["latest", "best"] | int = "latest") -> None:
    """Measure the mesh of one shape and write metrics.json.

    Args:
        run: Folder of the run.
        truth: The true mesh; none: the one that the run was started with.
        checkpoint: latest, best, or a step.
    """
    start_log()
    from shapewright.methods.deep_sdf.single_shape import evaluate_single

    result = evaluate_single(run, truth, checkpoint)
    print_rows(sorted(result["metrics"].items()))
    print(f"Written: {run / 'metrics.json'}")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Draw the mesh of one shape and write it into its folder meshes/.

    Args:
        run: Folder of the run.
        format: Formats with commas between them: glb, ply, obj.
        resolution: Lattice points along the longest side; none: as the settings of the run say.
        components: Which parts to keep; none: as the settings of the run say.
        keep_normalized: Stay in normalised units instead of the input's.
    """

    run: Run
    format: str = "glb"
    resolution: int | None = None
    components: Literal["supported", "largest", "all"] | None = None
    keep_normalized: bool = False


def export(words: Sequence[str]) -> None:
    """Run ``export`` on one shape."""
    options = tyro.cli(ExportOptions, prog="shapewright export", args=words)
    formats = split_names("--format", options.format, MESH_FORMATS)
    start_log()
    from shapewright.methods.deep_sdf.single_shape import export_single

    for path in export_single(options.run, formats, options.resolution, options.components, options.keep_normalized):
        print(path)
