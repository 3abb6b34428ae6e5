"""Coarse-to-fine iso-surfaces against the dense lattice, on networks fitted to signed distances.

    python benchmarks/isosurface.py [--quick] [--threads 1] [--json FILE] [--run RUN]

A network of 3 x 64 units is fitted to each shape for a few seconds, so that its slopes scatter around 1 as those of a
trained field; with ``--run`` the shapes of a trained ``deep_sdf`` are drawn instead. Both sides then run in turn; the
triangles must be equal. CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from shapewright.geometry.isosurface import Isosurface, extract_isosurface

LOWER, UPPER = torch.full((3,), -1.0), torch.full((3,), 1.0)
FIT_STEPS = 600
BATCH = 4096
LEARNED_SHAPES = 3


def bumpy_ball(points: Tensor) -> Tensor:
    """Return the distance to a ball with waves, about."""
    return points.norm(dim=-1) - 0.7 + 0.02 * torch.sin(9 * points).prod(-1)


def ring(points: Tensor) -> Tensor:
    """Return the distance to a torus."""
    return torch.hypot(points[:, :2].norm(dim=-1) - 0.6, points[:, 2]) - 0.22


def box_with_rods(points: Tensor) -> Tensor:
    """Return the distance to a box that three thin rods cross."""
    outside = points.abs() - 0.4
    box = outside.clamp(min=0).norm(dim=-1) + outside.amax(-1).clamp(max=0) - 0.05
    rods = [
        torch.maximum(points.roll(axis, -1)[:, :2].norm(dim=-1) - 0.06, points.abs().amax(-1) - 0.85)
        for axis in range(3)
    ]
    return torch.stack([box, *rods]).amin(0)


class Network(nn.Module):
    """A distance on Fourier features of the position."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (27, 64, 64):
            layers += [nn.Linear(width, 64), nn.Softplus(beta=100)]
        self.layers = nn.Sequential(*layers, nn.Linear(64, 1))

    def forward(self, points: Tensor) -> Tensor:
        """Return one distance a point."""
        waves = [wave(2**k * points) for k in range(4) for wave in (torch.sin, torch.cos)]
        return self.layers(torch.cat([points, *waves], dim=-1))[:, 0]


def fit(shape: Callable[[Tensor], Tensor]) -> Network:
    """Return a network fitted to a distance function."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(FIT_STEPS):
        points = 2 * torch.rand(BATCH, 3) - 1
        loss = (network(points) - shape(points)).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def learned_shapes(run: Path) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the fields of the first shapes of a shape space."""
    from shapewright.methods.deep_sdf.space import ShapeSpace

    space = ShapeSpace.open(run)

    def field(place: int) -> Callable[[Tensor], Tensor]:
        def sdf(points: Tensor) -> Tensor:
            if torch.is_grad_enabled():
                return space.decoder(points[None], space.codes[place][None])[0]
            return space.decoder.sdf(points, space.codes[place])

        return sdf

    return {space.shapes.train[place].name: field(place) for place in space.shapes.originals[:LEARNED_SHAPES]}


def slopes(network: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Return the 1st and 99th percentile of the slope over the box."""
    points = (2 * torch.rand(20_000, 3) - 1).requires_grad_()
    (gradient,) = torch.autograd.grad(network(points).sum(), points)
    low, high = gradient.norm(dim=-1).quantile(torch.tensor([0.01, 0.99])).tolist()
    return low, high


def timed(network: Callable[[Tensor], Tensor], resolution: int, lipschitz: float) -> tuple[Isosurface, float]:
    """Return a surface and the CPU seconds it took."""
    start = time.process_time()
    result = extract_isosurface(network, LOWER, UPPER, resolution, lipschitz=lipschitz)
    return result, time.process_time() - start


def measure(name: str, network: Callable[[Tensor], Tensor], resolution: int, threads: int) -> dict[str, Any]:
    """Return the row of one shape and resolution."""
    (ours, ours_s), (dense, dense_s) = timed(network, resolution, 1.5), timed(network, resolution, math.inf)
    low, high = slopes(network)
    return {
        "name": name,
        "size": resolution,
        "threads": threads,
        "ours_cpu_s": ours_s,
        "reference_cpu_s": dense_s,
        "ratio": dense_s / ours_s,
        "evaluations_ratio": dense.evaluations / ours.evaluations,
        "same_faces": torch.equal(ours.mesh.faces, dense.mesh.faces),
        "vertex_difference": float((ours.mesh.vertices - dense.mesh.vertices).abs().max())
        if ours.mesh.vertices.shape == dense.mesh.vertices.shape
        else math.nan,
        "slope_p1": low,
        "slope_p99": high,
        "contradictions": ours.contradictions,
    }


def main() -> None:
    """Measure, print a table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128^3 only")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path, help="a trained shape space")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    rows = []
    print("shape           size  slope 1-99 %  fewer evaluations   ours s  dense s  ratio  same")
    if arguments.run is None:
        fields = {shape.__name__: fit(shape) for shape in (bumpy_ball, ring, box_with_rods)}
    else:
        fields = learned_shapes(arguments.run)
    for name, network in fields.items():
        for resolution in (128,) if arguments.quick else (128, 256):
            row = measure(name, network, resolution, arguments.threads)
            rows.append(row)
            same = "faces" if row["same_faces"] else "NO"
            print(
                f"{row['name']:14} {resolution:5} {row['slope_p1']:6.2f} {row['slope_p99']:6.2f} "
                f"{row['evaluations_ratio']:17.1f}x {row['ours_cpu_s']:8.2f} {row['reference_cpu_s']:8.2f} "
                f"{row['ratio']:6.1f}  {same}, vertices {row['vertex_difference']:.1e}"
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
