"""From a trained shape to its mesh, and how well that fits."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.point_cloud import PointCloud, nearest_neighbours
from shapewright.geometry.sampling import Normalisation, normalisation
from shapewright.geometry.topology import (
    component_labels,
    count_components,
    is_watertight,
    keep_faces,
    largest_component,
)
from shapewright.methods.deep_sdf.single_config import SingleMeshConfig
from shapewright.methods.deep_sdf.single_data import restored
from shapewright.methods.deep_sdf.single_method import SingleShapeMethod
from shapewright.metrics.chamfer import surface_distance
from shapewright.metrics.shape_metrics import compare_points, shape_metrics

LEAST_SUPPORT = 20
_REACH_CELLS = 2.0
_MEASURED_POINTS = 50_000
_COLOR_NEIGHBOURS = 3
_NEAR = 0.01


def extract_mesh(method: SingleShapeMethod, config: SingleMeshConfig, keep_normalized: bool = False) -> Mesh:
    """Return the mesh of a trained shape, in the input's units unless asked otherwise, with the input's colours.

    Raises:
        UserError: if the field has no surface, or none near the input's points.
    """
    data = method.data
    lower, upper = data.box
    mesh = extract_isosurface(method.sdf, lower, upper, config.resolution).mesh
    if config.components == "largest":
        mesh = largest_component(mesh)
    elif config.components == "supported" and data.surface.num_points:
        cell = float((upper - lower).max()) / (config.resolution - 1)
        mesh = supported_components(mesh, data.surface.points, _REACH_CELLS * cell + data.spacing + 3.0 * data.noise)
    if data.surface.colors is not None:
        mesh = dataclasses.replace(mesh, vertex_colors=nearest_colors(data.surface, mesh.vertices))
    return mesh if keep_normalized else restored(mesh, data.placement)


def supported_components(mesh: Mesh, points: Float[Tensor, "points 3"], reach: float) -> Mesh:
    """Return the connected parts that are nearest to enough of the points, and within reach of them.

    Each point supports the part with the vertex nearest to it. A part stays if at least 20 points, or a thousandth of
    them if that is less, support it; the best supported one stays in any case.

    Args:
        mesh: A surface, perhaps with ghosts.
        points: What was seen of the true one.
        reach: How far from a point its part may be.

    Raises:
        UserError: if no point is within reach of any part.
    """
    labels = component_labels(mesh)
    of_vertex = torch.zeros(mesh.num_vertices, dtype=torch.int64)
    of_vertex[mesh.faces.reshape(-1)] = labels.repeat_interleave(3)
    distances, nearest = nearest_neighbours(mesh.vertices, points, 1)
    near = of_vertex[nearest[:, 0]][distances[:, 0] <= reach]
    if not len(near):
        raise UserError(
            "The surface is nowhere near the input's points: training has failed.",
            "Train longer, or check the normals: they may point at random.",
        )
    support = torch.bincount(near, minlength=int(labels.max()) + 1)
    kept = support >= min(LEAST_SUPPORT, len(points) / 1000, int(support.max()))
    return keep_faces(mesh, (kept & (support > 0))[labels])


def nearest_colors(cloud: PointCloud, positions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Return colours at positions: the mean of those of the nearest three points, weighted by one over the distance.

    Raises:
        ValueError: if the cloud has no colours.
    """
    if cloud.colors is None:
        raise ValueError("The cloud has no colours.")
    distances, nearest = nearest_neighbours(cloud.points, positions, _COLOR_NEIGHBOURS)
    weights = 1.0 / distances.clamp(min=1e-9)
    return ((weights / weights.sum(1, keepdim=True))[..., None] * cloud.colors[nearest]).sum(1).to(positions)


def fit_metrics(method: SingleShapeMethod, mesh: Mesh) -> dict[str, float]:
    """Return how well a mesh fits what the shape was trained on; lengths in normalised units.

    Args:
        method: The trained shape.
        mesh: Its mesh, in the input's units.
    """
    data = method.data
    metrics: dict[str, float] = {
        "components": count_components(mesh),
        "is_watertight": float(is_watertight(mesh)),
        "num_faces": mesh.num_faces,
    }
    if data.surface.num_points:
        chosen = torch.arange(data.surface.num_points)[:: max(1, data.surface.num_points // _MEASURED_POINTS)]
        distances = compare_points(data.surface.points[chosen], _placed(mesh, data.placement))
        metrics |= {"input_distance_mean": distances.mean, "input_distance_p90": distances.p90}
        metrics["input_share_01"] = distances.share_within(_NEAR)
    if data.kind != "cloud":
        chosen = torch.arange(len(data.space))[:: max(1, len(data.space) // _MEASURED_POINTS)]
        sdf, lower, upper = method.sdf(data.space[chosen]), data.lower[chosen], data.upper[chosen]
        outside = torch.maximum((lower - sdf).clamp(min=0.0), (sdf - upper).clamp(min=0.0))
        metrics["sdf_error_mean"] = float(outside.mean())
        metrics["sign_accuracy"] = float(((sdf < 0) == (lower + upper < 0)).float().mean())
    return metrics


def truth_metrics(mesh: Mesh, truth: Mesh) -> dict[str, float]:
    """Return how well a mesh fits the true one, both in the same units (``metrics.shape_metrics``).

    ``f_score_1pct`` has a threshold of 1 % of the diagonal of the true mesh's box.
    """
    placement = normalisation(truth)
    metrics = shape_metrics(_placed(mesh, placement), _placed(truth, placement), scale=placement.scale)
    return metrics | {"f_score_1pct": surface_distance(mesh, truth, 30_000).f_score_1pct}


def _placed(mesh: Mesh, placement: Normalisation) -> Mesh:
    return Mesh(placement.apply(mesh.vertices.double()), mesh.faces)
