"""The commands of ``deep_sdf``: options, and what is printed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from shapewright.cli.arguments import MESH_FORMATS, Run, split_names
from shapewright.cli.console import print_rows, start_log
from shapewright.cli.run_options import RunOptions, parse_run
from shapewright.methods.deep_sdf.config import DeepSdfConfig
from shapewright.methods.deep_sdf.reconstruction import ReconstructConfig

Input = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="INPUT")]
Checkpoint = Literal["latest", "best"] | int
HEADLINES = ("chamfer_x1000", "f_score_radius_1pct", "f_score_radius_2pct", "normal_consistency", "volume_iou")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Learn a shape space from the samples of many shapes.

    Args:
        data: Folder that `shapewright data sample-sdf` wrote, or DeepSDF's own.
        specs: Take all settings from a specs.json of the original program.
        original: Start from the weights and codes of an experiment folder of the original program.
        config: All settings.
    """

    data: Path
    specs: Path | None = None
    original: Path | None = None
    config: Annotated[DeepSdfConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


def train(words: Sequence[str]) -> None:
    """Run ``train deep_sdf``."""
    from shapewright.methods.deep_sdf.presets import DEFAULT_PRESET, PRESETS

    options = parse_run(TrainOptions, "shapewright train deep_sdf", words, PRESETS, DEFAULT_PRESET)
    start_log()
    from shapewright.methods.deep_sdf import pipeline

    start = options.start(["shapewright", "train", "deep_sdf", *words])
    if options.original is not None:
        pipeline.import_original(options.original, options.data, options.out, start)
        print(f"Imported: {options.out}. Next: shapewright eval {options.out}")
        return
    config = options.config
    if options.specs is not None:
        from shapewright.methods.deep_sdf.specs import read_specs

        config = dataclasses.replace(read_specs(options.specs), train=options.config.train)
    pipeline.train(config, options.data, options.out, start)
    print(f"Trained: {options.out}. Next: shapewright eval {options.out}")


def evaluate(
    run: Run,
    split: Literal["test", "train"] | None = None,
    checkpoint: Checkpoint = "latest",
    points: int = 30_000,
    refine: bool = False,
    overwrite: bool = False,
) -> None:
    """Measure a shape space on its held-out shapes; write metrics.json, tables, meshes and the report.

    Args:
        run: Folder of the run.
        split: Held-out or learned shapes; none: held-out ones where there are any.
        checkpoint: latest, best, or a step.
        points: Points of the Chamfer distance on each surface.
        refine: Fit the last layers to each held-out shape as well.
        overwrite: Fit codes again that were fitted before.
    """
    start_log()
    from shapewright.methods.deep_sdf import pipeline

    result = pipeline.evaluate(run, split, checkpoint, points, refine=refine, overwrite=overwrite)
    metrics = result["metrics"]
    print_rows(
        (f"{name} {kind}", metrics[f"{name}_{kind}"])
        for name in HEADLINES
        for kind in ("mean", "median")
        if f"{name}_{kind}" in metrics
    )
    print(f"Written: {run / 'metrics.json'}, {run / 'report.html'}")


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Draw learned shapes from their codes and write them into the run's folder meshes/.

    Args:
        run: Folder of the run.
        format: Formats with commas between them: glb, ply, obj.
        ids: Shapes with commas between them; empty: all that were learned, variants left out.
        resolution: Lattice points along each side; none: as the settings of the run say.
        keep_normalized: Stay in the unit sphere instead of the units of the mesh files.
        to_deepsdf: Write an experiment folder of the original program there instead.
    """

    run: Run
    format: str = "glb"
    ids: str = ""
    resolution: int | None = None
    keep_normalized: bool = False
    to_deepsdf: Path | None = None


def export(words: Sequence[str]) -> None:
    """Run ``export`` on a shape space."""
    options = tyro.cli(ExportOptions, prog="shapewright export", args=words)
    formats = split_names("--format", options.format, MESH_FORMATS)
    ids = [name.strip() for name in options.ids.split(",") if name.strip()]
    start_log()
    from shapewright.methods.deep_sdf import pipeline

    if options.to_deepsdf is not None:
        print(pipeline.export_original(options.run, options.to_deepsdf))
        return
    for path in pipeline.export(options.run, formats, ids, options.resolution, options.keep_normalized):
        print(path)


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """Make a whole shape from a mesh, SDF samples, a cloud of points or a depth map, with a trained shape space.

    Args:
        source: A mesh, samples (.npz with pos and neg), points (PLY, XYZ, NPY, NPZ, PCD), or a depth map.
        run: Folder of the trained run.
        out: Folder to write; none: reconstructions/NAME in the run.
        config: All settings.
    """

    source: Input
    run: Path
    out: Path | None = None
    config: Annotated[ReconstructConfig, tyro.conf.arg(name="")]


def reconstruct(words: Sequence[str]) -> None:
    """Run ``reconstruct INPUT --run RUN``."""
    default = ReconstructOptions(source=tyro.MISSING, run=tyro.MISSING, config=ReconstructConfig())
    options = tyro.cli(
        ReconstructOptions, prog="shapewright reconstruct", args=words, default=default,
        config=(tyro.conf.AvoidSubcommands,),
    )  # fmt: skip
    start_log()
    from shapewright.methods.deep_sdf.reconstruction import reconstruct as reconstruct_shape
    from shapewright.methods.deep_sdf.space import ShapeSpace

    space = ShapeSpace.open(options.run)
    out = options.out or space.run.path / "reconstructions" / options.source.stem
    result = reconstruct_shape(space, options.source, out, options.config)
    print_rows(result.get("metrics", {}).items())
    print(f"Mesh: {out / 'mesh.glb'}\nPicture: {out / 'picture.png'}")


def interpolate(
    run: Run,
    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")],
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")],
    steps: int = 8,
    kind: Literal["linear", "slerp"] = "linear",
    out: Path | None = None,
) -> None:
    """Draw the shapes on the way from one shape to another: meshes, a strip of pictures, a video.

    Args:
        run: Folder of the run.
        first: A learned shape, a fitted one, or the file of a code.
        second: Another one.
        steps: Shapes, both ends included.
        kind: Along a straight line or a great circle.
        out: Folder to write; none: media/interpolation in the run.
    """
    start_log()
    from shapewright.methods.deep_sdf import gallery
    from shapewright.methods.deep_sdf.space import ShapeSpace

    for path in gallery.interpolate(
        ShapeSpace.open(run), (first, second), out or run / "media" / "interpolation", steps, kind
    ):
        print(path)


def embed(
    run: Run,
    method: Literal["tsne", "pca"] = "tsne",
    thumbnails: bool = True,
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Draw all codes of a run on a plane.

    Args:
        run: Folder of the run.
        method: t-SNE (needs `pip install shapewright[analysis]`), or projection on the two main axes.
        thumbnails: Draw each shape in its place instead of a dot.
        seed: Start of all random numbers.
        out: Picture to write, PNG or SVG; none: media/embedding.png in the run.
    """
    start_log()
    from shapewright.methods.deep_sdf import gallery
    from shapewright.methods.deep_sdf.space import ShapeSpace

    for path in gallery.embed(ShapeSpace.open(run), out or run / "media" / "embedding.png", method, thumbnails, seed):
        print(path)
