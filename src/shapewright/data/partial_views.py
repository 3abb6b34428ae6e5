"""Half scans made from meshes: what one camera sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from shapewright.checks import check_range
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.free_space import DepthView, PartialScan
from shapewright.geometry.mesh import Mesh, face_cross_products
from shapewright.geometry.ray_casting import RayCaster


@dataclass(frozen=True, kw_only=True)
class ScanView:
    """Describe the camera of a made-up scan; it looks at the origin, and its picture holds the unit sphere.

    Args:
        azimuth_deg: Around the y axis (up): 0 looks from +z, 90 from +x.
        elevation_deg: Above the horizon, in (-90, 90).
        distance: Of the camera from the origin, above 1.
        size_px: Width and height of the picture.
        depth_noise: Standard deviation of the error along the rays, in world units.
    """

    azimuth_deg: float = 0.0
    elevation_deg: float = 30.0
    distance: float = 3.0
    size_px: int = 256
    depth_noise: float = 0.0

    def camera(self) -> Cameras:
        """Return the camera.

        Raises:
            ValueError: if it stands inside the unit sphere or above a pole.
        """
        if not self.distance > 1:
            raise ValueError(f"distance must exceed 1, got {self.distance}.")
        check_range("elevation_deg", self.elevation_deg, -89.0, 89.0)
        azimuth, elevation = math.radians(self.azimuth_deg), math.radians(self.elevation_deg)
        level = math.cos(elevation)
        eye = torch.tensor([[level * math.sin(azimuth), math.sin(elevation), level * math.cos(azimuth)]])
        fov_deg = 2.0 * math.degrees(math.asin(1.0 / self.distance))
        up = torch.tensor([0.0, 1.0, 0.0])
        sizes = torch.tensor([[self.size_px, self.size_px]])
        return Cameras.from_look_at(self.distance * eye, torch.zeros(3), up, fov_deg, sizes)


def front_view_scan(
    mesh: Mesh, view: ScanView, num_points: int = 5000, generator: torch.Generator | None = None
) -> PartialScan:
    """Return what one camera sees of a mesh: points, normals turned to it, and the lengths of all rays.

    Args:
        mesh: Shape inside the unit sphere.
        view: The camera.
        num_points: How many of the pixels that hit become points; all of them if there are fewer.
        generator: Source of randomness for the choice and the noise; ``None`` starts one at seed 0.

    Raises:
        UserError: if no ray hits the mesh.
    """
    source = torch.Generator().manual_seed(0) if generator is None else generator
    camera = view.camera()
    origins, directions = camera.image_rays(0)
    face, length = RayCaster(mesh).first_hit(origins, directions)
    hit = (face >= 0).nonzero()[:, 0]
    if not len(hit):
        raise UserError(
            "The camera of the scan sees nothing of the mesh.", "Normalise the mesh to the unit sphere first."
        )
    noise = view.depth_noise * torch.randn(len(hit), generator=source)
    length[hit] = (length[hit] + noise).clamp(min=1e-6)
    chosen = hit[torch.randperm(len(hit), generator=source)[:num_points].sort().values]
    points = origins[chosen] + length[chosen, None] * directions[chosen]
    normals = torch.nn.functional.normalize(face_cross_products(mesh)[face[chosen]].to(points), dim=-1)
    away = (normals * directions[chosen]).sum(-1, keepdim=True) > 0
    size = (view.size_px, view.size_px)
    return PartialScan(
        points, torch.where(away, -normals, normals), camera.centers[0], DepthView(camera, length.reshape(size))
    )
