"""Gradients of silhouettes in plain torch: two that follow the outline, and the walk of the Neural Mesh Renderer.

A silhouette is the mean of the covered samples in each pixel. With g its gradient, each function returns that by x and
y of the vertices, in samples. Screens are in samples too. Images are worked through one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from shapewright.kernels.reference.rasterizer import RasterRule, face_areas_on_screen, samples_in_boxes

LONGEST_EDGE = 1e6
# The walk's distance from an outline never comes nearer to zero than this, in half images.
NMR_EPS = 1e-4
# A soft face outside which exp(distance / sigma) exceeds this is left out.
SOFT_LIMIT = 23.025850929940457


def outline_backward(
    screen: Float[Tensor, "images vertices 3"],
    edges: Int64[Tensor, "edges 4"],
    rule: RasterRule,
    mask: Bool[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
    steps: int,
) -> Float64[Tensor, "images vertices 2"]:
    """Return ``integral of g (n . dx)`` over the outline, the derivative of box-filtered coverage.

    With ``steps > 0``, g at an outline point q with outward normal n also gathers ``min(0, g(q + r n)) / r`` over the
    empty pixels outside and ``max(0, g(q - r n)) / r`` over the covered ones inside, for r = 1 .. steps: a direction of
    descent with a longer reach, but no derivative.

    Args:
        screen: x and y in samples, and the depth.
        edges: Edges with their opposite vertices, as ``geometry.mesh_edges.edge_table`` returns them.
        rule: Which faces are drawn.
        mask: Covered samples.
        grad: Gradient by the silhouette's pixels.
        steps: How many pixels the outline reaches to either side; 0 for the derivative.
    """
    points = screen.detach().double()
    found = [_outline_of_image(*item, edges, rule, steps) for item in zip(points, mask, grad.double(), strict=True)]
    return torch.stack(found) if found else points[..., :2]


def _outline_of_image(
    points: Float64[Tensor, "vertices 3"],
    mask: Bool[Tensor, "n n"],
    grad: Float64[Tensor, "size size"],
    edges: Int64[Tensor, "edges 4"],
    rule: RasterRule,
    steps: int,
) -> Float64[Tensor, "vertices 2"]:
    side = _outline_sides(points, edges, rule)
    along = points[edges[:, 1], :2] - points[edges[:, 0], :2]
    length = along.norm(dim=1)
    kept = ((side != 0) & (length > 0) & (length < LONGEST_EDGE)).nonzero()[:, 0]
    along, length, ends = along[kept], length[kept], edges[kept, :2]
    normal = torch.stack([along[:, 1], -along[:, 0]], dim=1) / length[:, None] * side[kept].sign()[:, None]
    parts = length.ceil().long()
    edge = torch.repeat_interleave(torch.arange(len(kept), device=points.device), parts)
    place = torch.arange(len(edge), device=points.device) - (parts.cumsum(0) - parts)[edge]
    t = (place + 0.5).double() / parts[edge]
    q = points[ends[edge, 0], :2] + t[:, None] * along[edge]
    n = normal[edge]
    supersample = len(mask) // len(grad)
    look = _Look(mask, grad, supersample)
    counts = look.is_inside(q) & ~look.is_covered(q + n)
    slope = look.slope(q) + (_reached(look, q, supersample * n, steps) if steps else 0.0)
    weight = torch.where(counts, slope * length[edge] / parts[edge] / supersample**2, 0.0)[:, None] * n
    by_points = torch.zeros_like(points[:, :2])
    by_points.index_add_(0, ends[edge, 0], (1 - t)[:, None] * weight)
    return by_points.index_add_(0, ends[edge, 1], t[:, None] * weight)


def _outline_sides(
    points: Float64[Tensor, "vertices 3"], edges: Int64[Tensor, "edges 4"], rule: RasterRule
) -> Float64[Tensor, " edges"]:
    """Return which side of each edge its faces lie on; 0 where they lie on both, or none is drawn."""
    side_c = face_areas_on_screen(points, edges[:, [0, 1, 2]], rule)
    side_d = face_areas_on_screen(points, edges[:, [0, 1, 3]].clamp(min=0), rule)
    side_d = torch.where(edges[:, 3] >= 0, side_d, 0.0)
    side = torch.where(side_c.abs() > side_d.abs(), side_c, side_d)
    return torch.where(side_c * side_d < 0, 0.0, side)


@dataclass(frozen=True)
class _Look:
    """Look up samples and pixels at places given in samples."""

    mask: Bool[Tensor, "n n"]
    grad: Float64[Tensor, "size size"]
    supersample: int

    def is_inside(self, q: Float64[Tensor, "places 2"]) -> Bool[Tensor, " places"]:
        """Return which places lie in the image."""
        return ((q >= 0) & (q < len(self.mask))).all(1)

    def is_covered(self, q: Float64[Tensor, "places 2"]) -> Bool[Tensor, " places"]:
        """Return which places lie in the image and on a covered sample."""
        column, row = q.clamp(0, len(self.mask) - 1).long().unbind(1)
        return self.mask[row, column] & self.is_inside(q)

    def slope(self, q: Float64[Tensor, "places 2"]) -> Float64[Tensor, " places"]:
        """Return the gradient of the pixel at each place; outside, that of the nearest pixel."""
        column, row = (q.clamp(0, len(self.mask) - 1).long() // self.supersample).unbind(1)
        return self.grad[row, column]


def _reached(
    look: _Look, q: Float64[Tensor, "places 2"], step: Float64[Tensor, "places 2"], steps: int
) -> Float64[Tensor, " places"]:
    total = torch.zeros_like(q[:, 0])
    outside, inside = torch.ones_like(total, dtype=torch.bool), torch.ones_like(total, dtype=torch.bool)
    for r in range(1, steps + 1):
        out, back = q + r * step, q - r * step
        outside &= look.is_inside(out) & ~look.is_covered(out)
        inside &= look.is_covered(back)
        total += torch.where(outside, look.slope(out).clamp(max=0) / r, 0.0)
        total += torch.where(inside, look.slope(back).clamp(min=0) / r, 0.0)
    return total


@dataclass(frozen=True)
class Crossings:
    """Hold where lines of samples cross one side A-B of each visible face.

    Args:
        edge: Which side is crossed; ends: its A, B and C, each along and across the axis.
        face: The face it belongs to; line: d0; place: where, along d1; outward: +1 or -1.
        inner: The last sample inside; size: samples on a line.
    """

    edge: Int64[Tensor, " crossings"]
    ends: Float64[Tensor, "crossings 3 2"]
    face: Int64[Tensor, " crossings"]
    line: Int64[Tensor, " crossings"]
    place: Float64[Tensor, " crossings"]
    outward: Int64[Tensor, " crossings"]
    inner: Int64[Tensor, " crossings"]
    size: int

    @staticmethod
    def find(
        places: Float64[Tensor, "vertices 2"],
        corners: Int64[Tensor, "edges 3"],
        faces: Int64[Tensor, " edges"],
        axis: int,
        size: int,
    ) -> Crossings:
        """Return the crossings of the lines ``d0 = 0 .. size - 1`` that have both neighbours in the image."""
        ends = places[corners][..., [axis, 1 - axis]]
        span = ends[:, :2, 0]
        flat = torch.zeros_like(span[:, :1])
        lower = torch.cat([span.amin(1, keepdim=True) + 0.5, flat], 1)
        upper = torch.cat([span.amax(1, keepdim=True) + 0.5, flat + 1], 1)
        upper[span[:, 0] == span[:, 1]] = -1.0
        edge, _, line = samples_in_boxes(lower, upper, size)
        a, b, c = ends[edge].unbind(1)
        slope = (b[:, 1] - a[:, 1]) / (b[:, 0] - a[:, 0])
        place = a[:, 1] + slope * (line - a[:, 0])
        outward = torch.where(a[:, 1] + slope * (c[:, 0] - a[:, 0]) > c[:, 1], 1, -1)
        inner = torch.where(outward > 0, place.clamp(-9, size + 9).floor(), place.clamp(-9, size + 9).ceil()).long()
        outer = inner + outward
        kept = (inner >= 0) & (inner < size) & (outer >= 0) & (outer < size)
        edge, line, place, outward, inner = edge[kept], line[kept], place[kept], outward[kept], inner[kept]
        return Crossings(edge, ends[edge], faces[edge], line, place, outward, inner, size)

    def regions(self, lines: Int64[Tensor, "n n"]) -> tuple[Bool[Tensor, "crossings n"], Bool[Tensor, "crossings n"]]:
        """Return which samples of its line each crossing may move to: all beyond it, and those of its face behind it.

        Beyond counts only where the last sample inside shows the face.

        Args:
            lines: Nearest face of each sample of each line.
        """
        ids, face = lines[self.line], self.face[:, None]
        d1 = torch.arange(self.size, device=ids.device)[None, :]
        inner, stop = self.inner[:, None], self._far_samples()[:, None]
        shows_face = ids.gather(1, inner) == face
        beyond = shows_face & ((d1 - inner) * self.outward[:, None] > 0)
        within = (ids == face) & (d1 >= torch.minimum(inner, stop)) & (d1 <= torch.maximum(inner, stop))
        return beyond, within

    def pushed(self, amounts: Float64[Tensor, "crossings n"], end: int) -> Float64[Tensor, " crossings"]:
        """Return the gradient of A (``end`` 0) or B (1) along d1 that amounts at the samples of each line make.

        Args:
            amounts: What each sample pushes with, at least 0.
            end: Which end of the side.
        """
        a0, b0 = self.ends[:, 0, 0], self.ends[:, 1, 0]
        lever = b0 - self.line if end == 0 else self.line - a0
        share = torch.where(lever != 0, (b0 - a0) / lever, 0.0)
        d1 = torch.arange(self.size, device=lever.device)[None, :]
        weight = share[:, None] * (d1 - self.place[:, None])
        eps = NMR_EPS * self.size / 2
        pulls = amounts / torch.where(weight > 0, weight + eps, weight - eps)
        return torch.where(lever != 0, -pulls.sum(1), 0.0)

    def _far_samples(self) -> Int64[Tensor, " crossings"]:
        """Return the sample where each line leaves its face on the other side."""
        a, b, c = self.ends.unbind(1)
        by_a = (self.line - a[:, 0]) * (self.line - c[:, 0]) < 0
        from_a = a[:, 1] + (c[:, 1] - a[:, 1]) * ((self.line - a[:, 0]) / (c[:, 0] - a[:, 0]))
        from_b = b[:, 1] + (c[:, 1] - b[:, 1]) * ((self.line - b[:, 0]) / (c[:, 0] - b[:, 0]))
        from_b = torch.where(b[:, 0] != c[:, 0], from_b, self.place)
        far = torch.where(by_a, from_a, from_b).clamp(0, self.size - 1)
        return torch.where(self.outward > 0, far.ceil(), far.floor()).long()


def soft_cover(
    screen: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule, sigma: float
) -> Float[Tensor, "images size size"]:
    """Return ``prod_f (1 - sigmoid(s_f d_f^2 / sigma))``, differentiable (SoftRas, arXiv:1904.01786, eq. 1 and 3).

    ``d_f`` is the distance to the border of a face in half images, ``s_f`` is 1 inside and -1 outside. The soft
    silhouette is 1 minus this.

    Args:
        screen: x and y in samples, and the depth.
        faces: Vertex indices.
        rule: Which faces are drawn.
        sigma: Squared softness, in squared half images.
    """
    found = [_soft_image(points, faces, rule, sigma) for points in screen]
    return torch.stack(found) if found else screen.new_zeros(0, rule.size, rule.size)


def soft_backward(
    screen: Float[Tensor, "images vertices 3"],
    forward: Callable[[Tensor], Tensor],
    grad: Float[Tensor, "images size size"],
) -> Float[Tensor, "images vertices 2"]:
    """Return the gradient of ``1 - forward(screen)`` by x and y, taken by autograd."""
    with torch.enable_grad():
        points = screen.detach().requires_grad_()
        empty = forward(points)
        if not empty.requires_grad:
            return torch.zeros_like(screen[..., :2])
        return -torch.autograd.grad(empty, points, grad)[0][..., :2]


def _soft_image(
    points: Float[Tensor, "vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule, sigma: float
) -> Float[Tensor, "size size"]:
    area = face_areas_on_screen(points.detach().double(), faces, rule)
    faces = faces[area != 0]
    corners = points[faces][..., :2]
    scale = (2.0 / rule.size) ** 2 / sigma
    margin = (SOFT_LIMIT / scale) ** 0.5
    box = corners.detach().double()
    face, row, column = samples_in_boxes(box.amin(1) - margin, box.amax(1) + margin, rule.size)
    p = torch.stack([column + 0.5, row + 0.5], dim=1).to(points)
    squares, turns = [], []
    for k in range(3):
        u, v = corners[face, k], corners[face, (k + 1) % 3]
        along, from_u = v - u, p - u
        length = along.square().sum(1)
        t = ((from_u * along).sum(1) / length.clamp(min=torch.finfo(points.dtype).tiny)).clamp(0, 1)
        squares.append((from_u - t[:, None] * along).square().sum(1))
        turns.append(along[:, 0] * from_u[:, 1] - along[:, 1] * from_u[:, 0])
    square, turn = torch.stack(squares).amin(0), torch.stack(turns).detach()
    inside = (turn >= 0).all(0) | (turn <= 0).all(0)
    kept = inside | (scale * square <= SOFT_LIMIT)
    place = (row * rule.size + column)[kept]
    log_empty = -torch.nn.functional.softplus((torch.where(inside, square, -square) * scale)[kept])
    return points.new_zeros(rule.size**2).index_add(0, place, log_empty).exp().view(rule.size, rule.size)
