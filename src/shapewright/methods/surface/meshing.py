"""From a trained surface to a mesh in world units."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.scene import Scene
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import cull_by_masks, largest_component
from shapewright.methods.surface.config import MeshConfig
from shapewright.methods.surface.method import SurfaceMethod

_COARSE = 64
_CULL_MARGIN_PX = 4
_COLOR_CAMERAS = 3
_COLOR_CHUNK = 1 << 15


def extract_mesh(method: SurfaceMethod, scene: Scene, config: MeshConfig) -> Mesh:
    """Return the coloured mesh of a surface.

    A coarse mesh shows where the object is; the fine one is drawn in its box, culled by the silhouettes of all views,
    cut down to its largest part, coloured, and moved to world units.

    Raises:
        UserError: if the field has no surface.
    """
    corner = torch.ones(3)
    coarse = extract_isosurface(method.sdf, -corner, corner, _COARSE).mesh
    lower, upper = (largest_component(coarse) if config.components == "largest" else coarse).bounds
    margin = 2.0 * 2.0 / _COARSE
    lower, upper = (lower - margin).clamp(min=-1.0), (upper + margin).clamp(max=1.0)
    mesh = _select(extract_isosurface(method.sdf, lower, upper, config.resolution).mesh, scene, config)
    mesh = dataclasses.replace(mesh, vertex_colors=color_points(method, mesh.vertices, scene))
    if config.units == "world":
        mesh = mesh.transformed(scene.scale, torch.from_numpy(scene.translation).to(mesh.vertices))
    return mesh


def color_points(method: SurfaceMethod, points: Float[Tensor, "n 3"], scene: Scene) -> Float[Tensor, "n 3"]:
    """Return colours of surface points: the mean of what the training cameras that face them most directly see.

    Seen along the normal a point may look as it does in no photo; cameras keep to the directions that were trained.
    """
    centers = scene.cameras[list(scene.train)].centers.to(points)
    total = torch.zeros_like(points)
    for part in torch.arange(len(points)).split(_COLOR_CHUNK):
        normals = torch.nn.functional.normalize(method.sdf_and_normal(points[part])[1], dim=1)
        to_cameras = torch.nn.functional.normalize(centers - points[part, None], dim=2)
        facing = (to_cameras @ normals[:, :, None]).squeeze(2)
        for best in facing.topk(min(_COLOR_CAMERAS, len(centers)), dim=1).indices.unbind(1):
            total[part] += method.color(points[part], -to_cameras[torch.arange(len(part)), best])
    return (total / min(_COLOR_CAMERAS, len(centers))).clamp(0.0, 1.0)


def _select(mesh: Mesh, scene: Scene, config: MeshConfig) -> Mesh:
    """Remove what lies outside the silhouettes and what is not connected to the largest part."""
    if config.hull_cull and scene.has_masks:
        masks = [torch.from_numpy(scene.mask(view)) for view in scene.train]
        cameras = scene.cameras[list(scene.train)].to(dtype=torch.float32)
        mesh = cull_by_masks(mesh, cameras, masks, _CULL_MARGIN_PX)
    return largest_component(mesh) if config.components == "largest" else mesh
