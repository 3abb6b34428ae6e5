"""From where a mesh looks like its picture: the pose is not predicted, so it is searched for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_range, check_shape
from shapewright.data.picture_sets import PictureViews, near_of, project_to
from shapewright.geometry.orbit import KATO_DISTANCE, KATO_HALF_ANGLE_DEG, cameras_around, orbit_eyes
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

AZIMUTHS_DEG = tuple(15.0 * k for k in range(24))
ELEVATIONS_DEG = (-15.0, 0.0, 15.0, 30.0, 45.0)
VIEWS_PER_CHUNK = 24


@dataclass(frozen=True)
class OrbitRig:
    """Hold how far away the cameras around an object stand, and how much they see.

    Args:
        distance: From the origin.
        half_angle_deg: Half the field of view; None: orthographic, half a picture a unit.
    """

    distance: float = KATO_DISTANCE
    half_angle_deg: float | None = KATO_HALF_ANGLE_DEG

    def __post_init__(self) -> None:
        check_range("distance", self.distance, 1e-6)
        if self.half_angle_deg is not None:
            check_range("half_angle_deg", self.half_angle_deg, 1e-3, 89.0)

    @classmethod
    def of(cls, views: PictureViews) -> OrbitRig:
        """Return the rig of a picture set; the mean distance if it has several."""
        return cls(float(views.world_from_camera[..., 3].double().norm(dim=-1).mean()), views.half_angle_deg)

    def poses(self, azimuths_deg: Sequence[float], elevations_deg: Sequence[float]) -> Float[Tensor, "views 3 4"]:
        """Return ``world_from_camera`` of cameras that look at the origin, one a pair of angles."""
        eyes = orbit_eyes(self.distance, elevations_deg, azimuths_deg)
        # Poses depend on neither the size nor the lens.
        return cameras_around(eyes, 1, KATO_HALF_ANGLE_DEG).world_from_camera


@dataclass(frozen=True)
class FoundPose:
    """Hold the pose from which a mesh looks most like a mask.

    Args:
        azimuth_deg: From +x towards +z.
        elevation_deg: Above the horizon.
        iou: Of the mesh's silhouette and the mask, in [0, 1].
        world_from_camera: The camera.
    """

    azimuth_deg: float
    elevation_deg: float
    iou: float
    world_from_camera: Float[Tensor, "3 4"]


def search_pose(
    vertices: Float[Tensor, "vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    mask: Float[Tensor, "size size"],
    rig: OrbitRig | None = None,
    elevations_deg: Sequence[float] = ELEVATIONS_DEG,
) -> FoundPose:
    """Return the pose, of 24 azimuths and some elevations, whose silhouette has the highest IoU with a mask.

    A shape that looks alike from several sides gets the first of them; the IoU says how far to trust it.

    Args:
        vertices: In the object's frame.
        faces: Vertex indices.
        mask: Of a square picture framed as the rig sees objects, in [0, 1]; the object is where it exceeds one half.
        rig: Where the cameras stand; that of Kato's renderings if not given.
        elevations_deg: Elevations tried.

    Raises:
        ValueError: if a shape does not fit, or the mask is empty.
    """
    check_shape("mask", mask, (None, mask.shape[0]))
    check_range("elevations", len(elevations_deg), 1)
    rig = rig or OrbitRig()
    target = mask.to(vertices.device) > 0.5
    if not bool(target.any()):
        raise ValueError("The mask is empty: there is nothing to compare silhouettes with.")
    angles = [(azimuth, elevation) for elevation in elevations_deg for azimuth in AZIMUTHS_DEG]
    poses = rig.poses(*zip(*angles, strict=True))
    style = SilhouetteStyle(near=near_of(rig.half_angle_deg))
    values = []
    with torch.no_grad():
        for chunk in poses.split(VIEWS_PER_CHUNK):
            screen = project_to(vertices.expand(len(chunk), -1, -1), chunk, rig.half_angle_deg, len(mask))
            seen = silhouette(screen, faces, len(mask), style) > 0.5
            values.append((seen & target).sum(dim=(1, 2)) / (seen | target).sum(dim=(1, 2)))
    iou, best = torch.cat(values).max(dim=0)
    return FoundPose(*angles[int(best)], float(iou), poses[int(best)].to(vertices))
