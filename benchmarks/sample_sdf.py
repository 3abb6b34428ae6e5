"""Cost of 500,000 signed distance samples, against trimesh in chunks as NeoRender takes them.

    python benchmarks/sample_sdf.py [--quick] [--threads 1] [--json FILE] [--models FOLDER] [MESH ...]

Ours is the whole job of one mesh: reading, normalisation, repair, positions, distances, signs, writing. The other side
is `trimesh.proximity.signed_distance` alone, 100 points a call, on 3,000 of the same points, its time scaled to all of
them (it needs `pip install rtree`), once with the rays that trimesh brings along, as NeoRender had them, and once with
Embree's. Each side of each mesh runs in a process of its own; ours has sampled a small ball before, so that the growth
of the memory is the job's. CPU seconds of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# libigl uses all processors otherwise.
os.environ.setdefault("IGL_NUM_THREADS", "1")
import numpy as np
import torch
import trimesh
from timing import machine

from shapewright.data.sdf_samples import SAMPLES, ShapeKey, read_samples
from shapewright.data.sdf_shape import SamplingOptions, ShapeTask, sample_shape
from shapewright.geometry.sampling import normalisation
from shapewright.io.meshes import read_mesh

DEFAULT_MODELS = Path(__file__).parents[2] / "shared" / "data" / "models" / "classic"
MESHES = ("stanford-bunny", "beetle-alt", "teapot", "homer", "bunny", "beetle")
COUNT, QUICK_COUNT = 500_000, 50_000
REFERENCE_POINTS, CHUNK = 3_000, 100
MOST_SECONDS, MOST_MEGABYTES, LEAST_RATIO = 10.0, 100.0, 30.0


def ours(path: Path, out: Path, count: int, threads: int) -> dict[str, Any]:
    """Return the cost of sampling a mesh, after a small ball has loaded all libraries."""
    torch.set_num_threads(threads)
    ball = out / "ball.ply"
    trimesh.creation.icosphere(subdivisions=3).export(ball)
    sample(ball, out, 2_000)
    memory, start = megabytes(), time.process_time()
    entry = sample(path, out, count)
    return {
        "ours_cpu_s": time.process_time() - start,
        "growth_mb": megabytes() - memory,
        "state": entry["state"],
        "contested_pct": 100 * entry["mesh"]["contested_share"],
        "inside_pct": 100 * entry["mesh"]["inside_share"],
    }


def sample(path: Path, out: Path, count: int) -> dict[str, Any]:
    """Sample one mesh as the command does."""
    return sample_shape(ShapeTask(key_of(path), path, out, SamplingOptions(num_samples=count)))


def key_of(path: Path) -> ShapeKey:
    """Return what a mesh is called here."""
    return ShapeKey("benchmark", "all", path.stem)


def reference(path: Path, out: Path, count: int, use_embree: bool) -> float:
    """Return the CPU seconds that trimesh would take for all points."""
    mesh = read_mesh(path)
    unit = normalisation(mesh).apply_to(mesh)
    other = trimesh.Trimesh(unit.vertices.numpy(), unit.faces.numpy(), process=False, use_embree=use_embree)
    points = read_samples(key_of(path).file(out, SAMPLES, ".npz")).rows()[:, :3].astype(np.float64)
    points = np.random.default_rng(0).permutation(points)[:REFERENCE_POINTS]
    trimesh.proximity.signed_distance(other, points[:CHUNK])  # builds the trees
    start = time.process_time()
    for first in range(0, len(points), CHUNK):
        trimesh.proximity.signed_distance(other, points[first : first + CHUNK])
    return (time.process_time() - start) * count / len(points)


def megabytes() -> float:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure(path: Path, count: int, threads: int) -> dict[str, Any]:
    """Return the row of one mesh."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        row = in_process(ours, path, out, count, threads)
        scaled = in_process(reference, path, out, count, False)
        embree = in_process(reference, path, out, count, True)
    row |= {"reference_cpu_s": scaled, "ratio": scaled / row["ours_cpu_s"], "embree_cpu_s": embree}
    return {"name": path.stem, "size": count, "threads": threads, **row}


def in_process(function: Any, *arguments: Any) -> Any:
    """Run a function in a fresh process and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def main() -> None:
    """Measure, print a table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("meshes", nargs="*", default=list(MESHES), metavar="MESH")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_COUNT} samples")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=Path, default=DEFAULT_MODELS, metavar="FOLDER")
    arguments = parser.parse_args()
    count = QUICK_COUNT if arguments.quick else COUNT
    print(f"{count:,} samples; bars: {MOST_SECONDS} s, {MOST_MEGABYTES} MB, {LEAST_RATIO}x in the median\n")
    print("| mesh | ours, CPU s | growth, MB | trimesh scaled, CPU s | ratio | the same with Embree | state |")
    print("|---|---|---|---|---|---|---|")
    rows = []
    for name in arguments.meshes:
        row = measure(arguments.models / f"{name}.ply", count, arguments.threads)
        rows.append(row)
        print(
            f"| {name} | {row['ours_cpu_s']:.2f} | {row['growth_mb']:.0f} | {row['reference_cpu_s']:.0f} | "
            f"{row['ratio']:.1f}x | {row['embree_cpu_s']:.0f}, {row['embree_cpu_s'] / row['ours_cpu_s']:.1f}x | "
            f"{row['state']} |",
            flush=True,
        )
    print(f"\nmedian ratio {statistics.median(row['ratio'] for row in rows):.1f}x\n{machine()}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
