"""How near two surfaces are to each other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.signed_distance import unsigned_distance


@dataclass(frozen=True)
class DistanceSummary:
    """Hold what is told about distances from the points of one surface to another surface."""

    mean: float
    median: float
    p95: float
    largest: float
    share_below_1pct: float


@dataclass(frozen=True)
class SurfaceDistance:
    """Hold the distances between two surfaces, all divided by the diagonal of the true one's box.

    Args:
        accuracy: From the predicted surface to the true one.
        completeness: From the true surface to the predicted one.
        diagonal: What the distances were divided by.
        num_points: Points drawn on each surface.
    """

    accuracy: DistanceSummary
    completeness: DistanceSummary
    diagonal: float
    num_points: int

    @property
    def mean(self) -> float:
        """Return the mean of both directions."""
        return (self.accuracy.mean + self.completeness.mean) / 2

    @property
    def f_score_1pct(self) -> float:
        """Return the harmonic mean of both shares of points nearer than 1 % of the diagonal (arXiv:1905.03678)."""
        precision, recall = self.accuracy.share_below_1pct, self.completeness.share_below_1pct
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def metrics(self) -> dict[str, float]:
        """Return the figures under the names that ``metrics.json`` uses; distances in % of the diagonal."""
        return {
            "surface_distance_pct": 100 * self.mean,
            "accuracy_pct": 100 * self.accuracy.mean,
            "completeness_pct": 100 * self.completeness.mean,
            "accuracy_median_pct": 100 * self.accuracy.median,
            "completeness_median_pct": 100 * self.completeness.median,
            "accuracy_p95_pct": 100 * self.accuracy.p95,
            "completeness_p95_pct": 100 * self.completeness.p95,
            "f_score_1pct": self.f_score_1pct,
        }


def surface_distance(predicted: Mesh, truth: Mesh, num_points: int = 50_000, seed: int = 0) -> SurfaceDistance:
    """Return the distances between two surfaces, both ways.

    Points are drawn uniformly on one surface and their exact distances to the triangles of the other are taken, so
    that equal surfaces have distance 0, with no floor from the density of points.

    Raises:
        ValueError: if a mesh has no area.
    """
    generator = torch.Generator().manual_seed(seed)
    diagonal = truth.diagonal
    on_predicted = sample_surface(predicted, num_points, generator)
    on_truth = sample_surface(truth, num_points, generator)
    return SurfaceDistance(
        _summary(unsigned_distance(on_predicted, truth) / diagonal),
        _summary(unsigned_distance(on_truth, predicted) / diagonal),
        diagonal,
        num_points,
    )


def _summary(distances: Float[Tensor, " points"]) -> DistanceSummary:
    distances = distances.double().cpu()
    return DistanceSummary(
        mean=float(distances.mean()),
        median=float(distances.median()),
        p95=float(torch.quantile(distances, 0.95)),
        largest=float(distances.max()),
        share_below_1pct=float((distances < 0.01).double().mean()),
    )
