"""From where a picture of a mesh is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from shapewright.checks import check_range

# Where the eye stands without perspective, in radii of the picture.
ORTHOGRAPHIC_DISTANCE = 8.0


@dataclass(frozen=True)
class MeshView:
    """Say from where a mesh is looked at, and how large the picture is.

    Args:
        azimuth_deg: Direction of the camera around the vertical: 0 looks at the front (the side of +z, or of -y if z
            is up), 90 at the side of +x.
        elevation_deg: Height of the camera above the horizon, -90 to 90.
        size_px: Width and height.
        field_of_view_deg: Opening of the lens; 20 is a long lens, 0 draws without perspective.
        center: Point in the middle of the picture; the middle of the mesh's box if not given.
        radius: Radius around it that just fits into the picture; that of the mesh if not given. Give both to draw
            several meshes at one scale.
        up: The axis that is vertical.
    """

    azimuth_deg: float = 30.0
    elevation_deg: float = 20.0
    size_px: int = 256
    field_of_view_deg: float = 20.0
    center: tuple[float, float, float] | None = None
    radius: float | None = None
    up: Literal["y", "z"] = "y"

    def __post_init__(self) -> None:
        check_range("elevation_deg", self.elevation_deg, -90.0, 90.0)
        check_range("size_px", self.size_px, 1, 8192)
        check_range("field_of_view_deg", self.field_of_view_deg, 0.0, 120.0)
        if self.radius is not None and not 0 < self.radius < math.inf:
            raise ValueError(f"radius must be positive, got {self.radius}.")


@dataclass(frozen=True)
class PictureCamera:
    """Hold a camera at the origin of its own space: right, up, backwards; the fitted sphere has radius 1 there."""

    axes: Float[np.ndarray, "3 3"]  # rows: right, up, backwards, in the mesh's space
    distance: float  # from the eye to the centre
    half_width: float  # of the picture: at distance 1 with perspective, everywhere without
    perspective: bool
    side: int  # of the supersampled picture
    size_px: int
    center: Float[np.ndarray, " 3"]
    radius: float

    @classmethod
    def of(cls, view: MeshView, supersampling: int, margin: float) -> PictureCamera:
        """Return the camera of a view whose centre and radius are known.

        Args:
            view: Where to look from.
            supersampling: Rays along each side of a pixel.
            margin: Share of the picture's half width that stays empty around the fitted sphere.
        """
        if view.center is None or view.radius is None:
            raise ValueError("A camera needs a view with a center and a radius.")
        azimuth, elevation = math.radians(view.azimuth_deg), math.radians(view.elevation_deg)
        right = np.array([math.cos(azimuth), 0.0, -math.sin(azimuth)])
        level = np.array([math.sin(azimuth), 0.0, math.cos(azimuth)])
        back = level * math.cos(elevation) + np.array([0.0, math.sin(elevation), 0.0])
        axes = np.stack([right, np.cross(back, right), back])
        if view.up == "z":
            axes = np.stack([axes[:, 0], -axes[:, 2], axes[:, 1]], axis=-1)
        half_angle = math.radians(view.field_of_view_deg) / 2
        distance = 1 / math.sin(half_angle) if half_angle else ORTHOGRAPHIC_DISTANCE
        half_width = (math.tan(half_angle) if half_angle else 1.0) / (1 - margin)
        side = view.size_px * supersampling
        return cls(axes, distance, half_width, half_angle > 0, side, view.size_px, np.array(view.center), view.radius)

    def placed(self, positions: Float[Tensor, "n 3"]) -> Float[np.ndarray, "n 3"]:
        """Return positions moved, turned and scaled into the camera's space."""
        relative = (positions.detach().double().cpu().numpy() - self.center) / self.radius
        return relative @ self.axes.T - np.array([0.0, 0.0, self.distance])

    def project(self, placed: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Return column and row, in pixels of the supersampled picture, of positions in front of the eye."""
        scale = self.half_width * (-placed[:, 2:] if self.perspective else 1.0)
        return (placed[:, :2] / scale * [1, -1] + 1) * self.side / 2

    def rays(
        self, rows: Int64[np.ndarray, " n"], columns: Int64[np.ndarray, " n"]
    ) -> tuple[Float32[np.ndarray, "n 3"], Float32[np.ndarray, "n 3"]]:
        """Return origins and directions of the rays through the centres of pixels.

        A direction is 1 long along the line of sight, so that the distance to a hit is its depth.
        """
        across = np.zeros((len(rows), 3), dtype=np.float32)
        across[:, 0] = ((columns + 0.5) / self.side * 2 - 1) * self.half_width
        across[:, 1] = (1 - (rows + 0.5) / self.side * 2) * self.half_width
        ahead = np.tile(np.array([0, 0, -1], dtype=np.float32), (len(rows), 1))
        return (np.zeros_like(across), across + ahead) if self.perspective else (across, ahead)
