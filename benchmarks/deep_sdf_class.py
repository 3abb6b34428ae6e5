"""Learn a category of meshes on several splits and judge the shapes it has not seen; docs/deep_sdf.md has the protocol.

``python benchmarks/deep_sdf_class.py SAMPLES --out FOLDER [--groups index.csv] [--members variants]``
SAMPLES is what ``shapewright data sample-sdf`` wrote, with ``--variants``. About 80 % of the shapes that have a clear
inside are learned, split by similarity; the others are fitted, refined, and completed from what one view sees of them.
All figures are medians over the unseen shapes, in units of the unit sphere; controls stand beside them.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import random
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from shape_library import ShapeLibrary, poisson_surface, trimmed_poisson_surface

from shapewright.data.partial_views import ScanView, front_view_scan
from shapewright.data.sdf_samples import SdfFolder, ShapeKey, write_split
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import is_watertight
from shapewright.io.files import read_json, write_json
from shapewright.io.images import write_image
from shapewright.methods.deep_sdf.completion import CompletionConfig, complete
from shapewright.methods.deep_sdf.fitting import fit_codes, refine
from shapewright.methods.deep_sdf.fusion import FusionConfig, fuse
from shapewright.methods.deep_sdf.judging import NEAR_SURFACE, sample_metrics, split_samples
from shapewright.methods.deep_sdf.observations import from_samples
from shapewright.methods.deep_sdf.presets import PRESETS
from shapewright.methods.deep_sdf.shapes import VARIANT_MARK, ShapeSet
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.methods.deep_sdf.training import train
from shapewright.metrics.shape_metrics import PreparedShape, ShapeMetricOptions, compare_points, shape_metrics
from shapewright.rendering.mesh_pictures import PointLayer, draw_grid, draw_mesh
from shapewright.rendering.picture_camera import MeshView

F, CD = "f_score_radius_2pct", "chamfer_x1000"
VIEW = MeshView(center=(0.0, 0.0, 0.0), radius=1.0, size_px=200)
BACK = dataclasses.replace(VIEW, azimuth_deg=210.0)
SCAN_POINTS, SCAN_AZIMUTH_DEG = 5000, 30.0
QUICK = ShapeMetricOptions.quick()
FULL = ShapeMetricOptions()

Scores = dict[str, float]


def main() -> None:
    """Run the protocol and write results.json, a table and pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--groups", type=Path, help="index.csv with the columns key and shape_cluster")
    parser.add_argument("--members", choices=("originals", "variants"), default="originals")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--first-split", type=int, default=0)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--preset", default="cpu-class")
    parser.add_argument("--what", choices=("fit", "complete", "both"), default="both")
    parser.add_argument("--reuse", action="store_true", help="take the trained runs of an earlier call")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for split in range(options.first_split, options.first_split + options.splits):
        space, seconds = train_split(options, split)
        learned = [space.shapes.train[i] for i in space.shapes.originals] or list(space.shapes.train)
        bench = Benchmark(space.shapes, learned)
        for what in ("fit", "complete") if options.what == "both" else (options.what,):
            items = (judge_fits if what == "fit" else judge_completions)(space, bench, options.out / f"split{split}")
            result = {"learned": len(space.shapes.train), **seconds, "items": items}
            write_json(options.out / f"split{split}_{what}.json", result)
    print(summary_table(options.out))


def train_split(options: argparse.Namespace, split: int) -> tuple[ShapeSpace, dict[str, float]]:
    """Return the shape space of one split, and the seconds of its training."""
    place = options.out / f"split{split}"
    if not options.reuse:
        place.mkdir(exist_ok=True)
        names = {}
        for name, keys in zip(("train", "test"), split_keys(SdfFolder(options.samples), options, split), strict=True):
            names[name] = place / f"{name}.json"
            write_split(names[name], keys)
        config = PRESETS[options.preset]
        splits = {f"{name}_split": str(path.resolve()) for name, path in names.items()}
        length = config.train if options.steps is None else dataclasses.replace(config.train, steps=options.steps)
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, **splits), train=length)
        started, wall = time.process_time(), time.monotonic()
        run = train(config, options.samples, place / "run", Start(force=True))
        spent = {"train_cpu_s": time.process_time() - started, "train_wall_s": time.monotonic() - wall}
        write_json(run.path / "seconds.json", spent)
    return ShapeSpace.open(place / "run"), read_json(place / "run" / "seconds.json")


