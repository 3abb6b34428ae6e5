"""Measure the reconstruction of one shape: quality and CPU seconds of scans drawn from known meshes.

    python benchmarks/single_shape.py [--quick] [--threads 1] [--json FILE] [--models FOLDER]

Each mesh is sampled at 50,000 points, with and without noise, with and without normals. A car or a chair is scanned:
points seen from 40 directions around it, so that hidden walls are left out. The step is compared with one of IGR's
network on the same points.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from pathlib import Path

import timing  # sets OpenMP's policy before torch is loaded
import torch

from shapewright.engine.device import prepare_process
from shapewright.engine.schedule import Moment
from shapewright.engine.seed import make_generator
from shapewright.geometry.mesh import Mesh, face_cross_products, sample_triangles
from shapewright.geometry.point_cloud import PointCloud
from shapewright.geometry.ray_casting import RayCaster, fibonacci_directions
from shapewright.geometry.sampling import normalisation
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.io.point_clouds import write_point_cloud
from shapewright.methods.deep_sdf.single_config import SINGLE_PRESETS, SingleConfig, SpaceConfig
from shapewright.methods.deep_sdf.single_data import from_cloud
from shapewright.methods.deep_sdf.single_method import SingleShapeMethod
from shapewright.methods.deep_sdf.single_shape import SingleStart, evaluate_single, reconstruct_single

POINTS = 50_000
VIEWS = 40
RAYS = 12_000
LEAST_COSINE = 0.2
SCANS = (
    ("classic/armadillo.ply", 0.0, True),
    ("classic/armadillo.ply", 0.005, True),
    ("classic/armadillo.ply", 0.0, False),
    ("classic/armadillo.ply", 0.005, False),
    ("classic/bunny.ply", 0.0, True),
    ("classic/bunny.ply", 0.0, False),
    ("classic/nefertiti.ply", 0.0, True),
    ("classic/nefertiti.ply", 0.0, False),
    ("chair/kenney__chairrounded.glb", 0.0, True),
    ("chair/kenney__chairrounded.glb", 0.0, False),
    ("car/quaternius__realistic_car_pack_nov_2018_suv.glb", 0.0, True),
    ("car/quaternius__realistic_car_pack_nov_2018_suv.glb", 0.0, False),
)


@dataclasses.dataclass(frozen=True)
class ScanRow:
    """Hold the figures of one scan; noise is a share of the unit sphere's radius."""

    name: str
    noise: float
    has_normals: bool
    cpu_s: float
    f_score_radius_1pct: float
    f_score_1pct: float
    accuracy_mean: float
    completeness_mean: float
    components: int


