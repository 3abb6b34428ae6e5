"""The Neural Mesh Renderer's gradient in Warp; formulas in ``reference/nmr_pictures.py``.

One thread for each image, face, side and axis. A silhouette is a picture whose only channel is its mask.
"""

import torch
import warp as wp
from jaxtyping import Float, Float64, Int32, Int64
from torch import Tensor

from shapewright.kernels.reference.nmr_pictures import mask_as_picture
from shapewright.kernels.reference.rasterizer import RasterRule
from shapewright.kernels.reference.silhouettes import NMR_EPS
from shapewright.kernels.warp.device import launch
from shapewright.kernels.warp.rasterizer import face_area

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

EPS_OF_HALF = wp.constant(wp.float64(NMR_EPS))
NO_NEAR = wp.constant(wp.float64(-1e300))
ZERO = wp.constant(wp.float64(0.0))
HALF = wp.constant(wp.float64(0.5))
ONE = wp.constant(wp.float64(1.0))


@wp.func
def id_at(ids: wp.array3d(dtype=wp.int32), image: wp.int32, axis: wp.int32, d0: wp.int32, d1: wp.int32) -> wp.int32:
    """Return the face at the place d1 of the line d0: a column for axis 0, a row for axis 1."""
    return ids[image, wp.where(axis == 0, d1, d0), wp.where(axis == 0, d0, d1)]


@wp.func
def gain(
    colors: wp.array4d(dtype=wp.float64), slopes: wp.array4d(dtype=wp.float64), image: wp.int32, axis: wp.int32,
    d0: wp.int32, d1: wp.int32, other: wp.int32,
) -> wp.float64:  # fmt: skip
    """Return what the loss gains if the sample d1 of a line shows what the sample ``other`` does; at least 0."""
    row, column = wp.where(axis == 0, d1, d0), wp.where(axis == 0, d0, d1)
    other_row, other_column = wp.where(axis == 0, other, d0), wp.where(axis == 0, d0, other)
    total = wp.float64(0.0)
    for c in range(colors.shape[3]):
        difference = colors[image, row, column, c] - colors[image, other_row, other_column, c]
        total += difference * slopes[image, row, column, c]
    return wp.max(total, ZERO)


@wp.func
def push(share: wp.float64, distance: wp.float64, eps: wp.float64) -> wp.float64:
    """Return by how much a wish at a distance from a crossing moves an end of the edge; never infinite."""
    weight = share * distance
    return ONE / wp.where(weight > ZERO, weight + eps, weight - eps)


@wp.func
def far_end(
    a0: wp.float64, a1: wp.float64, b0: wp.float64, b1: wp.float64, c0: wp.float64, c1: wp.float64, d0: wp.float64,
    crossing: wp.float64,
) -> wp.float64:  # fmt: skip
    """Return where the line ``d0`` leaves the face on the other side of the edge A-B."""
    if (d0 - a0) * (d0 - c0) < ZERO:
        return a1 + (c1 - a1) * ((d0 - a0) / (c0 - a0))
    if b0 != c0:
        return b1 + (c1 - b1) * ((d0 - b0) / (c0 - b0))
    return crossing


