"""The jobs of ``surface`` on folders: what the command line calls."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from shapewright.data.scene import Scene, load_scene
from shapewright.engine.checkpoint import load_checkpoint
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.device import prepare_process, resolve_device
from shapewright.engine.run_dir import RunDir
from shapewright.engine.start import Start
from shapewright.engine.trainer import Trainer, TrainResult
from shapewright.errors import UserError
from shapewright.io.meshes import write_mesh
from shapewright.methods.surface.config import MeshConfig, SurfaceConfig
from shapewright.methods.surface.evaluation import (
    TRUE_MESH,
    EvaluatedView,
    distance_to_true_mesh,
    evaluate_views,
    summarise,
)
from shapewright.methods.surface.meshing import extract_mesh
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.methods.surface.presets import PRESETS, fit_to_minutes

_SHOWN_VIEWS = 8
_DEMO_MINUTES = 1.5


def train(
    config: SurfaceConfig, data: Path, out: Path, start: Start | None = None, deadline: float | None = None
) -> tuple[RunDir, SurfaceMethod, Scene]:
    """Train on a scene in a new run folder.

    Args:
        config: Settings.
        data: The scene.
        out: The run folder; new or empty.
        start: Device, seed, record.
        deadline: When given, the ``time.monotonic`` at which mesh, evaluation and report shall be done too; it replaces
            ``train.minutes``.

    Raises:
        UserError: if the scene, the folder or the device cannot be used.
    """
    start = start or Start()
    prepare_process()
    target = resolve_device(start.device)
    RunDir.check_new(out, start.force)
    scene = open_scene(config, data)
    if deadline is not None:
        deadline -= _seconds_after_training(scene)
    method = SurfaceMethod.start(config, scene, target, start.seed)
    if deadline is not None:
        minutes = max(deadline - time.monotonic(), 5.0) / 60.0
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, minutes=minutes))
    details = {"method": "surface", "data": str(data.resolve()), "device": str(target), "seed": start.seed}
    run = RunDir.create(out, to_dict(config), start.command, details, start.force)
    run.log(describe_scene(scene))
    Trainer(method, run, config.train).fit()
    return run, method, scene


def open_scene(config: SurfaceConfig, data: Path) -> Scene:
    """Return the scene as the settings say to read it."""
    options = config.data
    return load_scene(data, options.cameras_file, options.holdout_every, options.normalise)


def describe_scene(scene: Scene) -> str:
    """Return a line about a scene for the log."""
    width, height = scene.cameras.sizes[0].tolist()
    return (
        f"{scene.path}: {scene.format}, {len(scene.train)} training and {len(scene.test)} held-out pictures, "
        f"the first {width}x{height}, normalised by {scene.normalisation.method}."
    )


def resume(run_path: Path, device: str = "auto") -> TrainResult:
    """Go on with a run from its latest checkpoint that is whole.

    Raises:
        UserError: if the folder is no run, holds no checkpoint, or its scene is gone.
    """
    run, method, _ = open_run(run_path, device, for_training=True)
    config = from_dict(SurfaceConfig, run.config)
    return Trainer(method, run, config.train).fit()


def open_run(
    run_path: Path,
    device: str = "auto",
    checkpoint: Literal["latest", "best"] | int = "latest",
    for_training: bool = False,
) -> tuple[RunDir, SurfaceMethod, Scene]:
    """Return a run, its method as of a checkpoint, and its scene."""
    prepare_process()
    run = RunDir.open(run_path)
    config = from_dict(SurfaceConfig, run.config)
    scene = open_scene(config, Path(run.info["data"]))
    _, tensors, _ = load_checkpoint(run, checkpoint)
    target = resolve_device(device)
    method = SurfaceMethod.restore(config, tensors, target, scene if for_training else None)
    return run, method, scene


def evaluate(
    run_path: Path, checkpoint: Literal["latest", "best"] | int = "latest", resolution_step: int = 1
) -> dict[str, Any]:
    """Measure a run on its held-out pictures, write ``metrics.json``, and return what it holds."""
    run, method, scene = open_run(run_path, checkpoint=checkpoint)
    return measure(run, method, scene, resolution_step)[0]


def measure(
    run: RunDir, method: SurfaceMethod, scene: Scene, step: int = 1
) -> tuple[dict[str, Any], list[EvaluatedView]]:
    """Write ``metrics.json`` of the held-out views; return it, and the views with the pictures of some of them."""
    wall, cpu = time.monotonic(), time.process_time()
    views, split = (scene.test, "test") if scene.test else (scene.train, "train")
    shown = set(views[:: max(1, -(-len(views) // _SHOWN_VIEWS))])
    evaluated = evaluate_views(method, scene, views, step, keep=lambda view: view in shown)
    metrics = summarise(evaluated)
    mesh, truth = run.meshes / "mesh.glb", scene.path / TRUE_MESH
    if mesh.is_file() and truth.is_file():
        metrics |= distance_to_true_mesh(mesh, truth)
    controls = {name: metrics.pop(name) for name in ("constant_color_psnr",) if name in metrics}
    result = {
        "schema": 1,
        "method": "surface",
        "protocol": f"{split} views, every {step}. pixel" if step > 1 else f"{split} views, every pixel",
        "split": split,
        "checkpoint": _last_step(run),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "wall_seconds": round(time.monotonic() - wall, 2),
        "metrics": metrics,
        "controls": controls,
        "items": [{"id": view.name, **view.metrics} for view in evaluated],
    }
    run.write_metrics(result)
    return result, [view for view in evaluated if view.view in shown]


def _last_step(run: RunDir) -> int:
    rows = run.read_metrics()
    return int(rows[-1]["step"]) if rows else 0


def export(
    run_path: Path,
    formats: Sequence[str] = ("glb",),
    resolution: int | None = None,
    units: Literal["world", "normalised"] = "world",
    components: Literal["largest", "all"] = "largest",
    hull_cull: bool = True,
) -> list[Path]:
    """Extract the mesh of a run and write it in every format; return the files."""
    run, method, scene = open_run(run_path)
    default = from_dict(SurfaceConfig, run.config).mesh
    config = MeshConfig(
        resolution=resolution or default.resolution, units=units, components=components, hull_cull=hull_cull
    )
    mesh = extract_mesh(method, scene, config)
    written = [run.meshes / f"mesh.{suffix}" for suffix in formats]
    for path in written:
        write_mesh(path, mesh)
    return written


def reconstruct(config: SurfaceConfig, data: Path, out: Path, start: Start | None = None) -> Path:
    """Train, mesh, measure and report; ``train.minutes`` is the time of the whole job.

    Returns:
        The run folder, with ``meshes/mesh.glb``, ``metrics.json`` and ``report.html``.
    """
    from shapewright.methods.surface.report import write_run_report

    started = time.monotonic()
    deadline = None
    if config.train.minutes is not None:
        deadline = started + 60.0 * config.train.minutes
        config = fit_to_minutes(config, config.train.minutes)
    run, method, scene = train(config, data, out, start, deadline)
    trained = time.monotonic()
    mesh = extract_mesh(method, scene, config.mesh)
    write_mesh(run.meshes / "mesh.glb", mesh)
    meshed = time.monotonic()
    result, views = measure(run, method, scene)
    timings = {
        "training": trained - started, "mesh": meshed - trained, "evaluation": time.monotonic() - meshed
    }  # fmt: skip
    write_run_report(run, scene, mesh, result, views, timings)
    run.log(f"The whole job took {time.monotonic() - started:.0f} s.")
    return run.path


def _seconds_after_training(scene: Scene) -> float:
    """Return a guess of the seconds that mesh, evaluation and report take on two cores."""
    pixels = int(scene.cameras.sizes[list(scene.test)].prod(dim=1).sum())
    return 5.0 + 2.5e-6 * pixels


def demo(out: Path, force: bool = False) -> Path:
    """Reconstruct the capture that comes with the package."""
    from shapewright.data.demo import demo_capture_path

    config = PRESETS["cpu-fast"]
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, minutes=_DEMO_MINUTES))
    return reconstruct(config, demo_capture_path(), out, Start(command=["shapewright", "demo"], force=force))


def render(
    run_path: Path,
    what: Sequence[str] = ("rgb",),
    path_kind: Literal["test", "train", "orbit"] = "test",
    frames: int = 60,
    video: bool = False,
    views: Sequence[int] = (),
) -> list[Path]:
    """Render views or an orbit of a run into its ``media`` folder; return the files."""
    from shapewright.methods.surface.pictures import orbit_cameras, write_pictures

    run, method, scene = open_run(run_path)
    if path_kind == "orbit":
        cameras, names = orbit_cameras(scene, frames), [f"orbit_{i:03d}" for i in range(frames)]
    else:
        chosen = list(views) or list(scene.test if path_kind == "test" else scene.train)
        wrong = [view for view in chosen if not 0 <= view < len(scene.views)]
        if wrong:
            raise UserError(
                f"There is no view {wrong[0]} in {scene.path}: it has {len(scene.views)}, numbered from 0.",
                "Choose other numbers for --views.",
            )
        cameras, names = scene.cameras[chosen], [f"view_{scene.views[view].name}" for view in chosen]
    return write_pictures(run, method, cameras, names, what, video or path_kind == "orbit")
