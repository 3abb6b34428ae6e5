"""Cameras on a sphere around the origin, as the data sets of single pictures have them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.cameras import Cameras, intrinsic_matrices

# Kato's renderings: 24 views on a ring, 15 degrees apart.
KATO_VIEWS, KATO_DISTANCE, KATO_ELEVATION_DEG, KATO_HALF_ANGLE_DEG = 24, 2.732, 30.0, 15.0
# LSM: the focal length is 1.875 times the size of a picture.
LSM_HALF_ANGLE_DEG = math.degrees(math.atan(16 / 60))


def orbit_eyes(
    distance: float, elevation_deg: Sequence[float], azimuth_deg: Sequence[float]
) -> Float[Tensor, "views 3"]:
    """Return ``d (cos e cos a, sin e, cos e sin a)``, y up, in float64.

    Args:
        distance: From the origin.
        elevation_deg: Above the horizon, one a view.
        azimuth_deg: From +x towards +z, one a view.
    """
    e, a = torch.tensor([list(elevation_deg), list(azimuth_deg)], dtype=torch.float64).deg2rad()
    return distance * torch.stack([e.cos() * a.cos(), e.sin(), e.cos() * a.sin()], dim=1)


def cameras_around(eyes: Float[Tensor, "views 3"], size: int, half_angle_deg: float) -> Cameras:
    """Return cameras that look at the origin, y up; straight up or down, z is.

    ``f = size / (2 tan(half_angle))``, and the middle of the image is the principal point.

    Args:
        eyes: Optical centres.
        size: Pixels along each side of the square images.
        half_angle_deg: Half the field of view.

    Raises:
        ValueError: if an eye is the origin.
    """
    check_range("half_angle_deg", half_angle_deg, 1e-3, 89.0)
    if not bool((eyes.norm(dim=1) > 0).all()):
        raise ValueError("eyes must not be the origin, at which the cameras look.")
    forward = torch.nn.functional.normalize(-eyes, dim=1)
    is_steep = forward[:, 1:2].abs() > 1 - 1e-6
    up = torch.where(is_steep, eyes.new_tensor([0.0, 0.0, 1.0]), eyes.new_tensor([0.0, 1.0, 0.0]))
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=1)
    pose = torch.stack([right, torch.linalg.cross(forward, right), forward, eyes], dim=2)
    focal = torch.full_like(eyes[:, 0], size / (2 * math.tan(math.radians(half_angle_deg))))
    middle = torch.full_like(focal, size / 2)
    return Cameras(pose, intrinsic_matrices(focal, focal, middle, middle), torch.full((len(eyes), 2), size))


def kato_ring(size: int = 64) -> Cameras:
    """Return the 24 cameras of Kato's ShapeNet renderings: view k at azimuth 15 k, elevation 30, distance 2.732."""
    azimuths = [360.0 * k / KATO_VIEWS for k in range(KATO_VIEWS)]
    eyes = orbit_eyes(KATO_DISTANCE, [KATO_ELEVATION_DEG] * KATO_VIEWS, azimuths)
    return cameras_around(eyes, size, KATO_HALF_ANGLE_DEG)
