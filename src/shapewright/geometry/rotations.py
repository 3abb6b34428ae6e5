"""Conversions between rotation matrices, unit quaternions and axis-angle vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def matrix_from_quaternion(
    quaternion: Float[Tensor, "*batch 4"],
) -> Float[Tensor, "*batch 3 3"]:
    """Return the rotation matrix of a quaternion (w, x, y, z), normalised at use.

    Raises:
        ValueError: if a quaternion is zero or not finite.
    """
    norm = quaternion.norm(dim=-1, keepdim=True)
    if not bool(((norm > 0) & norm.isfinite()).all()):
        raise ValueError("quaternion must be finite and different from zero.")
    w, x, y, z = (quaternion / norm).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, -2)


def quaternion_from_matrix(
    rotation: Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch 4"]:
    """Return the unit quaternion (w, x, y, z) of a rotation matrix, with w >= 0.

    Each of the four rows below is the quaternion times four times one of its
    components; the row of the largest component is used, so that nothing
    divides by zero at a trace of -1 (the one-branch form of IDR does).
    """
    m = rotation
    m00, m11, m22 = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    sum01, sum02, sum12 = (m[..., i, j] + m[..., j, i] for i, j in ((0, 1), (0, 2), (1, 2)))
    x4w, y4w, z4w = (m[..., i, j] - m[..., j, i] for i, j in ((2, 1), (0, 2), (1, 0)))
    candidates = torch.stack(
        [
            torch.stack([1 + m00 + m11 + m22, x4w, y4w, z4w], -1),
            torch.stack([x4w, 1 + m00 - m11 - m22, sum01, sum02], -1),
            torch.stack([y4w, sum01, 1 - m00 + m11 - m22, sum12], -1),
            torch.stack([z4w, sum02, sum12, 1 - m00 - m11 + m22], -1),
        ],
        -2,
    )
    largest = candidates.diagonal(dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    quaternion = torch.nn.functional.normalize(candidates.gather(-2, index).squeeze(-2), dim=-1)
    return torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)


def matrix_from_axis_angle(
    axis_angle: Float[Tensor, "*batch 3"],
) -> Float[Tensor, "*batch 3 3"]:
    """Return exp of the skew matrix of ``axis_angle`` (radians times unit axis).

    The matrix exponential stays differentiable at zero, where camera
    refinement starts, and needs no series near it.
    """
    x, y, z = axis_angle.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1)
    return torch.linalg.matrix_exp(skew.unflatten(-1, (3, 3)))


def rotation_angle_deg(a: Float[Tensor, "*batch 3 3"], b: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Return the angle of the rotation between ``a`` and ``b``, in degrees.

    ``|a - b|_F = 2 sqrt(2) sin(angle / 2)`` keeps its precision at small
    angles, where the arc cosine of the trace does not.
    """
    chord = (a - b).flatten(-2).norm(dim=-1) / (2.0 * 2.0**0.5)
    return torch.rad2deg(2.0 * torch.asin(chord.clamp(max=1.0)))
