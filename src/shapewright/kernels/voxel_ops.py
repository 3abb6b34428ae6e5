"""Solid voxels of meshes, quickly: numba on the CPU, the definition of ``geometry.solid_voxels`` elsewhere.

A task is a mesh, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapewright.checks import check_faces, check_shape
from shapewright.geometry import solid_voxels as definition
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.solid_voxels import KATO32, VoxelRule, kato_rule, vpl_rule
from shapewright.kernels.backends import choose, load
from shapewright.kernels.pool import run_slices

__all__ = ["kato_voxels", "solid_voxels", "vpl_voxels"]


def kato_voxels(mesh: Mesh, resolution: int = 32, padding: int = 0) -> Bool[Tensor, "g g g"]:
    """Return the cells that a mesh fills by the rule of Kato's data sets (``kato32``), indexed by x, y, z.

    Args:
        mesh: A closed surface in the cube [-0.5, 0.5]^3.
        resolution: Cells along each side.
        padding: Cells added on each side while filling; ``kato32_padded`` has 4.
    """
    return solid_voxels(mesh.vertices[None], mesh.faces, kato_rule(resolution, padding))[0]


def vpl_voxels(mesh: Mesh, resolution: int = 32, cube: Literal["unit", "pascal3d"] = "unit") -> Bool[Tensor, "g g g"]:
    """Return the cells that a mesh fills by the rule of View Prior Learning (``vpl32``), indexed by x, y, z.

    Args:
        mesh: A closed surface in the cube.
        resolution: Cells along each side.
        cube: ``unit`` is [-0.5, 0.5]^3, ``pascal3d`` [-1, 1]^3.
    """
    return solid_voxels(mesh.vertices[None], mesh.faces, vpl_rule(resolution, cube))[0]


def solid_voxels(
    vertices: Float[Tensor, "meshes vertices 3"], faces: Int[Tensor, "faces 3"], rule: VoxelRule = KATO32
) -> Bool[Tensor, "meshes g g g"]:
    """Return the cells that each of many meshes fills, indexed by x, y, z, on the device of the vertices.

    Args:
        vertices: Of closed surfaces that share their faces; triangles with a vertex that is not finite are left out.
        faces: Vertex indices.
        rule: Which cells count.

    Raises:
        ValueError: if a shape does not fit, or a face names a missing vertex.
    """
    check_shape("vertices", vertices, (None, None, 3))
    check_faces(faces, vertices.shape[1])
    if choose("cpu") != "cpu":
        grids = [definition.solid_voxels(one, faces, rule) for one in vertices.detach().cpu()]
        side = rule.resolution
        return torch.from_numpy(np.stack(grids) if grids else np.zeros((0, side, side, side), bool)).to(vertices.device)
    size = rule.resolution + 2 * rule.padding
    grid = np.zeros((len(vertices), size, size, size), np.uint8)
    arrays = rule.places(vertices), faces.detach().cpu().int().contiguous().numpy()
    kernel = load("cpu", "voxels").fill
    run_slices(len(grid), partial(kernel, *arrays, rule.padding, rule.surface == "touch", grid), minimum=1)
    inner = slice(rule.padding, size - rule.padding)
    filled = np.ascontiguousarray(grid[:, inner, inner, inner] != load("cpu", "voxels").OUTSIDE)
    return torch.from_numpy(filled).to(vertices.device)
