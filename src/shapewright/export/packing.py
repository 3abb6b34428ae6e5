"""Meshes as compact text inside a page.

Positions are quantised to 16 bits of the box, colours to 8, indices stay 32 bits. Each column is stored as the
differences from row to row, the bytes of equal weight lie together, and the whole is deflated: a marching-cubes mesh
takes about 7 bytes a triangle. ``static/viewer.js`` undoes it.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from jaxtyping import Shaped

from shapewright.geometry.mesh import Mesh


def pack_mesh(name: str, mesh: Mesh) -> dict[str, Any]:
    """Return a mesh as plain values for the viewer; normals are left to it."""
    lower, upper = mesh.bounds.double().cpu()
    size = float((upper - lower).max()) or 1.0
    lattice = ((mesh.vertices.double().cpu() - lower) / size * 65535).round().numpy().astype("<u2")
    packed: dict[str, Any] = {
        "name": name,
        "numVertices": mesh.num_vertices,
        "numFaces": mesh.num_faces,
        "lower": lower.tolist(),
        "size": size,
        "positions": pack_columns(lattice),
        "indices": pack_columns(mesh.faces.cpu().numpy().astype("<u4")),
    }
    if mesh.vertex_colors is not None:
        colors = (mesh.vertex_colors.detach().cpu().clamp(0, 1) * 255).round().numpy().astype("u1")
        packed["colors"] = pack_columns(colors)
    return packed


def pack_columns(values: Shaped[np.ndarray, "rows columns"]) -> str:
    """Return unsigned integers as base64 of deflated differences, byte planes apart."""
    differences = np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))
    width = values.dtype.itemsize
    planes = differences.reshape(-1).view("u1").reshape(*values.shape, width).transpose(2, 1, 0)
    return base64.b64encode(zlib.compress(planes.tobytes(), 6)).decode()
