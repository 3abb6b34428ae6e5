"""Hard rasterisation and the gradients of silhouettes in Warp; formulas in ``reference/{rasterizer,silhouettes}.py``.

One thread for each image and face, and for outlines each image and edge. The nearest face is the minimum of a key,
whatever the order of threads; gradients are atomic additions, whose last digits depend on it. Products and sums are
not fused: faces are the reference's, sample by sample.
"""

import torch
import warp as wp
from jaxtyping import Bool, Float, Float32, Float64, Int32, Int64
from torch import Tensor

from shapewright.kernels.reference.rasterizer import NO_FACE, RasterRule, unpack_keys
from shapewright.kernels.reference.silhouettes import LONGEST_EDGE
from shapewright.kernels.warp.device import launch

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

LEAST_AREA = wp.constant(wp.float64(1e-12))
LONGEST = wp.constant(wp.float64(LONGEST_EDGE))
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))


@wp.func
def turn(screen: wp.array3d(dtype=wp.float64), image: wp.int32, a: wp.int32, b: wp.int32, c: wp.int32) -> wp.float64:
    """Return twice the signed area of a triangle on the screen."""
    ax, ay = screen[image, a, 0], screen[image, a, 1]
    return (screen[image, b, 0] - ax) * (screen[image, c, 1] - ay) - (screen[image, b, 1] - ay) * (
        screen[image, c, 0] - ax
    )


@wp.func
def face_area(
    screen: wp.array3d(dtype=wp.float64), image: wp.int32, a: wp.int32, b: wp.int32, c: wp.int32, near: wp.float64
) -> wp.float64:
    """Return twice the signed area of a face on the screen, or 0 if it is not to be drawn."""
    za, zb, zc = screen[image, a, 2], screen[image, b, 2], screen[image, c, 2]
    if not (za >= near and zb >= near and zc >= near and wp.isfinite(za) and wp.isfinite(zb) and wp.isfinite(zc)):
        return ZERO
    area = turn(screen, image, a, b, c)
    # A NaN fails the first comparison, an overflow the second.
    if wp.abs(area) > LEAST_AREA and wp.isfinite(area):
        return area
    return ZERO


@wp.func
def first_sample(low: wp.float64, n: wp.int32) -> wp.int32:
    """Return the first sample whose centre is at least ``low``, at most ``n``."""
    return wp.int32(wp.ceil(wp.min(wp.max(low - HALF, ZERO), wp.float64(n))))


@wp.func
def last_sample(high: wp.float64, n: wp.int32) -> wp.int32:
    """Return the last sample whose centre is at most ``high``, at least -1."""
    return wp.int32(wp.floor(wp.max(wp.min(high - HALF, wp.float64(n - 1)), -ONE)))


@wp.func
def owns_border(dx: wp.float64, dy: wp.float64) -> wp.int32:
    """Return 1 for a left or a top side."""
    return wp.where(dy < ZERO or (dy == ZERO and dx > ZERO), 1, 0)


@wp.func
def is_within(edge: wp.float64, owns: wp.int32) -> wp.int32:
    """Return 1 for a sample on the inner side of an edge, or on an edge that owns its samples."""
    return wp.where(edge > ZERO or (edge == ZERO and owns != 0), 1, 0)


@wp.func
def depth_weight(z: wp.float64, area: wp.float64, is_parallel: wp.int32) -> wp.float64:
    """Return what an edge function is multiplied by in the depth, or in its inverse."""
    if is_parallel != 0:
        return z / area
    return ONE / (area * z)


@wp.func
def depth_key(depth: wp.float64, face: wp.int32) -> wp.int64:
    """Return a number that sorts by depth, rounded to float32, and then by face."""
    bits = wp.cast(wp.float32(depth), wp.int32)
    if bits < 0:
        bits = bits ^ 0x7FFFFFFF
    return (wp.int64(bits) << wp.int64(32)) | wp.int64(face)


