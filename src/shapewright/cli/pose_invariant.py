"""The commands of ``pose_invariant``: options, and what is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from shapewright.cli.arguments import MESH_FORMATS, Run, check_least, split_names
from shapewright.cli.console import print_rows, start_log
from shapewright.cli.run_options import RunOptions, parse_run
from shapewright.errors import UserError
from shapewright.methods.pose_invariant.config import PoseInvariantConfig

Runs = Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="RUN")]
Picture = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="IMAGE")]
Checkpoint = Literal["latest", "last", "best"] | int
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Learn to turn one picture into a mesh, from one picture at a time.

    Args:
        data: Folder that `shapewright data render` or `data prepare` wrote, or Kato's own files.
        original: Start from the networks E.ckpt, G.ckpt and D.ckpt in a folder of the original program.
        encoder_weights: Start the encoder resnet from a ResNet-18, such as torchvision's of ImageNet.
        config: All settings.
    """

    data: Path
    original: Path | None = None
    encoder_weights: Path | None = None
    config: Annotated[PoseInvariantConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


def train(words: Sequence[str]) -> None:
    """Run ``train pose_invariant``."""
    from shapewright.methods.pose_invariant.presets import DEFAULT_PRESET, PRESETS

    options = parse_run(TrainOptions, "shapewright train pose_invariant", words, PRESETS, DEFAULT_PRESET)
    start_log()
    from shapewright.methods.pose_invariant import training

    start = options.start(["shapewright", "train", "pose_invariant", *words])
    training.train(options.config, options.data, options.out, start, options.original, options.encoder_weights)
    print(f"Trained: {options.out}. Next: shapewright eval {options.out}")


def evaluate(
    runs: Runs,
    split: Split | None = None,
    checkpoint: Checkpoint = "latest",
    points: int = 10_000,
    data: Path | None = None,
    out: Path | None = None,
) -> None:
    """Measure runs on objects that they have not seen; write metrics.json, metrics.md, meshes and the report of each.

    Args:
        runs: Folders of runs; several make one table.
        split: Which objects; none: test, or val, or train, whichever is the first to exist.
        checkpoint: latest (or last), best, or a step.
        points: Points of the Chamfer distance on each surface; 0 leaves it out.
        data: Other pictures of the same format.
        out: File of the table of all runs, Markdown.
    """
    start_log()
    if not runs:
        raise UserError("No run was given.", "Name one or more run folders: shapewright eval RUN1 RUN2")
    check_least("--points", points, 0)
    from shapewright.io.files import atomic_write
    from shapewright.methods.pose_invariant.evaluation import evaluate as measure
    from shapewright.methods.pose_invariant.evaluation import metrics_text

    results = []
    for run in runs:
        results.append((run.name, measure(run, split, checkpoint, points, data)))
        print_rows(sorted((results[-1][1]["metrics"] | results[-1][1]["controls"]).items()))
        print(f"Written: {run / 'metrics.json'}, {run / 'report.html'}")
    if len(results) > 1 or out is not None:
        text = metrics_text(results)
        print(text)
        if out is not None:
            atomic_write(out, text.encode())


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions:
    """Make a mesh of one picture, with a trained network.

    Args:
        image: Picture with an alpha channel, or with --mask.
        run: Folder of the trained run.
        mask: Picture whose bright pixels are the object.
        framing: Crop to the object and scale it as in training; off for pictures of the data set.
        category: Which of the categories that the run has learned; none: the only one.
        checkpoint: latest (or last), best, or a step.
        out: Folder to write; none: reconstructions/NAME in the run.
    """

    image: Picture
    run: Path
    mask: Path | None = None
    framing: bool = True
    category: str | None = None
    checkpoint: Checkpoint = "latest"
    out: Path | None = None


def reconstruct(words: Sequence[str]) -> None:
    """Run ``reconstruct IMAGE --run RUN``."""
    options = tyro.cli(ReconstructOptions, prog="shapewright reconstruct", args=words)
    start_log()
    from shapewright.methods.pose_invariant.reconstruction import reconstruct as make_mesh
    from shapewright.methods.pose_invariant.trained import TrainedRun

    opened = TrainedRun.open(options.run, options.checkpoint)
    out = options.out or options.run / "reconstructions" / options.image.stem
    result = make_mesh(opened, options.image, out, options.mask, options.framing, options.category)
    print_rows(result["pose"].items())
    print(f"Mesh: {out / 'mesh.glb'}\nPicture: {out / 'turntable.png'}")


@dataclass(frozen=True, kw_only=True)
class InterpolateOptions:
    """Choose two pictures, and how the way between them is drawn.

    Args:
        run: Folder of the run.
        first: A picture file, or NAME:VIEW of the run's data.
        second: Another one.
        steps: Shapes, both ends included.
        kind: Along a straight line or a great circle.
        category: Of the objects in files, among those that the run has learned; none: the only one.
        checkpoint: latest (or last), best, or a step.
        out: Folder to write; none: media/interpolation in the run.
    """

    run: Run
    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="A")]
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="B")]
    steps: int = 6
    kind: Literal["linear", "slerp"] = "linear"
    category: str | None = None
    checkpoint: Checkpoint = "latest"
    out: Path | None = None