class Benchmark:
    """Hold true meshes, prepared once, and the controls over the learned ones."""

    def __init__(self, shapes: ShapeSet, learned: Sequence[ShapeKey]) -> None:
        self.shapes = shapes
        self.library = ShapeLibrary([self.mesh(key) for key in learned])

    def mesh(self, key: ShapeKey) -> Mesh:
        """Return the true surface of a shape in the unit sphere."""
        truth = self.shapes.truth(key)
        if truth is None:
            raise UserError(f"The mesh of {key} is gone.", "Sample the meshes again.")
        return truth.mesh.to(torch.float32)


def split_keys(folder: SdfFolder, options: argparse.Namespace, split: int) -> tuple[list[ShapeKey], list[ShapeKey]]:
    """Return learned and unseen shapes: whole groups of similar ones go to one side, variants with their original."""
    healthy = [key for key in folder.files if folder.manifest[str(key)]["state"] == "ok"]
    if options.members == "variants":
        members = [key for key in healthy if VARIANT_MARK in key.name]
        random.Random(split).shuffle(members)
        held = max(1, len(members) // 5)
        return sorted(members[held:]), sorted(members[:held])
    originals = [key for key in healthy if VARIANT_MARK not in key.name]
    groups = groups_from(options.groups) if options.groups else groups_by_distance(folder, originals)
    names = sorted({groups[key.name] for key in originals})
    random.Random(split).shuffle(names)
    test: list[ShapeKey] = []
    while len(test) < round(0.2 * len(originals)):
        test += [key for key in originals if groups[key.name] == names[0]]
        names = names[1:]
    held_names = {key.name for key in test}
    return [key for key in healthy if key.name.partition(VARIANT_MARK)[0] not in held_names], sorted(test)


def groups_from(path: Path) -> dict[str, str]:
    """Return the group of each shape from a table."""
    with path.open(encoding="utf-8", newline="") as file:
        return {row["key"]: row["shape_cluster"] for row in csv.DictReader(file)}


def groups_by_distance(folder: SdfFolder, keys: Sequence[ShapeKey]) -> dict[str, str]:
    """Return groups of shapes whose surfaces differ by less than 0.02 on average, both ways (single linkage)."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    shapes = ShapeSet(folder, list(keys), [])
    library = ShapeLibrary([shapes.truth(key).mesh.to(torch.float32) for key in keys])  # type: ignore[union-attr]
    labels = fcluster(linkage(squareform(library.mean_distances().numpy(), checks=False)), 0.04, "distance")
    return {key.name: str(label) for key, label in zip(keys, labels, strict=True)}


def judge_fits(space: ShapeSpace, bench: Benchmark, place: Path) -> list[dict[str, Any]]:
    """Return the figures of codes and refined layers of all unseen shapes, and write a picture of them."""
    items, rows = [], []
    for key in space.shapes.test:
        truth = PreparedShape(bench.mesh(key), QUICK)
        seen, held = split_samples(space, key)
        support = held[held[:, 3].abs() < NEAR_SURFACE][:, :3]
        started = time.process_time()
        bounds = from_samples(seen)
        code = fit_codes(space.fit_context(), [bounds], space.config.fit).codes[0, 0]
        done = time.process_time()
        decoder, moved = refine(space.fit_context(), bounds, code, space.config.fit)
        seconds = {"fit_cpu_s": done - started, "refine_cpu_s": time.process_time() - done}
        meshes = {
            "fit": surface(space, code, support, None),
            "refined": surface(space, moved, support, decoder),
            "oracle": bench.library.oracle(truth),
            "medoid": bench.library.medoid(),
        }
        item = {"id": str(key), **seconds, **{name: score(mesh, truth) for name, mesh in meshes.items()}}
        item["fit"]["chamfer_30k_x1000"] = score(meshes["fit"], PreparedShape(truth.mesh, FULL))[CD]
        item["refined"] |= sample_metrics(space.field(moved, decoder), held, space.config.loss.clamp)
        rows.append([draw_mesh(mesh, VIEW) for mesh in (truth.mesh, *meshes.values())])
        items.append(item)
        tell(item)
    heads = ["truth", "fitted code", "last layers too", "oracle retrieval", "medoid"]
    write_image(place / "fits.png", draw_grid(rows, heads, [item["id"] for item in items]))
    return items


def judge_completions(space: ShapeSpace, bench: Benchmark, place: Path) -> list[dict[str, Any]]:
    """Complete every unseen shape from one view of it; return the figures beside the controls, and write a picture."""
    items, rows = [], []
    for key in space.shapes.test:
        truth = PreparedShape(bench.mesh(key), QUICK)
        scan = front_view_scan(truth.mesh, ScanView(azimuth_deg=SCAN_AZIMUTH_DEG), SCAN_POINTS)
        started = time.process_time()
        code = complete(space.fit_context(), scan, CompletionConfig(), space.config.fit).fit.codes[0, 0]
        guess = surface(space, code, scan.points, None)
        fitted = time.process_time()
        fused = fuse(scan, space.field(code), FusionConfig())
        seconds = {"complete_cpu_s": fitted - started, "fuse_cpu_s": time.process_time() - fitted}
        meshes = {
            "guess": guess,
            "fused": fused,
            "trimmed_poisson": trimmed_poisson_surface(scan),
            "poisson": poisson_surface(scan),
            "nearest_by_points": bench.library.nearest_to_points(scan.points),
            "medoid": bench.library.medoid(),
        }
        item = {"id": str(key), **seconds, **{name: score(mesh, truth) for name, mesh in meshes.items()}}
        item["fused"]["seen_distance"] = compare_points(scan.points, fused).mean
        item["fused"]["watertight"] = float(is_watertight(fused))
        seen = draw_mesh(NOTHING, VIEW, points=PointLayer(scan.points, normals=scan.normals))
        rows.append([seen, *(draw_mesh(mesh, VIEW) for mesh in (*list(meshes.values())[:4], truth.mesh))])
        rows.append(
            [
                draw_mesh(NOTHING, VIEW, points=PointLayer(scan.points)),
                *(draw_mesh(mesh, BACK) for mesh in (*list(meshes.values())[:4], truth.mesh)),
            ]
        )
        items.append(item)
        tell(item)
    heads = ["seen", "guess", "fused", "trimmed Poisson", "Poisson", "truth"]
    names = [name for item in items for name in (item["id"], "from behind")]
    write_image(place / "completions.png", draw_grid(rows, heads, names))
    return items


def tell(item: dict[str, Any]) -> None:
    """Print the F-scores of one shape."""
    scores = {name: round(value[F], 3) for name, value in item.items() if isinstance(value, dict)}
    print(item["id"], json.dumps(scores), flush=True)


NOTHING = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))


def surface(space: ShapeSpace, code: torch.Tensor, support: torch.Tensor, decoder: Any) -> Mesh:
    """Return the surface of a code; nothing where its field has none."""
    try:
        return space.mesh(code, support, decoder)
    except UserError:
        return NOTHING


def score(mesh: Mesh, truth: PreparedShape) -> Scores:
    """Return F-score and Chamfer distance of a mesh; the worst where there is none."""
    if not mesh.num_faces:
        return {F: 0.0, CD: 1000.0}
    metrics = shape_metrics(mesh, truth, truth.options)
    return {name: metrics[name] for name in (F, "f_score_radius_1pct", CD, "chamfer_floor_x1000")}


def summary_table(out: Path) -> str:
    """Return the table of all splits in ``out`` as Markdown."""
    lines = ["| split | unseen | what | F@.02 | F@.01 | CD x1000 (8k) |", "|---|---|---|---|---|---|"]
    for path in sorted(out.glob("split*_*.json")):
        result = json.loads(path.read_text())
        items = result["items"]
        names = [name for name, value in items[0].items() if isinstance(value, dict)]
        for name in names:
            cells = [
                f"{statistics.median(item[name].get(metric, float('nan')) for item in items):.3f}"
                for metric in (F, "f_score_radius_1pct", CD)
            ]
            lines.append(f"| {path.stem} | {len(items)} | {name} | {' | '.join(cells)} |")
        lines.append(f"| {path.stem} | {len(items)} | {shares(items)} | | | |")
    return "\n".join(lines)


def shares(items: Sequence[dict[str, Any]]) -> str:
    """Return in how many shapes one result beats another."""

    def share(one: str, other: str, metric: str) -> str:
        sign = -1 if metric == CD else 1
        wins = sum(sign * item[one][metric] > sign * item[other][metric] for item in items)
        return f"{wins / len(items):.0%}"

    pairs = [("fit", "oracle", F), ("guess", "poisson", CD), ("guess", "medoid", CD)]
    pairs += [("guess", "nearest_by_points", F), ("fused", "trimmed_poisson", F)]
    pairs += [("fused", "poisson", CD), ("fused", "medoid", CD), ("fused", "nearest_by_points", F)]
    return "; ".join(
        f"{one} beats {other} ({'F' if metric == F else 'CD'}): {share(one, other, metric)}"
        for one, other, metric in pairs
        if one in items[0] and other in items[0]
    )


if __name__ == "__main__":
    main()