@wp.kernel
def rasterize_kernel(
    screen: wp.array3d(dtype=wp.float64),
    faces: wp.array2d(dtype=wp.int32),
    near: wp.float64,
    is_parallel: wp.int32,
    culls: wp.int32,
    needs_ids: wp.int32,
    keys: wp.array3d(dtype=wp.int64),
    mask: wp.array3d(dtype=wp.uint8),
) -> None:
    """Lower the key of each sample of a face, or only mark the sample."""
    image, f = wp.tid()
    area = face_area(screen, image, faces[f, 0], faces[f, 1], faces[f, 2], near)
    if area == ZERO or (culls != 0 and area > ZERO):
        return
    a = faces[f, 0]
    b, c = faces[f, wp.where(area > ZERO, 1, 2)], faces[f, wp.where(area > ZERO, 2, 1)]
    area = wp.abs(area)
    ax, ay, bx, by = screen[image, a, 0], screen[image, a, 1], screen[image, b, 0], screen[image, b, 1]
    cx, cy = screen[image, c, 0], screen[image, c, 1]
    wa = depth_weight(screen[image, a, 2], area, is_parallel)
    wb = depth_weight(screen[image, b, 2], area, is_parallel)
    wc = depth_weight(screen[image, c, 2], area, is_parallel)
    border_a, border_b = owns_border(cx - bx, cy - by), owns_border(ax - cx, ay - cy)
    border_c = owns_border(bx - ax, by - ay)
    n = wp.where(needs_ids != 0, keys.shape[1], mask.shape[1])
    left, right = first_sample(wp.min(ax, wp.min(bx, cx)), n), last_sample(wp.max(ax, wp.max(bx, cx)), n)
    top, bottom = first_sample(wp.min(ay, wp.min(by, cy)), n), last_sample(wp.max(ay, wp.max(by, cy)), n)
    for i in range(top, bottom + 1):
        y = wp.float64(i) + HALF
        for j in range(left, right + 1):
            x = wp.float64(j) + HALF
            ea = (cx - bx) * (y - by) - (cy - by) * (x - bx)
            eb = (ax - cx) * (y - cy) - (ay - cy) * (x - cx)
            ec = (bx - ax) * (y - ay) - (by - ay) * (x - ax)
            if is_within(ea, border_a) != 0 and is_within(eb, border_b) != 0 and is_within(ec, border_c) != 0:
                if needs_ids == 0:
                    mask[image, i, j] = wp.uint8(1)
                else:
                    z = ea * wa + eb * wb + ec * wc
                    if is_parallel == 0:
                        z = ONE / z
                    key = depth_key(z, f)
                    if key < keys[image, i, j]:
                        wp.atomic_min(keys, image, i, j, key)


@wp.func
def outline_side(
    screen: wp.array3d(dtype=wp.float64), edges: wp.array2d(dtype=wp.int32), image: wp.int32, e: wp.int32,
    near: wp.float64,
) -> wp.float64:  # fmt: skip
    """Return which side of an edge its faces lie on, if they lie on one side; otherwise 0."""
    a, b, d = edges[e, 0], edges[e, 1], edges[e, 3]
    side_c = face_area(screen, image, a, b, edges[e, 2], near)
    side_d = ZERO
    if d >= 0:
        side_d = face_area(screen, image, a, b, d, near)
    if side_c * side_d < ZERO:
        return ZERO
    return wp.where(wp.abs(side_c) > wp.abs(side_d), side_c, side_d)


@wp.func
def look(mask: wp.array3d(dtype=wp.uint8), image: wp.int32, x: wp.float64, y: wp.float64) -> wp.int32:
    """Return 1 on a covered sample, 0 on an empty one, and -1 outside the image."""
    end = wp.float64(mask.shape[1])
    if not (x >= ZERO and y >= ZERO and x < end and y < end):
        return -1
    return wp.where(mask[image, wp.int32(y), wp.int32(x)] != wp.uint8(0), 1, 0)


