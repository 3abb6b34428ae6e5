"""Learn a category from one picture at a time, and judge unseen objects: the table of modes, seeds and controls.

    shapewright data render MODELS/car --protocol kato --split .8,0,.2 --seed 0 --out DATA/cars_s0     (and 1, 2)
    python benchmarks/pose_invariant.py DATA/cars_s0 DATA/cars_s1 DATA/cars_s2 --runs RUNS [--modes plain ...]

A folder of data is a seed: the number at the end of its name splits the objects and starts the training; ``--starts``
trains every row anew from other random numbers, since one run of a mode differs from the next by some hundredths of
voxel IoU. Every run has the preset ``cpu``, but for ``view_prior``, which has its own, ``cpu_view_prior``;
``multi_view`` draws half as many objects with two pictures each, so that all modes see as many pictures. ``shuffled``
is ``pose_invariant`` with wrong pose labels: the control; ``mmd`` has the discrepancy itself in its loss, in place of a
discriminator. Finished runs are not repeated, so that an interrupted benchmark goes on. The gain of the control is its
share of the gain over ``plain``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import statistics
import time
from pathlib import Path
from typing import Any

from timing import machine  # isort: skip - before torch is loaded
import torch

from shapewright.analysis.view_variance import code_shares
from shapewright.engine.start import Start
from shapewright.io.files import read_json, write_json
from shapewright.methods.pose_invariant.config import PoseInvariantConfig
from shapewright.methods.pose_invariant.evaluation import evaluate
from shapewright.methods.pose_invariant.judging import predict
from shapewright.methods.pose_invariant.presets import PRESETS
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import train
from shapewright.metrics.mmd import mean_pairwise_mmd

MODES = (
    *("plain", "prior", "pose_invariant", "shuffled", "mmd", "view_prior", "multi_view"),
    *("pose_invariant_cycle", "plain_cycle", "shuffled_cycle"),
)
PRESET_OF = {"view_prior": "cpu_view_prior"} | {mode: "cpu_cycle" for mode in MODES if mode.endswith("_cycle")}
# Of the modes that the preset is not made for.
PRIOR_WEIGHT, MMD_WEIGHT = 0.01, 0.2
# Of the starts on one folder.
SEEDS_APART = 100
COLUMNS = {
    "voxel_iou_32": "voxel IoU",
    "chamfer_x1000": "Chamfer x 1000",
    "mmd": "MMD",
    "pose_probe": "probe",
    "shape_variance_over_views": "variance over views",
    "shape_variance_between_objects": "between objects",
    "silhouette_iou_input": "silhouette, input",
    "silhouette_iou_90deg": "90 degrees",
    "inside_out_share": "inside out",
}


def config_of(
    mode: str, steps: int | None, views_per_object: int | None = None, cycle_weight: float | None = None
) -> PoseInvariantConfig:
    """Return the settings of a row of the table; two views of an object need all of its pictures."""
    config = PRESETS[PRESET_OF.get(mode, "cpu")]
    if cycle_weight is not None and mode.endswith("_cycle"):
        config = dataclasses.replace(config, loss=dataclasses.replace(config.loss, cycle_weight=cycle_weight))
    mode = mode.removesuffix("_cycle")
    if views_per_object is not None and mode != "multi_view":
        config = dataclasses.replace(config, data=dataclasses.replace(config.data, views_per_object=views_per_object))
    if mode == "shuffled":
        config = dataclasses.replace(config, adversary=dataclasses.replace(config.adversary, shuffle_poses=True))
    elif mode == "mmd":
        config = dataclasses.replace(
            config, adversary=dataclasses.replace(config.adversary, kind="mmd", weight=MMD_WEIGHT)
        )
    elif mode == "prior":
        loss = dataclasses.replace(config.loss, code_prior_weight=PRIOR_WEIGHT)
        config = dataclasses.replace(config, mode=mode, loss=loss)
    else:
        config = dataclasses.replace(config, mode=mode)
    if mode == "multi_view":
        config = dataclasses.replace(
            config, optim=dataclasses.replace(config.optim, batch_size=config.optim.batch_size // 2)
        )
    length = config.train if steps is None else dataclasses.replace(config.train, steps=steps)
    return dataclasses.replace(config, train=length)


def seed_of(data: Path) -> int:
    """Return the number at the end of a folder's name."""
    found = re.search(r"(\d+)$", data.name)
    return int(found.group(1)) if found else 0


def run_one(data: Path, config: PoseInvariantConfig, mode: str, out: Path, seed: int, points: int) -> dict[str, Any]:
    """Train and judge one run, or read what is finished."""
    if not (out / "row.json").is_file():
        start = time.process_time()
        train(config, data, out, Start(device="cpu", seed=seed, force=True))
        seconds = time.process_time() - start
        result = evaluate(out, num_points=points)
        write_json(out / "row.json", result | {"data": data.name, "mode": mode, "cpu_s": seconds})
    return read_json(out / "row.json")


