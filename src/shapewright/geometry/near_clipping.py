"""Cutting triangles at the near plane of a camera, so that what lies before it can be drawn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.checks import check_range, check_shape


@dataclass(frozen=True)
class ClippedFaces:
    """Hold triangles of which none reaches behind the near plane.

    Args:
        vertices: Those given, then one on each cut edge.
        attributes: Of the vertices, linear along the edges.
        faces: Vertex indices, wound as the faces that they were cut from.
        source_face: Which of the faces given each is a part of.
    """

    vertices: Float[Tensor, "vertices 3"]
    attributes: Float[Tensor, "vertices channels"]
    faces: Int64[Tensor, "faces 3"]
    source_face: Int64[Tensor, " faces"]


def clip_near(
    vertices_camera: Float[Tensor, "vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    attributes: Float[Tensor, "rows channels"],
    near: float,
) -> ClippedFaces:
    """Return the parts of triangles at depth ``near`` and beyond: none, one or two triangles for each face.

    A face with one vertex before the plane becomes two triangles, with two of them one. Neighbours share the vertex on
    a common edge, so that nothing opens between them. Differentiable by vertices and attributes. A face with a vertex
    that is not finite is kept as it is.

    Args:
        vertices_camera: In axes of which the third is the depth. The first two may be any that are linear in space,
            such as the homogeneous pixel (u z, v z).
        faces: Vertex indices.
        attributes: Colours, normals or texture coordinates, a row for each vertex; may have 0 channels.
        near: Least depth, positive.

    Raises:
        ValueError: if a shape does not fit, or ``near`` is not positive.
    """
    check_shape("vertices_camera", vertices_camera, (None, 3))
    check_shape("faces", faces, (None, 3))
    check_shape("attributes", attributes, (len(vertices_camera), None))
    check_range("near", near, 1e-30)
    behind = (vertices_camera[:, 2].detach().double() < near)[faces]
    behind &= vertices_camera.detach().isfinite().all(1)[faces].all(1)[:, None]
    count = behind.sum(1)
    whole, one, two = ((count == number).nonzero()[:, 0] for number in (0, 1, 2))
    # The vertex that stands alone on its side comes first: before the plane, or beyond it.
    alone = torch.cat([_turned(faces[one], behind[one]), _turned(faces[two], ~behind[two])])
    is_behind = torch.cat([torch.ones_like(one), torch.zeros_like(two)]).bool()[:, None]
    first, others = alone[:, :1].expand(-1, 2), alone[:, 1:]
    pairs = torch.stack([torch.where(is_behind, others, first), torch.where(is_behind, first, others)], dim=-1)
    edges, cut = torch.unique(pairs.flatten(0, 1), dim=0, return_inverse=True)
    p, q = (cut.view(-1, 2) + len(vertices_camera)).unbind(1)
    middle = len(one)
    _, a, b = alone[:middle].unbind(1)
    parts = [
        faces[whole],
        torch.stack([p[:middle], a, b], dim=1),
        torch.stack([p[:middle], b, q[:middle]], dim=1),
        torch.stack([alone[middle:, 0], p[middle:], q[middle:]], dim=1),
    ]
    places, values = _on_edges(vertices_camera, attributes, edges, near)
    return ClippedFaces(
        torch.cat([vertices_camera, places]),
        torch.cat([attributes, values]),
        torch.cat(parts),
        torch.cat([whole, one, one, two]),
    )


def _turned(faces: Int64[Tensor, "faces 3"], marked: Bool[Tensor, "faces 3"]) -> Int64[Tensor, "faces 3"]:
    """Return the faces with the marked corner first, wound as before."""
    start = marked.to(torch.uint8).argmax(1, keepdim=True)
    return faces.gather(1, (start + torch.arange(3, device=faces.device)) % 3)


def _on_edges(
    vertices: Float[Tensor, "vertices 3"],
    attributes: Float[Tensor, "vertices channels"],
    edges: Int64[Tensor, "edges 2"],
    near: float,
) -> tuple[Float[Tensor, "edges 3"], Float[Tensor, "edges channels"]]:
    """Return place and attributes where edges, each from beyond the plane to before it, cross the plane."""
    beyond, before = vertices[edges[:, 0]], vertices[edges[:, 1]]
    t = ((near - before[:, 2:]) / (beyond[:, 2:] - before[:, 2:])).clamp(0, 1)
    places = before + t * (beyond - before)
    depth = places.new_full((len(edges), 1), near)
    # Rounding to float32 must not put the new vertex before the plane.
    depth = torch.where(depth.double() < near, depth.nextafter(torch.full_like(depth, torch.inf)), depth)
    values = attributes[edges[:, 1]] + t.to(attributes) * (attributes[edges[:, 0]] - attributes[edges[:, 1]])
    return torch.cat([places[:, :2], depth], dim=1), values