@wp.func
def reached(
    mask: wp.array3d(dtype=wp.uint8), grad: wp.array3d(dtype=wp.float64), image: wp.int32, x: wp.float64,
    y: wp.float64, step_x: wp.float64, step_y: wp.float64, steps: wp.int32,
) -> wp.float64:  # fmt: skip
    """Return what the outline at (x, y) gathers outwards from empty samples and inwards from covered ones."""
    supersample = mask.shape[1] // grad.shape[1]
    total = wp.float64(0.0)
    for side in range(2):
        sign = wp.where(side == 0, ONE, -ONE)
        for r in range(1, steps + 1):
            u, v = x + sign * wp.float64(r) * step_x, y + sign * wp.float64(r) * step_y
            if look(mask, image, u, v) != side:
                break
            slope = grad[image, wp.int32(v) // supersample, wp.int32(u) // supersample]
            if side == 0:
                total += wp.min(ZERO, slope) / wp.float64(r)
            else:
                total += wp.max(ZERO, slope) / wp.float64(r)
    return total


@wp.kernel
def outline_kernel(
    screen: wp.array3d(dtype=wp.float64),
    edges: wp.array2d(dtype=wp.int32),
    near: wp.float64,
    mask: wp.array3d(dtype=wp.uint8),
    grad: wp.array3d(dtype=wp.float64),
    steps: wp.int32,
    by_screen: wp.array3d(dtype=wp.float64),
) -> None:
    """Add the gradient of both ends of one edge of the outline."""
    image, e = wp.tid()
    side = outline_side(screen, edges, image, e, near)
    if side == ZERO:
        return
    supersample = mask.shape[1] // grad.shape[1]
    a, b = edges[e, 0], edges[e, 1]
    ax, ay = screen[image, a, 0], screen[image, a, 1]
    dx, dy = screen[image, b, 0] - ax, screen[image, b, 1] - ay
    length = wp.sqrt(dx * dx + dy * dy)
    if not (length > ZERO and length < LONGEST):
        return
    # Away from the faces.
    nx, ny = wp.where(side > ZERO, dy, -dy) / length, wp.where(side > ZERO, -dx, dx) / length
    parts = wp.int32(wp.ceil(length))
    share = length / wp.float64(parts) / wp.float64(supersample * supersample)
    at_a, at_b = wp.float64(0.0), wp.float64(0.0)
    for k in range(parts):
        t = (wp.float64(k) + HALF) / wp.float64(parts)
        x, y = ax + t * dx, ay + t * dy
        if look(mask, image, x, y) >= 0 and look(mask, image, x + nx, y + ny) < 1:
            total = grad[image, wp.int32(y) // supersample, wp.int32(x) // supersample]
            if steps > 0:
                scale = wp.float64(supersample)
                total += reached(mask, grad, image, x, y, scale * nx, scale * ny, steps)
            at_a += (ONE - t) * total * share
            at_b += t * total * share
    if at_a != ZERO or at_b != ZERO:
        wp.atomic_add(by_screen, image, a, 0, at_a * nx)
        wp.atomic_add(by_screen, image, a, 1, at_a * ny)
        wp.atomic_add(by_screen, image, b, 0, at_b * nx)
        wp.atomic_add(by_screen, image, b, 1, at_b * ny)


def rasterize(
    screen: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> tuple[Int32[Tensor, "images size size"], Float32[Tensor, "images size size"]]:
    """Return the nearest face of each sample (-1: none) and its depth (infinite: none)."""
    shape = len(screen), rule.size, rule.size
    keys = torch.full(shape, NO_FACE, dtype=torch.int64, device=screen.device)
    _launch_faces(screen, faces, rule, (1, keys, keys.new_zeros(1, 1, 1, dtype=torch.uint8)))
    return unpack_keys(keys)


def cover(
    screen: Float[Tensor, "images vertices 3"], faces: Int64[Tensor, "faces 3"], rule: RasterRule
) -> Bool[Tensor, "images size size"]:
    """Return which samples a face covers."""
    mask = torch.zeros(len(screen), rule.size, rule.size, dtype=torch.uint8, device=screen.device)
    both_sides = RasterRule(rule.size, rule.near)
    _launch_faces(screen, faces, both_sides, (0, mask.new_zeros(1, 1, 1, dtype=torch.int64), mask))
    return mask.view(torch.bool)


def outline_backward(
    screen: Float[Tensor, "images vertices 3"],
    edges: Int64[Tensor, "edges 4"],
    rule: RasterRule,
    mask: Bool[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
    steps: int,
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient that acts on the outline."""
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64, device=screen.device)
    covered = mask.contiguous().view(torch.uint8)
    arguments = _double(screen), edges.int().contiguous(), rule.least_depth, covered, _double(grad), steps, by_screen
    launch(outline_kernel, (len(screen), len(edges)), arguments, screen.device)
    return by_screen


def _launch_faces(screen: Tensor, faces: Tensor, rule: RasterRule, outputs: tuple[int, Tensor, Tensor]) -> None:
    options = rule.least_depth, int(rule.is_parallel), int(rule.culls_back)
    arguments = _double(screen), faces.int().contiguous(), *options, *outputs
    launch(rasterize_kernel, (len(screen), len(faces)), arguments, screen.device)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().double().contiguous()