def main() -> None:
    """Run all scans, print two tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--quick", action="store_true", help="the armadillo with normals alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the rows there")
    parser.add_argument("--models", type=Path, default=Path("../shared/data/models"), metavar="FOLDER")
    options = parser.parse_args()
    prepare_process(options.threads)
    rows = []
    print(f"{timing.machine()}, {options.threads} threads\n")
    print("| scan | noise | normals | CPU-s | F@.01 | F@1 % of diagonal | to truth x1000 | from truth x1000 | parts |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, noise, has_normals in SCANS[:1] if options.quick else SCANS:
        row = measure_scan(options.models / name, noise, has_normals)
        rows.append(row)
        print(
            f"| {row.name} | {100 * noise:g} % | {'yes' if has_normals else 'no'} | {row.cpu_s:.0f} | "
            f"{row.f_score_radius_1pct:.4f} | {row.f_score_1pct:.4f} | {1000 * row.accuracy_mean:.2f} | "
            f"{1000 * row.completeness_mean:.2f} | {row.components} |",
            flush=True,
        )
    steps = [measure_step(1 if options.quick else 3)]
    timing.report(steps, None)
    if options.json is not None:
        both = [dataclasses.asdict(row) for row in (*steps, *rows)]
        options.json.write_text(json.dumps(both, indent=1) + "\n")


def measure_scan(path: Path, noise: float, has_normals: bool) -> ScanRow:
    """Return the figures of one scan of a mesh, the whole job from the file of points to the report."""
    mesh = normalisation(read_mesh(path)).apply_to(read_mesh(path))
    mesh = Mesh(mesh.vertices.float(), mesh.faces)
    generator = make_generator(0, path.stem)
    cloud = sampled(mesh, generator) if path.parent.name == "classic" else scanned(mesh, generator)
    points = cloud.points + noise * torch.randn(cloud.points.shape, generator=generator)
    cloud = PointCloud(points, cloud.normals if has_normals else None)
    with tempfile.TemporaryDirectory() as folder:
        scan, truth, run = Path(folder) / "scan.ply", Path(folder) / "truth.ply", Path(folder) / "run"
        write_point_cloud(scan, cloud)
        write_mesh(truth, mesh)
        start = time.process_time()
        reconstruct_single(SINGLE_PRESETS["cpu"], scan, run, SingleStart())
        seconds = time.process_time() - start
        metrics = evaluate_single(run, truth)["metrics"]
    kept = {field.name: metrics[field.name] for field in dataclasses.fields(ScanRow) if field.name in metrics}
    return ScanRow(name=path.stem, noise=noise, has_normals=has_normals, cpu_s=seconds, **kept)


def sampled(mesh: Mesh, generator: torch.Generator) -> PointCloud:
    """Return points spread evenly over a mesh, with its normals."""
    points, faces = sample_triangles(mesh, POINTS, generator)
    return PointCloud(points, torch.nn.functional.normalize(face_cross_products(mesh), dim=1)[faces])


def scanned(mesh: Mesh, generator: torch.Generator) -> PointCloud:
    """Return points of a mesh seen from all around, with normals turned to where they were seen from."""
    caster, normals = RayCaster(mesh), torch.nn.functional.normalize(face_cross_products(mesh), dim=1)
    points, found = [], []
    for direction in fibonacci_directions(VIEWS).float():
        helper = torch.eye(3)[int(direction.abs().argmin())]
        right = torch.nn.functional.normalize(torch.linalg.cross(direction, helper), dim=0)
        plane = torch.rand(RAYS, 2, generator=generator) * 2.0 - 1.0
        axes = torch.stack((right, torch.linalg.cross(direction, right)))
        origins = 2.0 * direction + plane @ axes
        faces, distances = caster.first_hit(origins, (-direction).expand(RAYS, 3).contiguous())
        cosine = normals[faces] @ direction
        seen = (faces >= 0) & (cosine.abs() > LEAST_COSINE)
        points.append((origins - distances[:, None] * direction)[seen])
        found.append((normals[faces] * cosine.sign()[:, None])[seen])
    chosen = torch.randperm(sum(map(len, points)), generator=generator)[:POINTS]
    return PointCloud(torch.cat(points)[chosen], torch.cat(found)[chosen])


def measure_step(repeats: int) -> timing.Row:
    """Return the CPU seconds of a training step beside those of IGR's network on as many points."""
    directions = fibonacci_directions(2000).float()
    cloud = PointCloud(directions, directions)
    methods = []
    for name in ("cpu", "igr-paper"):
        preset = SINGLE_PRESETS[name]
        config: SingleConfig = dataclasses.replace(
            preset, optim=SINGLE_PRESETS["cpu"].optim, space=SpaceConfig(near=20_000, uniform=20_000)
        )
        methods.append(SingleShapeMethod(config, from_cloud(cloud, config, make_generator(0), name), 0))
    moment = Moment(1000, 0.5)
    ours, reference = ((lambda m=method: m.train_step(m.next_batch(moment), moment)) for method in methods)
    size = f"{sum((methods[0].config.optim.surface_points, methods[0].config.optim.space_points)):,} points"
    return timing.measure("step of one shape; reference: IGR's network", size, ours, reference, repeats)


if __name__ == "__main__":
    main()
