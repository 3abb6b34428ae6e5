"""Fit one sphere to the 24 silhouettes of a model, and compare outlines and voxels.

    python benchmarks/silhouette_fit.py MODELS [--only car chair plane thin_plane] [--gradients reach nmr] [--limit N]

MODELS holds folders of meshes, ``car`` and ``chair``; planes are built here from an ellipsoid and three boxes. Each
model is put in the unit box and drawn from Kato's ring at 64 px, 4x4 samples a pixel. The template of 642 vertices, at
radius 1/2, is then moved by 250 steps of Adam (rate .02, x.3 after 70 %), 8 views a step, with the pyramid loss and
1e-3 of the flatness loss. The pyramid sees far by itself, so that ``reach`` is best at 4 pixels: at 24, chairs come out
0.01 worse.

Silhouette IoU is ``sum S P / sum (S + P - S P)`` of coverage, the mean over 24 views. Pixels that an outline crosses
count against any picture there, the right one among them: "own" is what the model scores against itself, for the thin
plane less than its bar. Mask IoU is that of coverage >= 1/2, and 1 for the model itself; the bars are held against the
stricter first. Voxel IoU is by the rule kato32_padded. Seconds are CPU seconds of one fit.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from timing import machine  # isort: skip - before torch is loaded
import torch
from torch import Tensor

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_edges import edge_table
from shapewright.geometry.orbit import kato_ring
from shapewright.io.meshes import read_mesh
from shapewright.kernels.voxel_ops import kato_voxels
from shapewright.losses.flatness import flatness_loss
from shapewright.losses.silhouette_pictures import iou_loss, pyramid_loss
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

STEPS, VIEWS_PER_STEP, RATE, SMOOTHNESS, SIZE, REACH = 250, 8, 0.02, 1e-3, 64, 4
# Least silhouette and voxel IoU, the mean over models, and most CPU seconds a fit.
BARS = {"car": (0.93, 0.75), "chair": (0.84, 0.52), "plane": (0.88, 0.78), "thin_plane": (0.88, 0.78)}
MOST_SECONDS = 5.0
LOSSES = {"pyramid": pyramid_loss, "iou": iou_loss}


@dataclass(frozen=True)
class PlaneSizes:
    """Hold the fuselage's radius, and length, height and width of the boxes."""

    radius: float
    wing: tuple[float, float, float]
    tail: tuple[float, float, float]
    fin: tuple[float, float, float]


PLANES = {
    "plane": PlaneSizes(0.08, (0.2, 0.04, 0.9), (0.12, 0.03, 0.36), (0.13, 0.18, 0.03)),
    "thin_plane": PlaneSizes(0.065, (0.16, 0.025, 0.9), (0.1, 0.02, 0.34), (0.11, 0.16, 0.02)),
}


@dataclass(frozen=True)
class Fit:
    """What came of one model."""

    category: str
    key: str
    gradient: str
    loss: str
    silhouette_iou: float
    own_iou: float
    mask_iou: float
    voxel_iou: float
    cpu_s: float


def box(center: tuple[float, float, float], size: tuple[float, float, float]) -> Mesh:
    """Return a closed box."""
    half = torch.tensor(size) / 2
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3) * half + torch.tensor(center)
    sides = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    return Mesh(corners, torch.tensor([face for a, b, c, d in sides for face in ((a, b, c), (a, c, d))]))


def plane(sizes: PlaneSizes) -> Mesh:
    """Return an aeroplane: an ellipsoid for a fuselage, and boxes for wing, tail plane and fin."""
    sphere = icosphere()
    parts = [
        Mesh(sphere.vertices * torch.tensor([0.5, sizes.radius, sizes.radius]), sphere.faces),
        box((0.03, 0.0, 0.0), sizes.wing),
        box((-0.43, 0.01, 0.0), sizes.tail),
        box((-0.43, 0.09, 0.0), sizes.fin),
    ]
    offsets = [sum(part.num_vertices for part in parts[:k]) for k in range(len(parts))]
    faces = [part.faces + offset for part, offset in zip(parts, offsets, strict=True)]
    return Mesh(torch.cat([part.vertices for part in parts]), torch.cat(faces))


def in_unit_box(mesh: Mesh) -> Mesh:
    """Return the mesh with its box centred and the longest side 1."""
    low, high = mesh.bounds
    return Mesh((mesh.vertices - (low + high) / 2) / (high - low).max(), mesh.faces)


def models(folder: Path, categories: list[str], limit: int | None) -> Iterator[tuple[str, str, Mesh]]:
    """Yield category, name and normalised mesh of each model."""
    for category in categories:
        if category in PLANES:
            yield category, "boxes", in_unit_box(plane(PLANES[category]))
            continue
        for path in sorted((folder / category).glob("*.glb"))[:limit]:
            yield category, path.stem, in_unit_box(read_mesh(path))