def codes_by_view(out: Path) -> dict[str, float]:
    """Return what the variance of a run's codes is made of, and their MMD with and without its diagonal."""
    opened = TrainedRun.open(out, device="cpu")
    codes = predict(opened.method, opened.pictures(opened.test_split())).codes
    found = mean_pairwise_mmd(codes)
    return dataclasses.asdict(code_shares(codes)) | {"mmd": found.mean, "mmd_unbiased": found.unbiased}


def print_codes(runs: dict[str, list[Path]]) -> None:
    """Print the shares of the variance of codes, means over the runs of each mode."""
    print("\nvariance of the codes by objects, views, both; MMD; MMD without its diagonal, of each run as well")
    for mode, paths in runs.items():
        rows = [codes_by_view(path) for path in paths]
        means = [f"{statistics.mean(row[name] for row in rows):.3f}" for name in rows[0]]
        each = [f"{row['mmd_unbiased']:.3f}" for row in rows]
        print(f"  {mode:<16}{'  '.join(means)}  ({', '.join(each)})")


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print the means over the runs, every run, and the acceptance figures."""
    print(f"\n{machine()}\n")
    modes = [mode for mode in MODES if any(row["mode"] == mode for row in rows)]
    print("| mode | runs | " + " | ".join(COLUMNS.values()) + " | CPU s |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    for mode in modes:
        own = [row for row in rows if row["mode"] == mode]
        cells = [[row["metrics"].get(name, float("nan")) for row in own] for name in COLUMNS]
        means = [f"{statistics.mean(values):.4g}" for values in cells]
        print(f"| {mode} | {len(own)} | " + " | ".join(means) + f" | {statistics.mean(r['cpu_s'] for r in own):.0f} |")
    for name in ("voxel_iou_32", "mmd", "pose_probe"):
        print(f"\n{COLUMNS[name]}, each run")
        for mode in modes:
            values = [f"{row['metrics'][name]:.4f}" for row in rows if row["mode"] == mode]
            print(f"  {mode:<16}" + "  ".join(values))
    first = rows[0]
    print(
        f"\nchance of the probe {first['metrics'].get('pose_probe_chance', 0):.4f}, objects {first['metrics']['mmd_n']}"
    )
    for name in first["controls"]:
        values = [row["controls"][name] for row in rows if row["mode"] == modes[0]]
        print(f"control {name}: {statistics.mean(values):.4f}")
    _print_ratios(rows)


def _print_ratios(rows: list[dict[str, Any]]) -> None:
    """Print the gains and ratios that are asked for."""

    def mean(mode: str, name: str) -> float:
        return statistics.mean(row["metrics"][name] for row in rows if row["mode"] == mode)

    there = {row["mode"] for row in rows}
    if not {"plain", "pose_invariant"} <= there:
        return
    gain = mean("pose_invariant", "voxel_iou_32") - mean("plain", "voxel_iou_32")
    chance = rows[0]["metrics"]["pose_probe_chance"]
    print(f"\ngain in voxel IoU of pose_invariant over plain: {gain:+.4f}")
    print(f"MMD, share of plain's: {mean('pose_invariant', 'mmd') / mean('plain', 'mmd'):.3f}")
    print(
        f"probe, times chance: pose_invariant {mean('pose_invariant', 'pose_probe') / chance:.2f}, "
        f"plain {mean('plain', 'pose_probe') / chance:.2f}"
    )
    if "shuffled" in there:
        kept = (mean("shuffled", "voxel_iou_32") - mean("plain", "voxel_iou_32")) / gain
        print(f"shuffled labels keep {100 * kept:.0f} % of the gain, and have an MMD", end=" ")
        print(f"{mean('shuffled', 'mmd') / mean('pose_invariant', 'mmd'):.2f} times that of true labels")


def main() -> None:
    """Train what is missing, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--starts", type=int, default=1, metavar="N", help="runs of each mode on each folder")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--views-per-object", type=int, default=None, metavar="N", help="pictures to learn from")
    parser.add_argument("--cycle-weight", type=float, default=None, metavar="W", help="of modes with a cycle")
    parser.add_argument("--points", type=int, default=10_000, help="of the Chamfer distance")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    runs: dict[str, list[Path]] = {mode: [] for mode in arguments.modes}
    for data in arguments.data:
        for mode in arguments.modes:
            config = config_of(mode, arguments.steps, arguments.views_per_object, arguments.cycle_weight)
            for start in range(arguments.starts):
                out = arguments.runs / (f"{data.name}_{mode}" + f"_{start}" * bool(start))
                seed = seed_of(data) + SEEDS_APART * start
                runs[mode].append(out)
                rows.append(run_one(data, config, mode, out, seed, arguments.points))
                print(json.dumps({name: rows[-1][name] for name in ("data", "mode", "cpu_s", "metrics")}), flush=True)
    print_table(rows)
    print_codes(runs)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
