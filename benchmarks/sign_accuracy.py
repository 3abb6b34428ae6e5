"""Signs of messy meshes against exact winding numbers: ours, a plain winding number and the parity of rays.

    python benchmarks/sign_accuracy.py [--quick] [--threads 1] [--json FILE] [--models FOLDER]

Two tables. The first takes the meshes of FOLDER as they are; the truth is a winding number in double precision, summed
exactly over all triangles of the mesh, above 0.5. These meshes are consistently oriented, so that the mesh as it is may
be trusted. The second damages two watertight meshes on purpose and compares with the signs of the undamaged mesh.
Points are those of the recipe `train`. CPU seconds of this process.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timing import machine
from torch import Tensor

from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.sampling import normalisation, published_recipe, sample_positions
from shapewright.geometry.signed_distance import SignedDistance
from shapewright.io.meshes import read_mesh

DEFAULT_MODELS = Path(__file__).parents[2] / "shared" / "data" / "models" / "classic"
DAMAGED = ("homer", "spot")
MODES = ("auto", "winding", "parity")
HOLE_RADIUS = 0.12
CHECKED_POINTS = 100
# What a missing piece hides is ambiguous.
BARS = {"5 % missing": 99.0, "one hole": 99.0, "doubled + 5 % missing": 99.0}
MESH_BAR, DAMAGE_BAR = 99.4, 99.9


def winding_exactly(points: Tensor, mesh: Mesh) -> Tensor:
    """Return the sum of the solid angles of all triangles over 4 pi, in double precision (van Oosterom, 1983)."""
    corners = mesh.vertices[mesh.faces].double()
    result = []
    for part in points.double().split(10):
        a, b, c = (corners[None, :, k] - part[:, None] for k in range(3))
        la, lb, lc = a.norm(dim=-1), b.norm(dim=-1), c.norm(dim=-1)
        determinant = (a * torch.linalg.cross(b, c)).sum(-1)
        denominator = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
        result.append(torch.atan2(determinant, denominator).sum(1) / (2 * torch.pi))
    return torch.cat(result)


def true_inside(points: Tensor, mesh: Mesh) -> Tensor:
    """Return where the exact winding number exceeds 0.5.

    libigl's is exact and quick; a few of its values are checked against the plain sum.
    """
    import igl

    winding = torch.from_numpy(igl.winding_number(mesh.vertices.numpy(), mesh.faces.numpy(), points.double().numpy()))
    error = (winding[:CHECKED_POINTS] - winding_exactly(points[:CHECKED_POINTS], mesh)).abs().max()
    assert error < 1e-9, f"the reference is off by {error:.1e}"
    return winding > 0.5


def turned(mesh: Mesh, share: float, random: np.random.Generator) -> Mesh:
    """Return the mesh with a share of its triangles turned."""
    faces = mesh.faces.clone()
    some = torch.from_numpy(random.random(len(faces)) < share)
    faces[some] = faces[some].flip(1)
    return Mesh(mesh.vertices, faces)


def doubled(mesh: Mesh) -> Mesh:
    """Return the mesh with every triangle there in both directions."""
    return Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.flip(1)]))


def thinned(mesh: Mesh, random: np.random.Generator) -> Mesh:
    """Return the mesh without 5 % of its triangles."""
    return Mesh(mesh.vertices, mesh.faces[torch.from_numpy(random.random(mesh.num_faces) >= 0.05)])


def with_hole(mesh: Mesh, seed: int) -> Mesh:
    """Return the mesh without the triangles around a random point of its surface."""
    centre = sample_surface(mesh, 1, torch.Generator().manual_seed(seed))
    far = (mesh.vertices[mesh.faces].mean(1) - centre).norm(dim=-1) >= HOLE_RADIUS
    return Mesh(mesh.vertices, mesh.faces[far])


def soup(mesh: Mesh, random: np.random.Generator) -> Mesh:
    """Return the mesh with a vertex of its own for each corner, and half of its triangles turned."""
    vertices = mesh.vertices[mesh.faces].reshape(-1, 3)
    return turned(Mesh(vertices, torch.arange(len(vertices)).reshape(-1, 3)), 0.5, random)


def damages() -> dict[str, Callable[[Mesh, int], Mesh]]:
    """Return what is done to a mesh, by name; each takes the mesh and a seed."""
    random = np.random.default_rng
    return {
        "intact": lambda mesh, _: mesh,
        "30 % turned": lambda mesh, seed: turned(mesh, 0.3, random(seed)),
        "all turned": lambda mesh, seed: turned(mesh, 1.1, random(seed)),
        "every face doubled": lambda mesh, _: doubled(mesh),
        "5 % missing": lambda mesh, seed: thinned(mesh, random(seed)),
        "one hole": with_hole,
        "doubled + 5 % missing": lambda mesh, seed: doubled(thinned(mesh, random(seed))),
        "soup, 50 % turned": lambda mesh, seed: soup(mesh, random(seed)),
    }


def inside_by(mode: str, mesh: Mesh, points: Tensor) -> tuple[Tensor, float]:
    """Return where one of the modes sees the inside, and the CPU seconds it took."""
    start = time.process_time()
    distance = SignedDistance(repair_mesh(mesh) if mode == "auto" else mesh, mode)  # type: ignore[arg-type]
    inside = distance(points).sdf < 0
    return inside, time.process_time() - start


def load(path: Path) -> Mesh:
    """Return a mesh in normalised units."""
    mesh = read_mesh(path)
    return normalisation(mesh).apply_to(mesh)


def sample(mesh: Mesh, count: int) -> Tensor:
    """Return points of the recipe `train`."""
    return sample_positions(mesh, published_recipe("train", count), torch.Generator().manual_seed(1))


def compare(mesh: Mesh, points: Tensor, truth: Tensor) -> dict[str, float]:
    """Return the share of right signs of each mode in percent, and the seconds of ours."""
    row = {}
    for mode in MODES:
        inside, seconds = inside_by(mode, mesh, points)
        row[mode] = 100 * float((inside == truth).double().mean())
        if mode == "auto":
            row["ours_cpu_s"] = seconds
    return row


def mesh_rows(folder: Path, count: int) -> list[dict[str, Any]]:
    """Return the rows of the meshes as they are."""
    rows = []
    print("\n| mesh | faces | ours, % | plain winding number | ray parity |\n|---|---|---|---|---|")
    for path in sorted(folder.glob("*.ply")):
        mesh = load(path)
        points = sample(mesh, count)
        row = compare(mesh, points, true_inside(points, mesh))
        print(f"| {path.stem} | {mesh.num_faces:,} | {row['auto']:.2f} | {row['winding']:.2f} | {row['parity']:.2f} |")
        rows.append({"name": path.stem, "size": mesh.num_faces, "bar": MESH_BAR, **row})
    return rows


def damage_rows(folder: Path, count: int, seeds: int) -> list[dict[str, Any]]:
    """Return the rows of the damaged meshes: the worst of some random places."""
    rows = []
    print("\n| mesh | damage | ours, % (worst) | plain winding number | ray parity | bar |\n|---|---|---|---|---|---|")
    for name in DAMAGED:
        mesh = load(folder / f"{name}.ply")
        points = sample(mesh, count)
        truth = true_inside(points, mesh)
        for damage, apply in damages().items():
            results = [compare(apply(mesh, seed), points, truth) for seed in range(seeds)]
            worst = {key: min(result[key] for result in results) for key in results[0]}
            bar = BARS.get(damage, DAMAGE_BAR)
            print(
                f"| {name} | {damage} | {worst['auto']:.2f} | {worst['winding']:.2f} | {worst['parity']:.2f} | {bar} |"
            )
            rows.append({"name": f"{name}, {damage}", "size": mesh.num_faces, "bar": bar, **worst})
    return rows


def main() -> None:
    """Measure, print the tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer points and one place of each damage")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--models", type=Path, default=DEFAULT_MODELS, metavar="FOLDER")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    count = 2_000 if arguments.quick else 20_000
    rows = mesh_rows(arguments.models, count)
    rows += damage_rows(arguments.models, count, 1 if arguments.quick else 3)
    below = [row["name"] for row in rows if row["auto"] < row["bar"]]
    print(f"\n{machine()}\nbelow their bar: {', '.join(below) or 'none'}")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
