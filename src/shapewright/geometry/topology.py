"""Which triangles hang together, and which belong to the object: components and culling by silhouettes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import max_pool2d

from shapewright.checks import check_range
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.mesh import Mesh, face_areas


def component_labels(mesh: Mesh) -> Int64[Tensor, " faces"]:
    """Return the number of the connected component of each triangle; neighbours share a vertex.

    Components are numbered from 0 by decreasing area.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    faces = mesh.faces.cpu()
    start, end = faces[:, :2].reshape(-1), faces[:, 1:].reshape(-1)
    size = (mesh.num_vertices, mesh.num_vertices)
    graph = coo_array((torch.ones(len(start)).numpy(), (start.numpy(), end.numpy())), shape=size)
    count, of_vertex = connected_components(graph, directed=False)
    of_face = torch.from_numpy(of_vertex).long()[faces[:, 0]]
    areas = torch.zeros(count, dtype=torch.float64).index_add_(0, of_face, face_areas(mesh).cpu().double())
    rank = torch.empty(count, dtype=torch.int64)
    rank[areas.argsort(descending=True, stable=True)] = torch.arange(count)
    return rank[of_face].to(mesh.faces.device)


def count_components(mesh: Mesh) -> int:
    """Return the number of connected components that have a triangle."""
    return len(component_labels(mesh).unique())


def keep_faces(mesh: Mesh, kept: Bool[Tensor, " faces"]) -> Mesh:
    """Return the mesh with some of its triangles and the vertices these use, in the same order."""
    used = torch.zeros(mesh.num_vertices, dtype=torch.bool, device=mesh.faces.device)
    used[mesh.faces[kept].reshape(-1)] = True
    renumbered = used.cumsum(0) - 1
    return Mesh(
        mesh.vertices[used],
        renumbered[mesh.faces[kept]],
        None if mesh.vertex_colors is None else mesh.vertex_colors[used],
        None if mesh.vertex_normals is None else mesh.vertex_normals[used],
    )


def keep_components(mesh: Mesh, count: int) -> Mesh:
    """Return the ``count`` components with the largest areas.

    Raises:
        ValueError: if ``count`` is below 1.
    """
    check_range("count", count, 1)
    return keep_faces(mesh, component_labels(mesh) < count) if mesh.num_faces else mesh


def largest_component(mesh: Mesh) -> Mesh:
    """Return the connected component with the largest area."""
    return keep_components(mesh, 1)


def is_watertight(mesh: Mesh) -> bool:
    """Tell if each edge joins two triangles that run along it in opposite directions."""
    start, end = mesh.faces.reshape(-1), mesh.faces.roll(-1, dims=1).reshape(-1)
    forward = start * mesh.num_vertices + end
    backward = end * mesh.num_vertices + start
    if len(forward.unique()) != len(forward) or not mesh.num_faces:
        return False
    return bool(torch.equal(forward.sort().values, backward.sort().values))


def cull_by_masks(
    mesh: Mesh,
    cameras: Cameras,
    masks: Sequence[Bool[Tensor, "height width"]],
    dilate_px: int = 6,
    min_inside_share: float = 0.5,
) -> Mesh:
    """Return the mesh without the triangles that most views place outside the object's silhouette.

    A vertex goes if fewer than ``min_inside_share`` of the views whose frame holds it see it inside their mask,
    grown by ``dilate_px``; one that no view holds stays. A triangle stays if its three vertices do.

    Args:
        mesh: Mesh in the space of the cameras.
        cameras: One camera for each mask.
        masks: True on the object; the size of the camera's picture.
        dilate_px: Half the side of the square by which masks grow, in pixels.
        min_inside_share: Share of views, in [0, 1]; 1 keeps the strict visual hull.

    Raises:
        ValueError: if the numbers of cameras and masks differ.
    """
    if len(cameras) != len(masks):
        raise ValueError(f"There are {len(cameras)} cameras but {len(masks)} masks.")
    seen = torch.zeros(mesh.num_vertices, device=mesh.vertices.device)
    inside = torch.zeros_like(seen)
    for view, mask in enumerate(masks):
        held, hit = _look_up(mesh, cameras, view, _dilate(mask, dilate_px).to(mesh.vertices.device))
        seen += held
        inside += hit
    kept = (inside >= min_inside_share * seen) | (seen == 0)
    return keep_faces(mesh, kept[mesh.faces].all(dim=1))


def _dilate(mask: Bool[Tensor, "height width"], radius_px: int) -> Bool[Tensor, "height width"]:
    """Return the mask grown by a square of side ``2 radius_px + 1``."""
    grown = mask[None].float()
    for kernel, padding in (((2 * radius_px + 1, 1), (radius_px, 0)), ((1, 2 * radius_px + 1), (0, radius_px))):
        grown = max_pool2d(grown, kernel, stride=1, padding=padding)
    return grown[0] > 0


def _look_up(
    mesh: Mesh, cameras: Cameras, view: int, mask: Bool[Tensor, "height width"]
) -> tuple[Float[Tensor, " vertices"], Float[Tensor, " vertices"]]:
    """Return 1 for the vertices inside a view's frame, and 1 for those inside its mask."""
    height, width = mask.shape
    uv, depth = cameras.project(mesh.vertices.to(cameras.world_from_camera), view)
    columns, rows = uv[:, 0].floor().long(), uv[:, 1].floor().long()
    held = (depth > 0) & (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    hit = mask[rows.clamp(0, height - 1), columns.clamp(0, width - 1)] & held
    return held.float(), hit.float()
