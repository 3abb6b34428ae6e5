"""Cost of a training step of ``surface``: the paper's tracer, the fast one, and the presets.

    python benchmarks/surface_step.py SCENE [--quick] [--threads 1] [--json FILE]

CPU seconds of this process for each ray of a step, everything included (batch, tracing, refresh of caches, backward,
optimizer), and evaluations of the signed distance for each ray. The reference of every row is ``idr-paper`` with the
paper's tracer, measured in the same run; its steps and those of the fast tracer alternate on the same weights.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from shapewright.data.scene import Scene, load_scene
from shapewright.engine.schedule import Moment
from shapewright.fields.grid_sdf import GridSdf
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.methods.surface.presets import PRESETS
from shapewright.methods.surface.tracing import TracingModel
from shapewright.methods.surface.tracing_config import TracingModelConfig
from shapewright.methods.surface.tracing_pixels import PixelBatch
from shapewright.rendering.sphere_tracing import FieldCache, Rays, TracingConfig, trace
from shapewright.rendering.traced_rays import CountedField

CPU = torch.device("cpu")
# As many steps as between two refreshes of the fast tracer's cache: one refresh is in the mean.
FAST_STEPS = 16
# The first steps move the surface by a cell each: every one of them refreshes the cache.
WARM_STEPS = 12
RUN_STEPS = 10_000


@dataclass(frozen=True)
class Cost:
    """Hold what one ray of a training step costs."""

    cpu_seconds: float
    evaluations: float
    rays: float


@dataclass(frozen=True)
class Agreement:
    """Hold how the two tracers answer for the same rays and weights."""

    same_hit: float
    depth_difference: float
    exact_evaluations: float
    fast_evaluations: float


def step(method: SurfaceMethod | TracingModel, number: int) -> tuple[float, dict[str, Any]]:
    """Make one step; return its CPU seconds and its report."""
    moment = Moment(number, number / RUN_STEPS)
    start = time.process_time()
    report = method.train_step(method.next_batch(moment), moment)
    return time.process_time() - start, dict(report)


def mean_cost(steps: list[tuple[float, dict[str, Any]]], rays: int) -> Cost:
    """Return the mean cost of tracing steps."""
    seconds = sum(seconds for seconds, _ in steps) / len(steps)
    evaluations = sum(report["evaluations_per_ray"] for _, report in steps) / len(steps)
    return Cost(seconds / rays, evaluations, rays)


def compare_paper(scene: Scene, rays: int, exact_steps: int) -> tuple[Cost, Cost, Agreement]:
    """Return the costs of ``idr-paper`` with both tracers, and how they agree."""
    paper = PRESETS["idr-paper"].tracing
    paper = replace(paper, batch=replace(paper.batch, num_rays=rays))
    with_fast = replace(paper, tracing=TracingConfig(tracer="fast"))
    fast, exact = TracingModel(with_fast, scene, CPU, 0), TracingModel(paper, scene, CPU, 0)
    for number in range(WARM_STEPS):
        step(fast, number)
    tensors = fast.state_dict()
    exact.load_state_dict({name: value.clone() for name, value in tensors.items()})
    fast_costs, exact_costs = [], []
    for number in range(WARM_STEPS, WARM_STEPS + FAST_STEPS):
        fast_costs.append(step(fast, number))
        if len(exact_costs) < exact_steps:
            exact_costs.append(step(exact, number))
    agreement = agree(fast, fast.next_batch(Moment(0, 0.0)), with_fast)
    return mean_cost(exact_costs, rays), mean_cost(fast_costs, rays), agreement


def agree(model: TracingModel, batch: PixelBatch, config: TracingModelConfig) -> Agreement:
    """Trace a batch with both tracers."""
    cache = FieldCache(config.tracing.cache_resolution, config.tracing.radius)
    cache.refresh(CountedField(model.sdf, config.tracing.chunk_size))
    rays = Rays.through_sphere(batch.origins, batch.directions, config.tracing.radius)
    exact = trace(model.sdf, rays, replace(config.tracing, tracer="exact"))
    fast = trace(model.sdf, rays, config.tracing, cache)
    both = exact.hit & fast.hit
    return Agreement(
        float((exact.hit == fast.hit).float().mean()),
        float((exact.distances - fast.distances)[both].abs().median()),
        exact.num_evaluations / len(rays),
        fast.num_evaluations / len(rays),
    )


def measure_hash(scene: Scene, warm_steps: int) -> tuple[Cost, Agreement]:
    """Return the cost of the preset ``hash`` after some training."""
    config = PRESETS["hash"].tracing
    model = TracingModel(config, scene, CPU, 0)
    steps = [step(model, number) for number in range(warm_steps + FAST_STEPS)]
    agreement = agree(model, model.next_batch(Moment(0, 0.0)), config)
    return mean_cost(steps[warm_steps:], config.batch.num_rays), agreement


def measure_volume(scene: Scene, warm_steps: int, steps: int) -> Cost:
    """Return the cost of the preset ``cpu-fast`` after some training."""
    method = SurfaceMethod.start(PRESETS["cpu-fast"], scene, CPU, 0)
    for number in range(warm_steps):
        step(method, number)
    evaluated = 0

    def counted(original: Any) -> Any:
        def call(self: GridSdf, points: torch.Tensor) -> Any:
            nonlocal evaluated
            evaluated += points.shape[1]
            return original(self, points)

        return call

    with (
        mock.patch.object(GridSdf, "forward", counted(GridSdf.forward)),
        mock.patch.object(GridSdf, "values", counted(GridSdf.values)),
    ):
        measured = [step(method, number) for number in range(warm_steps, warm_steps + steps)]
    rays = sum(report["rays"] for _, report in measured)
    return Cost(sum(seconds for seconds, _ in measured) / rays, evaluated / rays, rays / steps)


def main() -> None:
    """Measure, print the table, write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path, nargs="?", default=Path("../shared/data/dtu_scan65"))
    parser.add_argument("--quick", action="store_true", help="fewer rays and steps")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)
    scene = load_scene(options.scene)
    exact, fast, paper_agreement = compare_paper(scene, 256 if options.quick else 2048, 2)
    hashed, hash_agreement = measure_hash(scene, 16 if options.quick else 64)
    # A whole number of its cache's refreshes too.
    volume = measure_volume(scene, 100, 100 if options.quick else 300)
    rows = {"idr-paper": exact, "idr-paper, fast tracer": fast, "hash": hashed, "cpu-fast": volume}
    print(f"{'preset':24} {'rays a step':>12} {'CPU a ray':>13} {'evaluations a ray':>18} {'idr-paper / it':>15}")
    for name, cost in rows.items():
        ratio = exact.cpu_seconds / cost.cpu_seconds
        print(f"{name:24} {cost.rays:12.0f} {cost.cpu_seconds * 1e6:10.1f} us {cost.evaluations:18.1f} {ratio:15.1f}")
    for name, found in {"idr-paper": paper_agreement, "hash": hash_agreement}.items():
        print(
            f"fast and exact tracer, {name} weights: {found.same_hit:.2%} of the rays agree on hit or miss, "
            f"median depth difference {found.depth_difference:.1e}, "
            f"{found.exact_evaluations:.1f} and {found.fast_evaluations:.1f} evaluations a ray"
        )
    if options.json:
        options.json.write_text(json.dumps(as_rows(rows, options.threads, paper_agreement), indent=1))


def as_rows(costs: dict[str, Cost], threads: int, agreement: Agreement) -> list[dict[str, Any]]:
    """Return the figures in the form of all benchmarks."""
    reference = costs["idr-paper"].cpu_seconds
    return [
        {
            "name": f"surface_step/{name}",
            "size": f"{cost.rays:.0f} rays",
            "threads": threads,
            "ours_cpu_s": cost.cpu_seconds,
            "reference_cpu_s": reference,
            "ratio": reference / cost.cpu_seconds,
            "evaluations_per_ray": cost.evaluations,
            **(asdict(agreement) if name == "idr-paper, fast tracer" else {}),
        }
        for name, cost in costs.items()
    ]


if __name__ == "__main__":
    main()