def fit(masks: Tensor, cameras: Cameras, gradient: str, loss_name: str) -> Mesh:
    """Return the template, moved to match the masks."""
    template, style = icosphere(), SilhouetteStyle(gradient, reach=REACH)
    edges = edge_table(template.faces)
    vertices = (0.5 * template.vertices).requires_grad_()
    optimizer = torch.optim.Adam([vertices], lr=RATE)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        if step == int(0.7 * STEPS):
            optimizer.param_groups[0]["lr"] = 0.3 * RATE
        views = torch.randperm(len(masks), generator=generator)[:VIEWS_PER_STEP].tolist()
        rendered = silhouette(project_perspective(vertices, cameras[views]), template.faces, SIZE, style)
        loss = LOSSES[loss_name](rendered, masks[views]) + SMOOTHNESS * flatness_loss(vertices[None], edges)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Mesh(vertices.detach(), template.faces)


def coverage(mesh: Mesh, cameras: Cameras) -> Tensor:
    """Return the share of each pixel that a mesh covers, at 4x4 samples."""
    with torch.no_grad():
        screen = project_perspective(mesh.vertices, cameras)
        return silhouette(screen, mesh.faces, SIZE, SilhouetteStyle("contour", 4))


def overlap(a: Tensor, b: Tensor) -> float:
    """Return the intersection over union of each item, the mean over items."""
    both, either = (a & b).flatten(1).sum(1), (a | b).flatten(1).sum(1)
    return float((both / either.clamp(min=1)).mean())


def fit_model(item: tuple[str, str, Mesh], cameras: Cameras, gradient: str, loss_name: str) -> Fit:
    """Fit one model and judge it."""
    category, key, mesh = item
    masks = coverage(mesh, cameras)
    start = time.process_time()
    found = fit(masks, cameras, gradient, loss_name)
    seconds = time.process_time() - start
    rendered = coverage(found, cameras)
    outlines, own = (1 - float(iou_loss(picture, masks)) for picture in (rendered, masks))
    hard = overlap(rendered >= 0.5, masks >= 0.5)
    voxels = overlap(kato_voxels(found, padding=4)[None], kato_voxels(mesh, padding=4)[None])
    return Fit(category, key, gradient, loss_name, outlines, own, hard, voxels, seconds)


def print_table(fits: list[Fit]) -> None:
    """Print means and 10th percentiles, and whether the bars are met."""
    print(f"\n{machine()}\n")
    print("| models | gradient, loss | silhouette IoU (p10) | own | mask IoU | voxel IoU (p10) | CPU s a fit | bars |")
    print("|---|---|---|---|---|---|---|---|")
    groups: dict[tuple[str, str, str], list[Fit]] = {}
    for one in fits:
        groups.setdefault((one.category, one.gradient, one.loss), []).append(one)
    for (category, gradient, loss_name), members in groups.items():
        outlines, voxels = [m.silhouette_iou for m in members], [m.voxel_iou for m in members]
        low = [sorted(values)[len(values) // 10] for values in (outlines, voxels)]
        own, hard = statistics.mean(m.own_iou for m in members), statistics.mean(m.mask_iou for m in members)
        seconds = statistics.mean(m.cpu_s for m in members)
        found, bars = (statistics.mean(outlines), statistics.mean(voxels), -seconds), (*BARS[category], -MOST_SECONDS)
        names = zip(("silhouette", "voxels", "time"), found, bars, strict=True)
        missed = [name for name, value, bar in names if value < bar]
        print(
            f"| {len(members)} {category} | {gradient}, {loss_name} | {found[0]:.3f} ({low[0]:.3f}) | {own:.3f} | "
            f"{hard:.3f} | {found[1]:.3f} ({low[1]:.3f}) | {seconds:.2f} | {BARS[category][0]}, {BARS[category][1]}, "
            f"{MOST_SECONDS:g} s: {'MISSED by ' + ', '.join(missed) if missed else 'met'} |"
        )


def main() -> None:
    """Fit the models asked for, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(BARS), default=list(BARS))
    parser.add_argument("--gradients", nargs="+", default=["reach", "nmr"])
    parser.add_argument("--loss", choices=list(LOSSES), default="pyramid")
    parser.add_argument("--limit", type=int, default=None, metavar="N", help="models of each category")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cameras, fits = kato_ring(SIZE), []
    for item in models(arguments.models, arguments.only, arguments.limit):
        for gradient in arguments.gradients:
            fits.append(fit_model(item, cameras, gradient, arguments.loss))
            print(json.dumps(asdict(fits[-1])), flush=True)
    print_table(fits)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(one) for one in fits], indent=1) + "\n")


if __name__ == "__main__":
    main()
