"""Hard rasterisation in plain torch: lists of the samples in each face's box, and a minimum over keys.

Sample (i, j) has its centre at (j + 0.5, i + 0.5). A face is not drawn if a vertex lies before ``near`` or is not
finite, or if twice its area is at most 1e-12. With corners ordered so that the area is positive (clockwise on the
screen, y down), side k from u to v has

    e_k(p) = (v - u)_x (p - u)_y - (v - u)_y (p - u)_x

and the sample is covered if every ``e_k > 0``, or ``e_k = 0`` on a left side (dy < 0) or a top one (dy = 0, dx > 0), so
that a sample on a common side belongs to one face. Depth is ``1 / z = sum_k (e_k / 2A) / z_k``, or
``z = sum_k (e_k / 2A) z_k`` in parallel projections. The smallest z wins, rounded to float32; among equals the lowest
face does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from torch import Tensor

LEAST_AREA = 1e-12
# The key of a sample without a face.
NO_FACE = torch.iinfo(torch.int64).max


@dataclass(frozen=True)
class RasterRule:
    """Say which faces are drawn.

    Args:
        size: Samples along each side of the square image.
        near: Least depth of a vertex; faces before it are left out, not clipped. None: a parallel projection, in which
            nothing lies behind the camera and depth is linear on the screen.
        culls_back: Whether faces whose vertices go clockwise round on the screen, seen from behind, are left out.
    """

    size: int
    near: float | None = 0.1
    culls_back: bool = False

    @property
    def is_parallel(self) -> bool:
        """Return whether depth is linear on the screen."""
        return self.near is None

    @property
    def least_depth(self) -> float:
        """Return the depth before which no vertex is drawn, as a finite number."""
        return -1e300 if self.near is None else self.near


def rasterize(
    screen: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> tuple[Int32[Tensor, "images size size"], Float32[Tensor, "images size size"]]:
    """Return the nearest face of each sample (-1: none) and its depth (infinite: none).

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices, shared by all images.
        rule: What is drawn.
    """
    found = [_rasterize_image(points, faces, rule) for points in screen.detach().double()]
    shape = (len(screen), rule.size, rule.size)
    if not found:
        return screen.new_zeros(shape, dtype=torch.int32), screen.new_zeros(shape, dtype=torch.float32)
    return torch.stack([ids for ids, _ in found]), torch.stack([depth for _, depth in found])


def cover(
    screen: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> Bool[Tensor, "images size size"]:
    """Return which samples a face covers, whichever way it looks."""
    return rasterize(screen, faces, replace(rule, culls_back=False))[0] >= 0


def face_areas_on_screen(
    points: Float64[Tensor, "vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> Float64[Tensor, " faces"]:
    """Return twice the signed area of each face, and 0 where it is not drawn whatever way it looks."""
    corners = points[faces]
    a, b, c = corners.unbind(1)
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    depth = corners[..., 2]
    drawn = ((depth >= rule.least_depth) & (depth < torch.inf)).all(1) & (area.abs() > LEAST_AREA) & area.isfinite()
    return torch.where(drawn, area, 0.0)


def samples_in_boxes(
    lower: Float64[Tensor, "faces 2"], upper: Float64[Tensor, "faces 2"], size: int
) -> tuple[Int64[Tensor, " fragments"], Int64[Tensor, " fragments"], Int64[Tensor, " fragments"]]:
    """Return, for each pair of a box and a sample whose centre lies in it, the box, the row and the column."""
    first = (lower - 0.5).clamp(0, size).ceil().long()
    last = (upper - 0.5).clamp(-1, size - 1).floor().long()
    extent = (last - first + 1).clamp(min=0)
    counts = extent.prod(1)
    box = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    place = torch.arange(len(box), device=counts.device) - (counts.cumsum(0) - counts)[box]
    width = extent[box, 0]
    return box, first[box, 1] + place // width, first[box, 0] + place % width


def _rasterize_image(
    points: Float64[Tensor, "vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> tuple[Int32[Tensor, "size size"], Float32[Tensor, "size size"]]:
    area = face_areas_on_screen(points, faces, rule)
    drawn = ((area < 0) | ((area > 0) & (not rule.culls_back))).nonzero()[:, 0]
    turned = torch.where(area[drawn, None] < 0, faces[drawn][:, [0, 2, 1]], faces[drawn])
    corners = points[turned]
    face, row, column = samples_in_boxes(corners[..., :2].amin(1), corners[..., :2].amax(1), rule.size)
    covered, z = _depth_of_fragments(corners, area[drawn].abs(), (face, row, column), rule.is_parallel)
    place = (row * rule.size + column)[covered]
    bits = z[covered].float().view(torch.int32).long()
    # Bits of floats sort like integers, once those of negative numbers are turned round.
    order = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    key = order * 2**32 + drawn[face[covered]]
    best = torch.full((rule.size**2,), NO_FACE, device=points.device)
    return unpack_keys(best.scatter_reduce(0, place, key, "amin").view(rule.size, rule.size))


def unpack_keys(keys: Int64[Tensor, "*samples"]) -> tuple[Int32[Tensor, "*samples"], Float32[Tensor, "*samples"]]:
    """Return the faces and depths of keys: float32 bits of the depth, turned to sort like integers, over face ids."""
    found = keys < NO_FACE
    order = keys >> 32
    bits = torch.where(order < 0, order ^ 0x7FFFFFFF, order).to(torch.int32)
    depth = torch.where(found, bits.view(torch.float32), torch.inf)
    return torch.where(found, keys & 0xFFFFFFFF, -1).to(torch.int32), depth


def _depth_of_fragments(
    corners: Float64[Tensor, "faces 3 3"],
    area: Float64[Tensor, " faces"],
    fragments: tuple[Int64[Tensor, " fragments"], Int64[Tensor, " fragments"], Int64[Tensor, " fragments"]],
    is_parallel: bool,
) -> tuple[Bool[Tensor, " fragments"], Float64[Tensor, " fragments"]]:
    """Return which fragments lie in their face, and the depth of each."""
    face, row, column = fragments
    x, y = column + 0.5, row + 0.5
    covered = torch.ones_like(face, dtype=torch.bool)
    depth = torch.zeros_like(x, dtype=torch.float64)
    for k in range(3):
        u, v = corners[:, (k + 1) % 3], corners[:, (k + 2) % 3]
        dx, dy = v[:, 0] - u[:, 0], v[:, 1] - u[:, 1]
        edge = dx[face] * (y - u[face, 1]) - dy[face] * (x - u[face, 0])
        owns_border = (dy < 0) | ((dy == 0) & (dx > 0))
        covered &= (edge > 0) | ((edge == 0) & owns_border[face])
        weight = corners[:, k, 2] / area if is_parallel else 1.0 / (area * corners[:, k, 2])
        depth = depth + edge * weight[face]
    return covered, depth if is_parallel else 1.0 / depth
