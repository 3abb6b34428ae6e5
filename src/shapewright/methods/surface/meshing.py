"""From a trained surface to a mesh in world units."""

from __future__ import annotations

import dataclasses

import torch

from shapewright.data.scene import Scene
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import cull_by_masks, largest_component
from shapewright.methods.surface.config import MeshConfig
from shapewright.methods.surface.method import SurfaceMethod

_COARSE = 64
_CULL_MARGIN_PX = 4


def extract_mesh(method: SurfaceMethod, scene: Scene, config: MeshConfig) -> Mesh:
    """Return the coloured mesh of a surface.

    A coarse mesh shows where the object is; the fine one is drawn in its box, culled by the silhouettes of all views,
    cut down to its largest part, coloured as seen along the normal, and moved to world units.

    Raises:
        UserError: if the field has no surface.
    """
    corner = torch.ones(3)
    coarse = extract_isosurface(method.sdf, -corner, corner, _COARSE).mesh
    lower, upper = (largest_component(coarse) if config.components == "largest" else coarse).bounds
    margin = 2.0 * 2.0 / _COARSE
    lower, upper = (lower - margin).clamp(min=-1.0), (upper + margin).clamp(max=1.0)
    mesh = _select(extract_isosurface(method.sdf, lower, upper, config.resolution).mesh, scene, config)
    mesh = dataclasses.replace(mesh, vertex_colors=method.color(mesh.vertices).clamp(0.0, 1.0))
    if config.units == "world":
        mesh = mesh.transformed(scene.scale, torch.from_numpy(scene.translation).to(mesh.vertices))
    return mesh


def _select(mesh: Mesh, scene: Scene, config: MeshConfig) -> Mesh:
    """Remove what lies outside the silhouettes and what is not connected to the largest part."""
    if config.hull_cull and scene.has_masks:
        masks = [torch.from_numpy(scene.mask(view)) for view in scene.train]
        cameras = scene.cameras[list(scene.train)].to(dtype=torch.float32)
        mesh = cull_by_masks(mesh, cameras, masks, _CULL_MARGIN_PX)
    return largest_component(mesh) if config.components == "largest" else mesh