@wp.kernel
def nmr_kernel(
    screen: wp.array3d(dtype=wp.float64),
    faces: wp.array2d(dtype=wp.int32),
    ids: wp.array3d(dtype=wp.int32),
    colors: wp.array4d(dtype=wp.float64),
    slopes: wp.array4d(dtype=wp.float64),
    by_screen: wp.array3d(dtype=wp.float64),
) -> None:
    """Add the gradient along one axis of both ends of one side of a face."""
    image, f, k = wp.tid()
    axis, other = k % 2, 1 - k % 2
    a, b, c = faces[f, k // 2], faces[f, (k // 2 + 1) % 3], faces[f, (k // 2 + 2) % 3]
    if face_area(screen, image, a, b, c, NO_NEAR) == ZERO:
        return
    a0, a1 = screen[image, a, axis] - HALF, screen[image, a, other] - HALF
    b0, b1 = screen[image, b, axis] - HALF, screen[image, b, other] - HALF
    c0, c1 = screen[image, c, axis] - HALF, screen[image, c, other] - HALF
    if a0 == b0:
        return
    n = ids.shape[1]
    end = wp.float64(n)
    eps = EPS_OF_HALF * end / wp.float64(2.0)
    slope = (b1 - a1) / (b0 - a0)
    outward = wp.where(a1 + slope * (c0 - a0) > c1, 1, -1)
    first = wp.int32(wp.ceil(wp.min(wp.max(wp.min(a0, b0), ZERO), end)))
    last = wp.int32(wp.floor(wp.max(wp.min(wp.max(a0, b0), end - ONE), -ONE)))
    by_a, by_b = wp.float64(0.0), wp.float64(0.0)
    for d0 in range(first, last + 1):
        line = wp.float64(d0)
        crossing = wp.clamp(a1 + slope * (line - a0), -ONE, end)
        inner = wp.int32(wp.where(outward > 0, wp.floor(crossing), wp.ceil(crossing)))
        outer = inner + outward
        if inner >= 0 and inner < n and outer >= 0 and outer < n:
            share_a, share_b = wp.float64(0.0), wp.float64(0.0)
            if b0 != line:
                share_a = (b0 - a0) / (b0 - line)
            if a0 != line:
                share_b = (b0 - a0) / (line - a0)
            sum_a, sum_b = wp.float64(0.0), wp.float64(0.0)
            if id_at(ids, image, axis, d0, inner) == f:
                for d1 in range(wp.where(outward > 0, outer, 0), wp.where(outward > 0, n, outer + 1)):
                    amount = gain(colors, slopes, image, axis, d0, d1, inner)
                    sum_a += amount * push(share_a, wp.float64(d1) - crossing, eps)
                    sum_b += amount * push(share_b, wp.float64(d1) - crossing, eps)
            far = wp.clamp(far_end(a0, a1, b0, b1, c0, c1, line, crossing), ZERO, end - ONE)
            stop = wp.int32(wp.where(outward > 0, wp.ceil(far), wp.floor(far)))
            for d1 in range(wp.min(inner, stop), wp.max(inner, stop) + 1):
                if id_at(ids, image, axis, d0, d1) == f:
                    amount = gain(colors, slopes, image, axis, d0, d1, outer)
                    sum_a += amount * push(share_a, wp.float64(d1) - crossing, eps)
                    sum_b += amount * push(share_b, wp.float64(d1) - crossing, eps)
            if b0 != line:
                by_a -= sum_a
            if a0 != line:
                by_b -= sum_b
    if by_a != ZERO:
        wp.atomic_add(by_screen, image, a, other, by_a)
    if by_b != ZERO:
        wp.atomic_add(by_screen, image, b, other, by_b)


def nmr_pictures_backward(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    ids: Int32[Tensor, "images n n"],
    picture: Float[Tensor, "images n n channels"],
    grad: Float[Tensor, "images n n channels"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient by x and y of vertices."""
    by_screen = torch.zeros(*screen.shape[:2], 2, dtype=torch.float64, device=screen.device)
    arrays = [part.detach().double().contiguous() for part in (screen, picture, grad)]
    arguments = arrays[0], faces.int().contiguous(), ids.contiguous(), *arrays[1:], by_screen
    launch(nmr_kernel, (len(screen), len(faces), 6), arguments, screen.device)
    return by_screen


def nmr_backward(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    rule: RasterRule,
    ids: Int32[Tensor, "images samples samples"],
    grad: Float[Tensor, "images size size"],
) -> Float64[Tensor, "images vertices 2"]:
    """Return the gradient of silhouettes by x and y of vertices."""
    return nmr_pictures_backward(screen, faces, ids, *mask_as_picture(rule, ids, grad))