def interpolate(options: Annotated[InterpolateOptions, tyro.conf.arg(name="")]) -> None:
    """Draw the shapes on the way from one picture to another: meshes, a strip, sheets of 24 views, a video.

    Args:
        options: Which, and how.
    """
    start_log()
    from shapewright.methods.pose_invariant import gallery
    from shapewright.methods.pose_invariant.trained import TrainedRun

    check_least("--steps", options.steps, 2)
    target = options.out or options.run / "media" / "interpolation"
    names = (options.first, options.second)
    opened = TrainedRun.open(options.run, options.checkpoint)
    for path in gallery.interpolate(opened, names, target, options.steps, options.kind, options.category):
        print(path)


def embed(
    run: Run,
    method: Literal["tsne", "pca"] = "tsne",
    split: Split | None = None,
    checkpoint: Checkpoint = "latest",
    seed: int = 0,
    out: Path | None = None,
) -> None:
    """Draw all codes of a run on a plane, coloured by pose and by object, and measure how much of the pose they keep.

    Args:
        run: Folder of the run.
        method: t-SNE (needs `pip install shapewright[analysis]`), or projection on the two main axes.
        split: Which objects; none: test, or val, or train, whichever is the first to exist.
        checkpoint: latest (or last), best, or a step.
        seed: Start of all random numbers.
        out: Files to write, without suffix; none: media/embedding in the run.
    """
    start_log()
    from shapewright.methods.pose_invariant import gallery
    from shapewright.methods.pose_invariant.trained import TrainedRun

    check_least("--seed", seed, 0)
    opened = TrainedRun.open(run, checkpoint)
    metrics, paths = gallery.embed(opened, out or run / "media" / "embedding", method, split, seed)
    print_rows(metrics.items())
    for path in paths:
        print(path)


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write the meshes that a run makes of pictures of its data into its folder meshes/.

    Args:
        run: Folder of the run.
        format: Formats with commas between them: glb, ply, obj.
        ids: Objects with commas between them; empty: all.
        split: Which objects; none: test, or val, or train, whichever is the first to exist.
        view: Which picture of each.
        checkpoint: latest (or last), best, or a step.
    """

    run: Run
    format: str = "glb"
    ids: str = ""
    split: Split | None = None
    view: int = 0
    checkpoint: Checkpoint = "latest"


def export(words: Sequence[str]) -> None:
    """Run ``export`` on a run of pictures."""
    options = tyro.cli(ExportOptions, prog="shapewright export", args=words)
    formats = split_names("--format", options.format, MESH_FORMATS)
    start_log()
    from shapewright.methods.pose_invariant import gallery
    from shapewright.methods.pose_invariant.trained import TrainedRun

    wanted = [name.strip() for name in options.ids.split(",") if name.strip()]
    opened = TrainedRun.open(options.run, options.checkpoint)
    for path in gallery.export(opened, formats, wanted, options.split, options.view):
        print(path)
