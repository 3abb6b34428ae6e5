"""What a shape space must beat: the nearest of the shapes that it learned, and Poisson surfaces of what was seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.free_space import PartialScan
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.poisson import poisson_mesh, trim_mesh
from shapewright.metrics.shape_metrics import PreparedShape, ShapeMetricOptions, compare_points, shape_metrics

RANKED = 5
RANKING_POINTS = 2000
THRESHOLD = 0.02


class ShapeLibrary:
    """Hold the learned shapes, in the unit sphere, and find the one that fits best.

    Args:
        meshes: The shapes.
    """

    def __init__(self, meshes: Sequence[Mesh]) -> None:
        self.shapes = [PreparedShape(mesh, ShapeMetricOptions.quick()) for mesh in meshes]

    def oracle(self, truth: PreparedShape) -> Mesh:
        """Return the learned shape with the best F-score against the truth: what retrieval can reach at most."""
        rough = torch.tensor([self._distance(shape, truth) for shape in self.shapes])
        best = rough.argsort()[:RANKED].tolist()
        return max((self.shapes[i] for i in best), key=lambda shape: _f_score(shape, truth)).mesh

    def nearest_to_points(self, points: Float[Tensor, "n 3"]) -> Mesh:
        """Return the learned shape whose surface is nearest to some points: all that a scan can tell."""
        distances = [compare_points(points, shape.index).mean for shape in self.shapes]
        return self.shapes[distances.index(min(distances))].mesh

    def medoid(self) -> Mesh:
        """Return the learned shape with the least mean distance to the others."""
        return self.shapes[int(self.mean_distances().sum(0).argmin())].mesh

    def mean_distances(self) -> Float[Tensor, "shapes shapes"]:
        """Return the mean distances between all surfaces, both ways added."""
        return self._table

    @cached_property
    def _table(self) -> Float[Tensor, "shapes shapes"]:
        count = len(self.shapes)
        table = torch.zeros(count, count)
        for i in range(count):
            for j in range(i):
                table[i, j] = table[j, i] = self._distance(self.shapes[i], self.shapes[j])
        return table

    def _distance(self, first: PreparedShape, second: PreparedShape) -> float:
        """Return the mean distances between the samples of two shapes, both ways added."""
        a, b = first.as_truth, second.as_truth
        there = a.tree.query(b.points[:RANKING_POINTS].numpy())[0].mean()
        return float(there + b.tree.query(a.points[:RANKING_POINTS].numpy())[0].mean())


def _f_score(shape: PreparedShape, truth: PreparedShape) -> float:
    return shape_metrics(shape, truth)["f_score_radius_2pct"]


def poisson_surface(scan: PartialScan, resolution: int = 128) -> Mesh:
    """Return the closed Poisson surface of the points of a scan."""
    return poisson_mesh(scan.points, scan.normals, resolution)


def trimmed_poisson_surface(scan: PartialScan, resolution: int = 128) -> Mesh:
    """Return the part of the Poisson surface that lies near the points."""
    return trim_mesh(poisson_surface(scan, resolution), scan.points, 0.05)
