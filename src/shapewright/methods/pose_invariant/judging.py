"""How good the meshes of a set of pictures are, and how much of the pose their codes keep."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.spatial import cKDTree
from torch import Tensor

from shapewright.analysis.pose_leak import linear_probe, nearest_mean_probe
from shapewright.analysis.view_variance import code_shares, view_variance
from shapewright.data.picture_sets import PictureSet, near_of, project_to
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.solid_voxels import VoxelRule, padded
from shapewright.kernels.voxel_ops import solid_voxels
from shapewright.losses.silhouette_pictures import coverage_iou
from shapewright.methods.pose_invariant.batches import resized_masks
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.metrics.grid_iou import grid_iou
from shapewright.metrics.mmd import MmdResult, mean_binned_mmd, mean_pairwise_mmd
from shapewright.rendering.rasterizer import rasterize

F_SCORE_DISTANCE = 0.01
TURNS_DEG = (90, 180)
_CHUNK = 96
# Their voxels are in memory at once.
_OBJECTS_AT_ONCE = 16
_MAJORITY = 0.5


@dataclass(frozen=True)
class Predictions:
    """Hold what the networks make of every picture of a set.

    Args:
        codes: Of each picture.
        vertices: Of the mesh of each picture.
        faces: Of every mesh.
    """

    codes: Float[Tensor, "objects views code"]
    vertices: Float[Tensor, "objects views vertices 3"]
    faces: Int64[Tensor, "faces 3"]

    def mesh(self, place: int, view: int) -> Mesh:
        """Return the mesh that was made of one picture of one object."""
        return Mesh(self.vertices[place, view], self.faces)


def predict(method: PoseInvariantMethod, pictures: PictureSet) -> Predictions:
    """Return codes and meshes of all pictures."""
    objects, views = _all_pictures(pictures)
    classes = method.kind.places(pictures.categories)
    parts = [
        method.judged.reconstruct(pictures.pictures(objects[some], views[some]), classes[objects[some]])
        for some in torch.arange(len(objects)).split(_CHUNK)
    ]
    codes, vertices = (
        torch.cat(part).unflatten(0, (len(pictures), pictures.num_views)) for part in zip(*parts, strict=True)
    )
    return Predictions(codes, vertices, method.model.faces.cpu())


def shape_rows(pictures: PictureSet, found: Predictions, num_points: int = 10_000) -> dict[str, Float[Tensor, "o v"]]:
    """Return the metrics of every mesh against the truth, by name; those of which there is no truth are left out.

    * ``voxel_iou_32``: by the rule of the data set in a padded grid, such as kato32_padded; ``voxel_iou_32_unpadded``
      by the rule itself, which empties meshes that leave the cube, and ``leak_share`` tells where both differ.
    * ``chamfer_x1000``: mean squared distances both ways, added, times 1000; the longest side of an object is 1.
    * ``f_score_1pct``: harmonic mean of the shares of points nearer than 0.01.

    Args:
        pictures: With voxels or points.
        found: Of the same pictures.
        num_points: Points on each surface.
    """
    rows: dict[str, Tensor] = {}
    if pictures.voxels is not None:
        parts = [
            _voxel_rows(found.vertices[some.numpy()], found.faces, pictures.voxels[some.numpy()], pictures.voxel_rule)
            for some in torch.arange(len(pictures)).split(_OBJECTS_AT_ONCE)
        ]
        rows |= {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    if pictures.points is not None and num_points:
        rows |= _point_rows(pictures.points, found, num_points)
    return rows


def silhouette_rows(
    method: PoseInvariantMethod, pictures: PictureSet, found: Predictions
) -> dict[str, Float[Tensor, "o v"]]:
    """Return the silhouette IoU from the side of the picture, and from sides 90 and 180 degrees away.

    The novel sides exist where all objects were seen from one ring of views. ``inside_out_share`` is the share of
    what the picture's side sees that is the back of a face: silhouettes do not care which way a surface looks.

    Args:
        method: Draws.
        pictures: With masks.
        found: Of the same pictures.
    """
    objects, views = _all_pictures(pictures)
    turns = {"silhouette_iou_input": 0}
    if pictures.num_views % 4 == 0 and pictures.views.is_ring:
        turns |= {f"silhouette_iou_{turn}deg": pictures.num_views * turn // 360 for turn in TURNS_DEG}
    rows = {}
    with torch.no_grad():
        for name, turn in turns.items():
            values = []
            for some in torch.arange(len(objects)).split(_CHUNK):
                seen = (views[some] + turn) % pictures.num_views
                vertices = found.vertices.flatten(0, 1)[some]
                drawn = method.painter.draw(vertices, found.faces, pictures.views.poses(objects[some], seen))
                masks = resized_masks(pictures.masks(objects[some], seen), method.painter.size)
                values.append(coverage_iou(drawn, masks))
            rows[name] = torch.cat(values).unflatten(0, (len(pictures), pictures.num_views))
        shares = []
        for some in torch.arange(len(objects)).split(_CHUNK):
            poses = pictures.views.poses(objects[some], views[some])
            screen = project_to(found.vertices.flatten(0, 1)[some], poses, method.kind.half_angle_deg, pictures.size)
            shares.append(back_share(screen, found.faces, pictures.size, near_of(method.kind.half_angle_deg)))
    return rows | {"inside_out_share": torch.cat(shares).unflatten(0, (len(pictures), pictures.num_views))}


def back_share(
    screen: Float[Tensor, "n vertices 3"], faces: Int64[Tensor, "faces 3"], size: int, near: float | None
) -> Float[Tensor, " n"]:
    """Return the share of the covered pixels whose nearest face is seen from behind; 0 where nothing is covered.

    Args:
        screen: x and y in pixels, y down, and depth.
        faces: Counter-clockwise from outside.
        size: Pixels along each side.
        near: Least depth.
    """
    fragments = rasterize(screen, faces, size, near=near)
    covered = fragments.is_covered.flatten(1).sum(1).clamp(min=1)
    return fragments.is_back(screen).flatten(1).sum(1) / covered


def judge_codes(pictures: PictureSet, found: Predictions) -> tuple[dict[str, float], list[str]]:
    """Return how much of the pose the codes keep: MMD, probes, shares of variance; and how shapes vary with views.

    Args:
        pictures: Their poses.
        found: Of the same pictures.

    Returns:
        metrics: Those that are finite.
        notes: Why there is no MMD, in sentences.
    """
    variance = view_variance(found.vertices)
    metrics = {
        "shape_variance_over_views": variance.over_views,
        "shape_variance_between_objects": variance.between_objects,
        "entanglement": variance.entanglement,
    }
    discrepancy = discrepancy_of(pictures, found)
    note = discrepancy if isinstance(discrepancy, str) else discrepancy.note
    if isinstance(discrepancy, MmdResult):
        metrics |= {
            "mmd": discrepancy.mean,
            "mmd_unbiased": discrepancy.unbiased,
            "mmd_pairs": discrepancy.pairs,
            "mmd_n": discrepancy.n,
            "mmd_floor": discrepancy.floor,
            "code_norm": discrepancy.mean_norm,
            "code_spread": discrepancy.between_object_spread,
        }
    if _have_common_views(pictures):
        shares = code_shares(found.codes)
        metrics |= {f"code_share_{name}": share for name, share in dataclasses.asdict(shares).items()}
    # Poses that training never had are in no bin.
    if len(pictures) > 1 and bool((pictures.pose_bins >= 0).all()):
        probe = nearest_mean_probe(found.codes, pictures.pose_bins)
        metrics |= {"pose_probe": probe.accuracy, "pose_probe_chance": probe.chance}
        if len(pictures) >= 5:
            metrics["pose_probe_linear"] = linear_probe(found.codes, pictures.pose_bins).accuracy
    finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
    return finite, [f"There is no mmd. {note}"] if note else []


def controls(train: PictureSet, judged: PictureSet) -> dict[str, float]:
    """Return the voxel IoU of guesses that use no network, but the true voxels of the training objects.

    * ``voxel_iou_32_mean_shape``: cells that more than half of the training objects of the category fill.
    * ``voxel_iou_32_nearest_silhouette``: the training object whose mask from the same view is most like the picture's.

    There are none where the voxels of the two follow different rules.

    Args:
        train: Pictures of the training objects.
        judged: Of the objects that are judged.
    """
    if train.voxels is None or judged.voxels is None or train.voxel_rule != judged.voxel_rule:
        return {}
    truth, known = torch.tensor(judged.voxels), torch.tensor(train.voxels)
    of_class = {name: np.array([c == name for c in train.categories]) for name in judged.classes}
    means = {name: known[own].float().mean(0) > _MAJORITY for name, own in of_class.items() if own.any()}
    scores = [float(grid_iou(means[c], truth[i])) for i, c in enumerate(judged.categories) if c in means]
    result = {"voxel_iou_32_mean_shape": float(np.mean(scores))} if scores else {}
    if judged.views.is_like(train.views):
        views = range(judged.num_views)
        nearest = [_overlaps(_flat_masks(judged, view), _flat_masks(train, view)).argmax(1) for view in views]
        scores = [
            float(grid_iou(known[own], one).mean()) for own, one in zip(torch.stack(nearest, 1), truth, strict=True)
        ]
        result["voxel_iou_32_nearest_silhouette"] = float(np.mean(scores))
    return result


def mean_by_class(rows: dict[str, Float[Tensor, "o v"]], categories: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the mean over objects and views of each class, and under ``mean`` that of the classes."""
    table: dict[str, dict[str, float]] = {}
    for name in sorted(set(categories)):
        own = torch.tensor([category == name for category in categories])
        table[name] = {metric: float(values[own].double().mean()) for metric, values in rows.items()}
    table["mean"] = {metric: float(np.mean([row[metric] for row in table.values()])) for metric in rows}
    return table


