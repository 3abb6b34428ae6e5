"""Measuring a trained surface on pictures it has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from shapewright.data.capture import Picture
from shapewright.data.scene import Scene
from shapewright.io.meshes import read_mesh
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.metrics.chamfer import surface_distance
from shapewright.metrics.image import constant_color_psnr, psnr, view_metrics
from shapewright.rendering.rendering import Rendering

TRUE_MESH = "true_mesh.ply"


@dataclass(frozen=True)
class EvaluatedView:
    """Hold one rendered view beside its photo, and its metrics."""

    view: int
    name: str
    picture: Picture
    rendering: Rendering
    metrics: dict[str, float]


def evaluate_views(
    method: SurfaceMethod,
    scene: Scene,
    views: Sequence[int],
    step: int = 1,
    keep: Callable[[int], bool] = lambda _view: True,
) -> list[EvaluatedView]:
    """Render views and compare them with their photos.

    Args:
        method: The trained surface.
        scene: Its pictures.
        views: Which of them.
        step: Use every so many-th pixel of a row and of a column.
        keep: Whether to hold on to a view's pictures; the others keep metrics only.
    """
    results = []
    for view in views:
        rendering = method.render_view(scene.cameras, view, step)
        picture = scene.picture(view)
        alpha = None if picture.alpha is None else picture.alpha[::step, ::step]
        picture = Picture(picture.rgb[::step, ::step], alpha)
        metrics = compare(rendering, picture)
        if not keep(view):
            nothing = torch.empty(0, 0, 3)
            rendering = Rendering(nothing, nothing[..., 0], nothing[..., 0], nothing)
        results.append(EvaluatedView(view, scene.views[view].name, picture, rendering, metrics))
    return results


def compare(rendering: Rendering, picture: Picture) -> dict[str, float]:
    """Return the metrics of one view (``metrics.image.view_metrics``); only the whole picture's PSNR without a mask."""
    photo = torch.from_numpy(picture.rgb.astype(np.float32) / 255.0)
    if picture.alpha is None:
        return {"psnr_full": psnr(rendering.rgb, photo)}
    alpha = torch.from_numpy(picture.alpha.astype(np.float32) / 255.0)
    metrics = view_metrics(rendering.rgb, rendering.opacity, photo, alpha)
    return metrics | {"constant_color_psnr": constant_color_psnr(photo * alpha[..., None], alpha > 0.5)}


def summarise(views: Sequence[EvaluatedView]) -> dict[str, float]:
    """Return the mean of every metric over the views, and the least and greatest where that says more."""
    if not views:
        return {}
    names = views[0].metrics
    means = {name: float(np.mean([view.metrics[name] for view in views])) for name in names}
    least = {
        f"{name}_least": min(view.metrics[name] for view in views)
        for name in ("psnr_misses_black", "silhouette_iou")
        if name in names
    }
    return means | least


def distance_to_true_mesh(mesh_path: Path, truth_path: Path) -> dict[str, float]:
    """Return the distances between a mesh and the true one, in percent of the true box's diagonal."""
    return surface_distance(read_mesh(mesh_path), read_mesh(truth_path)).metrics()
