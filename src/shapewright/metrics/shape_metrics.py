"""How well a predicted shape fits the true one, in the units of the unit sphere and of the original mesh."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.geometry.mesh import Mesh, face_cross_products, sample_triangles
from shapewright.geometry.surface_queries import SurfaceIndex
from shapewright.metrics.emd import earth_movers_distance

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

THRESHOLDS = (0.01, 0.02)
QUICK_POINTS = 8_000
NEAR = 0.01
# Metrics that are lengths, and those that are squares of lengths: both are told in original units as well.
LENGTHS = ("accuracy_mean", "completeness_mean", "accuracy_p90", "completeness_p90", "mesh_accuracy_p90", "emd_x1000")
SQUARES = ("chamfer_x1000", "chamfer_floor_x1000", "accuracy_mean_square", "completeness_mean_square")


@dataclass(frozen=True, kw_only=True)
class ShapeMetricOptions:
    """Say how shapes are compared.

    Args:
        num_points: Points drawn on each surface; published figures use 30,000. Chamfer depends on it (see its floor).
        seed: Decides the points.
        emd_points: Points of the earth mover's distance, 500 to 1024; 0 leaves it out.
    """

    num_points: int = 30_000
    seed: int = 0
    emd_points: int = 0

    def __post_init__(self) -> None:
        check_range("num_points", self.num_points, 1)
        check_range("emd_points", self.emd_points, 0, min(self.num_points, 4096))

    @classmethod
    def quick(cls, seed: int = 0) -> ShapeMetricOptions:
        """Return options for experiments with many shapes: 8,000 points."""
        return cls(num_points=QUICK_POINTS, seed=seed)


@dataclass(frozen=True)
class PointDistances:
    """Hold the distances from points to a surface."""

    values: Float[Tensor, " points"]

    @property
    def mean(self) -> float:
        """Return the mean distance."""
        return float(self.values.mean())

    @property
    def mean_square(self) -> float:
        """Return the mean of the squared distances."""
        return float(self.values.square().mean())

    @property
    def p90(self) -> float:
        """Return the distance within which 90 % of the points lie."""
        return float(torch.quantile(self.values, 0.9))

    def share_within(self, distance: float) -> float:
        """Return the share of the points that are nearer than a distance."""
        return float((self.values < distance).double().mean())


def compare_points(points: Float[Tensor, "points 3"], surface: Mesh | SurfaceIndex) -> PointDistances:
    """Return the exact distances from points to the triangles of a surface.

    Args:
        points: As of a scan, or drawn on another surface; 8,000 give shares to about half a percent.
        surface: A mesh, or its index where many sets of points are compared with it.

    Raises:
        ValueError: if there is no point, no triangle, or a point is not finite.
    """
    check_shape("points", points, (None, 3))
    if not len(points):
        raise ValueError("There is no point to compare.")
    index = surface if isinstance(surface, SurfaceIndex) else SurfaceIndex(surface)
    return PointDistances(index.nearest(points.double())[0])


def f_score(accuracy: PointDistances, completeness: PointDistances, threshold: float) -> float:
    """Return the harmonic mean of both shares of points nearer than a threshold (arXiv:1905.03678, section 4)."""
    precision, recall = accuracy.share_within(threshold), completeness.share_within(threshold)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class PreparedShape:
    """Hold a mesh with the points, normals and trees of its comparison, each made when it is first needed.

    Prepare a shape once where it is compared many times, as in a search for the nearest training shape.

    Args:
        mesh: The surface.
        options: How it will be compared.
    """

    mesh: Mesh
    options: ShapeMetricOptions = field(default_factory=ShapeMetricOptions)

    @cached_property
    def index(self) -> SurfaceIndex:
        """Return the tree of the triangles."""
        return SurfaceIndex(self.mesh)

    @cached_property
    def face_normals(self) -> Float[Tensor, "faces 3"]:
        """Return the unit normals of the triangles."""
        return torch.nn.functional.normalize(face_cross_products(self.mesh).double(), dim=-1, eps=1e-300)

    @cached_property
    def as_truth(self) -> _Sample:
        """Return the points that stand for the shape as the true one."""
        return self._sample(0)

    @cached_property
    def as_prediction(self) -> _Sample:
        """Return the points that stand for the shape as the predicted one: others than those of the truth."""
        return self._sample(1)

    def _sample(self, stream: int) -> _Sample:
        generator = torch.Generator().manual_seed(2 * self.options.seed + stream)
        points, faces = sample_triangles(self.mesh, self.options.num_points, generator)
        return _Sample(points.detach().cpu().double(), faces.cpu())


@dataclass(frozen=True)
class _Sample:
    """Hold points, the triangles they were drawn on if there are any, and their tree."""

    points: Float[Tensor, "points 3"]
    faces: Int64[Tensor, " points"] | None = None

    @cached_property
    def tree(self) -> cKDTree:
        """Return the tree of the points."""
        from scipy.spatial import cKDTree

        return cKDTree(self.points.numpy())


def shape_metrics(
    predicted: Mesh | PreparedShape,
    truth: Mesh | PreparedShape | Float[Tensor, "points 3"],
    options: ShapeMetricOptions | None = None,
    scale: float | None = None,
) -> dict[str, float]:
    """Return how well a predicted surface fits the true one.

    With P points on the prediction and T on the truth:

    - ``chamfer_x1000``: 1000 times the mean of the squared distances from T to the nearest of P plus the same from P
      to T (DeepSDF, arXiv:1901.05103, section 6.1). ``chamfer_floor_x1000`` is what the truth itself would score.
    - ``accuracy_*``: exact distances from P to the true triangles; ``completeness_*``: from T to the predicted ones.
      ``mean``, ``mean_square`` and ``p90``, the distance within which 90 % of the points lie. ``mesh_accuracy_p90``
      is the published name of ``accuracy_p90``.
    - ``completion_share_01``: share of T within 0.01 of the predicted triangles.
    - ``f_score_radius_1pct``, ``_2pct``: F-scores of the exact distances at 0.01 and 0.02.
    - ``normal_consistency``: mean of |cos| between the normals of a point and of the triangle nearest to it, over both
      directions (Occupancy Networks, arXiv:1812.03828, section 4).
    - ``emd_x1000``: 1000 times the earth mover's distance, if asked for.

    Args:
        predicted: In the normalised space, where the unit sphere holds the shape; prepared with the same options.
        truth: In the same space. If it is given by points alone only what they can tell is returned: Chamfer without
            its floor, ``completeness_*``, ``completion_share_01`` and the earth mover's distance. A truth of N points
            has a floor of its own; give as many as ``num_points``.
        options: How many points, which seed; those of a prepared shape if there is one, or else the defaults.
        scale: The normalised length of one original unit; adds ``NAME_original`` to every length and squared length,
            which are divided by it (squared lengths by its square).

    Raises:
        ValueError: if a surface has no triangle or no area, a point is not finite, ``scale`` is not positive, or a
            prepared shape has other options.
    """
    if scale is not None and not 0 < scale < math.inf:
        raise ValueError(f"scale must be positive, got {scale}.")
    prepared = [shape.options for shape in (predicted, truth) if isinstance(shape, PreparedShape)]
    options = options or (prepared[0] if prepared else ShapeMetricOptions())
    if any(other != options for other in prepared):
        raise ValueError("Prepared shapes must have the options of the comparison.")
    guess = predicted if isinstance(predicted, PreparedShape) else PreparedShape(predicted, options)
    if isinstance(truth, Tensor):
        metrics = _against_points(guess, truth, options)
    else:
        shape = truth if isinstance(truth, PreparedShape) else PreparedShape(truth, options)
        metrics = _against_surface(guess, shape, options)
    return metrics if scale is None else metrics | _in_original_units(metrics, scale)


def _against_surface(guess: PreparedShape, truth: PreparedShape, options: ShapeMetricOptions) -> dict[str, float]:
    """Return all metrics of two surfaces."""
    on_guess, on_truth = guess.as_prediction, truth.as_truth
    distances_to_truth, faces_of_truth = truth.index.nearest(on_guess.points)
    distances_to_guess, faces_of_guess = guess.index.nearest(on_truth.points)
    accuracy, completeness = PointDistances(distances_to_truth), PointDistances(distances_to_guess)
    agreement = [
        _mean_agreement(guess.face_normals[on_guess.faces], truth.face_normals[faces_of_truth]),
        _mean_agreement(truth.face_normals[on_truth.faces], guess.face_normals[faces_of_guess]),
    ]
    return {
        "chamfer_x1000": 1000 * _chamfer(on_guess, on_truth),
        "chamfer_floor_x1000": 1000 * _chamfer(truth.as_prediction, on_truth),
        "f_score_radius_1pct": f_score(accuracy, completeness, THRESHOLDS[0]),
        "f_score_radius_2pct": f_score(accuracy, completeness, THRESHOLDS[1]),
        "normal_consistency": sum(agreement) / 2,
        "mesh_accuracy_p90": accuracy.p90,
        **_one_direction("accuracy", accuracy),
        **_one_direction("completeness", completeness),
        "completion_share_01": completeness.share_within(NEAR),
        **_emd(on_guess, on_truth, options),
    }


def _against_points(
    guess: PreparedShape, points: Float[Tensor, "points 3"], options: ShapeMetricOptions
) -> dict[str, float]:
    """Return the metrics that points of the true surface can tell."""
    check_finite("truth", points)
    completeness = compare_points(points, guess.index)
    on_truth = _Sample(points.detach().cpu().double())
    return {
        "chamfer_x1000": 1000 * _chamfer(guess.as_prediction, on_truth),
        **_one_direction("completeness", completeness),
        "completion_share_01": completeness.share_within(NEAR),
        **_emd(guess.as_prediction, on_truth, options),
    }


def _one_direction(name: str, distances: PointDistances) -> dict[str, float]:
    return {f"{name}_mean": distances.mean, f"{name}_mean_square": distances.mean_square, f"{name}_p90": distances.p90}


def _chamfer(first: _Sample, second: _Sample) -> float:
    """Return the sum of the mean squared distances to the nearest point, both ways."""
    there, back = second.tree.query(first.points.numpy())[0], first.tree.query(second.points.numpy())[0]
    return float(np.square(there).mean() + np.square(back).mean())


def _mean_agreement(normals: Float[Tensor, "points 3"], others: Float[Tensor, "points 3"]) -> float:
    return float((normals * others).sum(-1).abs().mean())


def _emd(first: _Sample, second: _Sample, options: ShapeMetricOptions) -> dict[str, float]:
    """Return the earth mover's distance between the first points of two samples, if asked for."""
    count = min(options.emd_points, len(first.points), len(second.points))
    if not count:
        return {}
    return {"emd_x1000": 1000 * earth_movers_distance(first.points[:count], second.points[:count])}


def _in_original_units(metrics: dict[str, float], scale: float) -> dict[str, float]:
    powers = dict.fromkeys(LENGTHS, 1) | dict.fromkeys(SQUARES, 2)
    return {f"{name}_original": metrics[name] / scale**power for name, power in powers.items() if name in metrics}
