"""Which way normals of bare points look: spanning trees, views from outside, winding numbers.

Neighbours agree about the side, so signs travel along a spanning tree (Hoppe et al., 1992); where the surface bends
sharply or two sheets touch, the tree may err. What can be seen from outside must look outside: views from all around
set each piece of the tree right.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor
from torch.nn.functional import normalize

from shapewright.checks import check_shape
from shapewright.geometry.point_cloud import nearest_neighbours, point_spacing
from shapewright.geometry.ray_casting import fibonacci_directions

NUM_VIEWS = 64
_WEAK_EDGE = 0.3
_PIXEL_SPACINGS = 2.0
_DEPTH_SPACINGS = 3.0
_SURE_SHARE = 0.2


def orient_towards(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    viewpoints: Float[Tensor, " 3"] | Float[Tensor, "points 3"],
) -> Float[Tensor, "points 3"]:
    """Return the normals turned to the place from which the points were seen.

    Args:
        points: Positions.
        normals: Normals of either sign.
        viewpoints: One position of the scanner for all points, or one for each.
    """
    away = ((viewpoints - points) * normals).sum(1, keepdim=True) < 0
    return torch.where(away, -normals, normals)


def orient_normals(
    points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"], neighbours: int = 12
) -> Float[Tensor, "points 3"]:
    """Return the normals turned consistently outwards.

    Signs travel along the minimum spanning tree of each point's nearest neighbours. The weight of an edge is ``1 -
    |n_i' . n_j|``, where ``n_i'`` is ``n_i`` mirrored at the plane midway between the two points (Koenig and Gumhold,
    Consistent Propagation of Normal Orientations in Point Clouds, 2009): it is zero along any circular arc. Edges above
    0.3 cut the tree into pieces. A piece that is seen from outside looks where it is seen from; another one follows
    the piece that it hangs on, and one that hangs on none looks away from its own middle.

    Args:
        points: Positions, no two at the same place.
        normals: Unit normals of either sign.
        neighbours: Number of edges at each point before the tree is formed.

    Raises:
        ValueError: if the shapes differ, or there are fewer than two points.
    """
    check_shape("normals", normals, (len(points), 3))
    flat = _flattened(points, normals, neighbours)
    tree = _spanning_forest(flat.double(), normals.double(), neighbours)
    signs, order, parents, weak = (torch.from_numpy(part) for part in tree)
    consistent = signs[:, None].to(normals) * normals
    votes, seen = _views_from_outside(points, consistent)
    outward = ((points - points.mean(0)) * consistent).sum(1)
    flips = _piece_signs(order.numpy(), parents.numpy(), weak.numpy(), _stack(votes, seen, outward))
    return torch.from_numpy(flips)[:, None].to(normals) * consistent


def _flattened(
    points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"], neighbours: int
) -> Float[Tensor, "points 3"]:
    """Return points moved along their normals to the middle of their neighbours; noise turns the edges between them."""
    _, indices = nearest_neighbours(points, points, 2 * neighbours)
    off = ((points[indices].mean(1) - points) * normals).sum(1, keepdim=True)
    return points + off * normals


def _stack(*columns: Float[Tensor, " points"]) -> Float[np.ndarray, "points columns"]:
    return torch.stack([column.double() for column in columns], dim=1).cpu().numpy()


def _spanning_forest(
    points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"], neighbours: int
) -> tuple[
    Float[np.ndarray, " points"],
    Int64[np.ndarray, " points"],
    Int64[np.ndarray, " points"],
    Bool[np.ndarray, " points"],
]:
    """Return signs along the trees, the order of a walk from their roots, parents (-1: a root) and weak edges."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree

    _, indices = nearest_neighbours(points, points, neighbours + 1)
    start = torch.arange(len(points)).repeat_interleave(indices.shape[1] - 1)
    end = indices[:, 1:].reshape(-1)
    # Zero would mean no edge.
    weights = 1.0 - _agreement(points, normals, start, end).abs() + 1e-6
    graph = coo_array((weights.numpy(), (start.numpy(), end.numpy())), shape=(len(points),) * 2).tocsr()
    tree = minimum_spanning_tree(graph.maximum(graph.T))
    order, parents = _walk(tree + tree.T)
    child = order[parents[order] >= 0]
    agreement = np.ones(len(points))
    agreement[child] = _agreement(points, normals, torch.from_numpy(parents[child]), torch.from_numpy(child)).numpy()
    signs = np.where(agreement < 0, -1.0, 1.0)
    for point in child:
        signs[point] *= signs[parents[point]]
    return signs, order, parents, np.abs(agreement) < 1.0 - _WEAK_EDGE


def _agreement(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    start: Int64[Tensor, " edges"],
    end: Int64[Tensor, " edges"],
) -> Float[Tensor, " edges"]:
    """Return the cosine between the mirrored normal at the start of each edge and the normal at its end."""
    along = normalize(points[end] - points[start], dim=1)
    first, second = normals[start], normals[end]
    mirrored = first - 2.0 * (first * along).sum(1, keepdim=True) * along
    return (mirrored * second).sum(1)