def _voxel_rows(
    vertices: Float[Tensor, "o v vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    truth: Bool[np.ndarray, "o g g g"],
    rule: VoxelRule,
) -> dict[str, Float[Tensor, "o v"]]:
    """Return how well the voxels of meshes agree with the true ones, by the rule and in a padded grid."""
    flat, known = vertices.flatten(0, 1), torch.tensor(truth)[:, None]
    kept, plain = (solid_voxels(flat, faces, one).unflatten(0, vertices.shape[:2]) for one in (padded(rule), rule))
    return {
        "voxel_iou_32": grid_iou(kept, known),
        "voxel_iou_32_unpadded": grid_iou(plain, known),
        "leak_share": (kept != plain).flatten(2).any(2).double(),
    }


def _point_rows(truth: Float[np.ndarray, "o n 3"], found: Predictions, num_points: int) -> dict[str, Tensor]:
    """Return Chamfer distances and F-scores between points of the meshes and of the true surfaces."""
    generator = torch.Generator().manual_seed(0)
    chamfers, scores = torch.zeros(2, *found.vertices.shape[:2], dtype=torch.float64)
    for place, points in enumerate(truth):
        points = points[:num_points]
        tree = cKDTree(points)
        for view in range(found.vertices.shape[1]):
            own = sample_surface(found.mesh(place, view), num_points, generator).numpy()
            there, back = tree.query(own)[0], cKDTree(own).query(points)[0]
            chamfers[place, view] = 1000 * (np.square(there).mean() + np.square(back).mean())
            precision, recall = (there < F_SCORE_DISTANCE).mean(), (back < F_SCORE_DISTANCE).mean()
            scores[place, view] = 2 * precision * recall / max(precision + recall, 1e-12)
    return {"chamfer_x1000": chamfers, "f_score_1pct": scores}


def discrepancy_of(pictures: PictureSet, found: Predictions) -> MmdResult | str:
    """Return the mean over pairs of views where all objects share them, else over the bins that are full enough.

    Args:
        pictures: Their poses.
        found: Of the same pictures.

    Returns:
        The discrepancy, or in a sentence that there are no two such bins.
    """
    if _have_common_views(pictures):
        return mean_pairwise_mmd(found.codes)
    bins, (objects, _) = pictures.pose_bins.flatten(), _all_pictures(pictures)
    known = bins >= 0  # poses that training never had are in no bin
    try:
        return mean_binned_mmd(found.codes.flatten(0, 1)[known], bins[known], objects[known])
    except UserError as error:
        return error.message


def _have_common_views(pictures: PictureSet) -> bool:
    """Tell if there are several objects, seen from the same several sides."""
    return pictures.views.is_shared and len(pictures) > 1 and pictures.num_views > 1


def _all_pictures(pictures: PictureSet) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    objects = torch.arange(len(pictures)).repeat_interleave(pictures.num_views)
    return objects, torch.arange(pictures.num_views).repeat(len(pictures))


def _flat_masks(pictures: PictureSet, view: int) -> Float[Tensor, "objects pixels"]:
    objects = torch.arange(len(pictures))
    return pictures.masks(objects, torch.full_like(objects, view)).flatten(1)


def _overlaps(a: Float[Tensor, "n pixels"], b: Float[Tensor, "m pixels"]) -> Float[Tensor, "n m"]:
    """Return the intersection over union of masks, as sums of products."""
    both = a @ b.T
    return both / (a.sum(1)[:, None] + b.sum(1) - both).clamp(min=1e-6)
