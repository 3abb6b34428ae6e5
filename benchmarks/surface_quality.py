"""Reconstruct the shared captures with the default preset and print what the held-out pictures say.

``python benchmarks/surface_quality.py [--scenes dtu_scan65,nerf_chair] [--minutes M] [--runs FOLDER] [--json FILE]``
reads the captures from ``../shared/data`` or ``$SHAPEWRIGHT_TEST_DATA``. Runs that exist in the folder are measured,
not trained again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import torch

from shapewright.data.scene import Scene
from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.io.files import read_json, write_json
from shapewright.io.images import read_image
from shapewright.methods.surface import pipeline
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.methods.surface.presets import DEFAULT_PRESET, PRESETS
from shapewright.metrics.image import depth_error

# An 8-bit test depth v of NeRF-synthetic is the distance 8 (1 - v / 255) from the camera, in scene units.
DEPTH_RANGE = 8.0


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", default="dtu_scan65,nerf_chair")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--runs", type=Path, default=Path("runs/quality"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    data = Path(os.environ.get("SHAPEWRIGHT_TEST_DATA", "../shared/data"))
    rows = [measure(data / name, options.runs / name, options.minutes) for name in options.scenes.split(",")]
    for row in rows:
        print(json.dumps(row, indent=1))
    if options.json:
        write_json(options.json, rows)


def measure(data: Path, out: Path, minutes: float | None) -> dict[str, object]:
    """Return the figures of one scene, after reconstructing it if the run is not there yet."""
    seconds = 0.0
    if not (out / "metrics.json").is_file():
        config = PRESETS[DEFAULT_PRESET]
        if minutes is not None:
            config = dataclasses.replace(config, train=TrainConfig(minutes=minutes))
        started = time.monotonic()
        pipeline.reconstruct(config, data, out, Start(command=["benchmarks/surface_quality.py", data.name]))
        seconds = time.monotonic() - started
    result = read_json(out / "metrics.json")
    row = {"scene": data.name, "seconds": round(seconds, 1), **result["metrics"], "controls": result["controls"]}
    if list(data.glob("test/*_depth_0000.png")):
        _, method, scene = pipeline.open_run(out)
        row |= chair_depth(method, scene)
    return row


def chair_depth(method: SurfaceMethod, scene: Scene) -> dict[str, float]:
    """Return the median depth error over all test views, relative to the greatest side of the surface's box."""
    from shapewright.methods.surface.config import MeshConfig
    from shapewright.methods.surface.meshing import extract_mesh

    lower, upper = extract_mesh(method, scene, MeshConfig(resolution=96)).bounds
    size = float((upper - lower).max())
    views = []
    for view in scene.test:
        path = scene.views[view].image_path
        grey = read_image(path.with_name(f"{path.stem}_depth_0000.png"))[..., 0]
        truth = torch.from_numpy(DEPTH_RANGE * (1.0 - grey.astype(np.float32) / 255.0))
        inside = torch.from_numpy(scene.mask(view)) & torch.from_numpy(grey > 0)
        depth = method.render_view(scene.cameras, view).depth * scene.scale
        views.append(depth_error(depth, truth, inside, size))
    return {name: float(np.mean([view[name] for view in views])) for name in views[0]} | {"object_size": size}


if __name__ == "__main__":
    main()
