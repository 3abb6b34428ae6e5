"""Draw the same unseen objects as several runs see them, and the maps of their codes.

    python benchmarks/pose_invariant_pictures.py OUT plain=RUNS/cars_s0_plain multi_view=RUNS/cars_s0_multi_view ...

The objects are spread evenly over the test set, each from another side, whatever came of them; the last row of each is
the true shape, as the voxels of the data set have it. Writes ``OUT_sides.jpg``, ``OUT_map_NAME.png`` for each run and
``OUT_way.jpg``, the way from the first object to the last, with the run named pose_invariant or else the first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from skimage.measure import marching_cubes

from shapewright.geometry.mesh import Mesh
from shapewright.io.images import write_image
from shapewright.methods.pose_invariant import gallery
from shapewright.methods.pose_invariant.drawings import ComparedObject, draw_strip, side_by_side
from shapewright.methods.pose_invariant.judging import predict
from shapewright.methods.pose_invariant.trained import TrainedRun


def surface_of(cells: np.ndarray) -> Mesh:
    """Return the surface of filled cells, in the unit box."""
    padded = np.pad(cells.astype(np.float32), 1)
    vertices, faces, _, _ = marching_cubes(padded, 0.5)
    places = (vertices - 1 + 0.5 - 16) / 31
    return Mesh(torch.from_numpy(places.astype(np.float32)), torch.from_numpy(faces[:, ::-1].astype(np.int64)))


def main() -> None:
    """Draw all pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", metavar="NAME=RUN")
    parser.add_argument("--objects", type=int, default=4)
    parser.add_argument("--size", type=int, default=96)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = {name: TrainedRun.open(Path(path)) for name, path in (word.split("=", 1) for word in arguments.runs)}
    first = next(iter(runs.values()))
    pictures = first.pictures("test")
    found = {name: predict(run.method, pictures) for name, run in runs.items()}
    shown = np.linspace(0, len(pictures) - 1, arguments.objects).round().astype(int).tolist()
    compared = []
    for count, place in enumerate(shown):
        view = (3 + 7 * count) % pictures.num_views
        meshes = {name: one.mesh(place, view) for name, one in found.items()}
        if pictures.voxels is not None:
            meshes["truth"] = surface_of(pictures.voxels[place])
        pose = pictures.views.poses(torch.tensor([place]), torch.tensor([view]))[0]
        compared.append(ComparedObject(pictures.images[place, view], meshes, pose))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    sheet = side_by_side(compared, pictures.views.half_angle_deg, arguments.size)
    write_image(arguments.out.with_name(arguments.out.name + "_sides.jpg"), sheet)
    for name, run in runs.items():
        gallery.embed(run, arguments.out.with_name(f"{arguments.out.name}_map_{name}"))
    chosen = "pose_invariant" if "pose_invariant" in runs else next(iter(runs))
    one = found[chosen].codes
    share = torch.linspace(0, 1, 6)[:, None]
    way = one[shown[0], 3] * (1 - share) + one[shown[-1], 3] * share
    strip, _ = draw_strip(gallery.decoded(runs[chosen], way))
    write_image(arguments.out.with_name(arguments.out.name + "_way.jpg"), strip)


if __name__ == "__main__":
    main()
