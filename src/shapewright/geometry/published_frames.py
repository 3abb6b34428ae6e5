"""From the frames of published data sets, some of them left-handed, to the right-handed world: nowhere else."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shapewright.checks import check_shape

Frame = Literal["kato", "lsm", "vpl", "pascal3d"]

# The published renderer has x = normalize(up x z), y = z x x, z forward: it mirrors the world, and these mirror back.
WORLD_FROM_FRAME: dict[str, tuple[tuple[int, int, int], ...]] = {
    "kato": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "lsm": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "vpl": ((1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "pascal3d": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
}


def world_from_frame(frame: Frame) -> Float[Tensor, "3 3"]:
    """Return the matrix that takes vectors of a published frame to the world, in float64; it is its own inverse."""
    return torch.tensor(WORLD_FROM_FRAME[frame], dtype=torch.float64)


def mesh_from_frame(
    vertices: Float[Tensor, "vertices 3"], faces: Int[Tensor, "faces 3"], frame: Frame
) -> tuple[Float[Tensor, "vertices 3"], Int[Tensor, "faces 3"]]:
    """Return a mesh of a published frame in the world; where that frame is mirrored, faces are wound the other way.

    The same call takes a mesh of the world to the published frame.

    Args:
        vertices: In the published frame.
        faces: Counter-clockwise from outside, as that frame draws them.
        frame: Whose frame it is.
    """
    A = world_from_frame(frame).to(vertices)
    is_mirror = bool(torch.linalg.det(A) < 0)
    return vertices @ A.T, faces.flip(1) if is_mirror else faces


def eye_of_view(
    distance: Float[Tensor, " n"], elevation_deg: Float[Tensor, " n"], azimuth_deg: Float[Tensor, " n"]
) -> Float[Tensor, "n 3"]:
    """Return where a camera of the LSM pictures stood: ``d (cos e cos a, sin e, -cos e sin a)``.

    Args:
        distance: From the origin.
        elevation_deg: Above the horizon.
        azimuth_deg: As ``view.txt`` and the packed files have it: from +x towards -z of the world.
    """
    e, a = elevation_deg.deg2rad(), azimuth_deg.deg2rad()
    return distance[:, None] * torch.stack([e.cos() * a.cos(), e.sin(), -e.cos() * a.sin()], dim=1)


def orthographic_pose(rotation: Float[Tensor, "n 3 3"]) -> Float[Tensor, "n 3 4"]:
    """Return ``world_from_camera`` of Pascal3D+'s rotations from object to camera.

    Published: ``v' = diag(-1, 1, 1) R v + (0, 0, 1 + 1e-5)`` with y up, and the image half a picture a unit. In axes x
    right, y down, z forward that is ``diag(-1, -1, 1) R``, a rotation: this camera mirrors nothing.

    Args:
        rotation: R of each picture.
    """
    check_shape("rotation", rotation, (None, 3, 3))
    camera_from_world = rotation.new_tensor([-1.0, -1.0, 1.0])[:, None] * rotation
    world_from_camera = camera_from_world.transpose(1, 2)
    # The eye is where the depth is none: one unit and a bit before the origin.
    eye = -(1 + 1e-5) * world_from_camera[:, :, 2]
    return torch.cat([world_from_camera, eye[:, :, None]], dim=2)