def _walk(forest: Shaped[object, "..."]) -> tuple[Int64[np.ndarray, " points"], Int64[np.ndarray, " points"]]:
    """Return the points of a sparse forest, parents before children, and the parent of each (-1 for roots)."""
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    count, labels = connected_components(forest, directed=False)
    roots = np.unique(labels, return_index=True)[1]
    orders, parents = [], np.full(len(labels), -1, np.int64)
    for root in roots[:count]:
        order, before = breadth_first_order(forest, int(root), directed=False)
        parents[order[1:]] = before[order[1:]]
        orders.append(order.astype(np.int64))
    return np.concatenate(orders), parents


def _piece_signs(
    order: Int64[np.ndarray, " points"],
    parents: Int64[np.ndarray, " points"],
    weak: Bool[np.ndarray, " points"],
    evidence: Float[np.ndarray, "points 3"],
) -> Float[np.ndarray, " points"]:
    """Return +1 or -1 for each point: whether its piece of the tree must be turned.

    ``evidence`` has the votes of the views, 1 where a point is seen, and the cosine away from the middle.
    """
    pieces = np.zeros(len(order), np.int64)
    hangs_on: list[int] = []
    for point in order:
        parent = parents[point]
        if parent >= 0 and not weak[point]:
            pieces[point] = pieces[parent]
        else:
            pieces[point] = len(hangs_on)
            hangs_on.append(-1 if parent < 0 else int(pieces[parent]))
    votes, seen, outward = (np.bincount(pieces, column, len(hangs_on)) for column in evidence.T)
    signs = np.ones(len(hangs_on))
    for piece, other in enumerate(hangs_on):
        if abs(votes[piece]) > _SURE_SHARE * max(seen[piece], 1.0):
            signs[piece] = np.sign(votes[piece])
        elif other >= 0:
            signs[piece] = signs[other]
        else:
            signs[piece] = -1.0 if outward[piece] < 0 else 1.0
    return signs[pieces]


def _views_from_outside(
    points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"]
) -> tuple[Float[Tensor, " points"], Float[Tensor, " points"]]:
    """Return the sum of the cosines between each normal and the directions that see its point, and whether any does.

    Each direction draws a depth map whose pixels are two spacings wide, so that no view passes between the points.
    """
    spacing = float(point_spacing(points).median())
    votes, seen = torch.zeros(len(points)), torch.zeros(len(points))
    spread = float((points.amax(0) - points.amin(0)).norm())
    if not spacing > 0 or not spread > 0:
        return votes, seen
    pixel = max(_PIXEL_SPACINGS * spacing, spread / 2048)
    for direction in fibonacci_directions(NUM_VIEWS).to(points):
        is_seen = _front(points, direction, pixel, _DEPTH_SPACINGS * spacing)
        votes += is_seen * (normals @ direction)
        seen += is_seen * (normals @ direction).abs()
    return votes, seen


def _front(
    points: Float[Tensor, "points 3"], direction: Float[Tensor, " 3"], pixel: float, depth: float
) -> Float[Tensor, " points"]:
    """Return 1 for points within ``depth`` of the nearest in their pixel and its eight neighbours, seen from far."""
    helper = torch.eye(3).to(direction)[int(direction.abs().argmin())]
    right = normalize(torch.linalg.cross(direction, helper), dim=0)
    up = torch.linalg.cross(direction, right)
    plane = points @ torch.stack((right, up), dim=1)
    cells = ((plane - plane.amin(0)) / pixel).long() + 1
    columns = int(cells[:, 1].max()) + 2
    height = points @ direction
    grid = torch.full(((int(cells[:, 0].max()) + 2) * columns,), -math.inf).to(points)
    flat = cells[:, 0] * columns + cells[:, 1]
    grid.scatter_reduce_(0, flat, height, "amax")
    nearest = torch.nn.functional.max_pool2d(grid.view(1, 1, -1, columns), 3, stride=1, padding=1).view(-1)
    return (height >= nearest[flat] - depth).to(points)


def cloud_winding_number(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    queries: Float[Tensor, "queries 3"],
    areas: Float[Tensor, " points"] | None = None,
) -> Float[Tensor, " queries"]:
    """Return how often oriented points wind around each query: about 1 inside, 0 outside.

    Each point is a dipole as strong as its share of the surface; far groups are expanded by libigl (Barill et al.,
    Fast Winding Numbers for Soups and Clouds, 2018).

    Args:
        points: Positions, no two at the same place.
        normals: Unit normals that point outwards.
        queries: Where to look.
        areas: Share of the surface of each point; by default ``point_spacing`` squared.
    """
    import igl

    check_shape("normals", normals, (len(points), 3))
    shares = point_spacing(points).square() if areas is None else areas
    arrays = [np.ascontiguousarray(part.detach().cpu().double().numpy()) for part in (points, normals, shares, queries)]
    return torch.from_numpy(igl.fast_winding_number(*arrays)).to(queries)
