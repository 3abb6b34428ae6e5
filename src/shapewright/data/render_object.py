"""One object of a rendered data set: brought to size, turned, drawn from its views, filled with voxels."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor

from shapewright.data.creatures import creature_number, make_creature
from shapewright.data.render_pictures import ObjectPictures, draw_pictures
from shapewright.data.render_sources import RenderSource
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.orbit import (
    KATO_DISTANCE,
    KATO_ELEVATION_DEG,
    KATO_HALF_ANGLE_DEG,
    KATO_VIEWS,
    LSM_HALF_ANGLE_DEG,
    cameras_around,
    orbit_eyes,
)
from shapewright.io.meshes import read_mesh
from shapewright.kernels.voxel_ops import kato_voxels

NUM_POINTS = 10_000
CAP_HIGHEST_DEG = 75.0
# The back of a chair: the cells in this share of the height, and how far from the middle they must lie to tell.
TOP_SHARE, LEAST_OFFSET_CELLS = 0.3, 1.5

Viewpoints = Literal["ring", "cap", "sphere", "lsm"]


@dataclass(frozen=True, kw_only=True)
class RenderProtocol:
    """Say how objects are seen.

    Args:
        name: Which files are written.
        size: Pixels along each side.
        views: Pictures of each object.
        viewpoints: ``ring`` at elevation 30, evenly around; the others are random, of each object anew: ``sphere`` all
            around, ``cap`` from the horizon up to 75 degrees, both uniform in area, ``lsm`` uniform in azimuth and
            in elevation from -20 to 40.
        distance: From the origin to the eyes.
        half_angle_deg: Half the field of view.
        normalise: The middle of the box goes to the origin, and its longest side (``box``), or twice the distance of
            the farthest vertex (``sphere``), becomes 1.
    """

    name: Literal["kato", "lsm", "free"]
    size: int
    views: int
    viewpoints: Viewpoints
    distance: float
    half_angle_deg: float
    normalise: Literal["box", "sphere"] = "box"


KATO = RenderProtocol(
    name="kato",
    size=64,
    views=KATO_VIEWS,
    viewpoints="ring",
    distance=KATO_DISTANCE,
    half_angle_deg=KATO_HALF_ANGLE_DEG,
)
LSM = RenderProtocol(name="lsm", size=224, views=20, viewpoints="lsm", distance=2.4, half_angle_deg=LSM_HALF_ANGLE_DEG)
FREE = replace(KATO, name="free")


@dataclass(frozen=True)
class RenderedObject:
    """Hold what is written about one object.

    Args:
        pictures: Its views.
        world_from_camera: Of each view.
        angles_deg: Azimuth from +x towards +z and elevation of each view.
        voxels: By the rule ``kato32``, indexed by x, y, z.
        points: Uniform on the surface.
        quarter_turns: How often the mesh was turned by 90 degrees about y, z towards x.
    """

    pictures: ObjectPictures
    world_from_camera: Float32[np.ndarray, "views 3 4"]
    angles_deg: Float[np.ndarray, "views 2"]
    voxels: Bool[np.ndarray, "32 32 32"]
    points: Float32[np.ndarray, "points 3"]
    quarter_turns: int


def render_object(
    source: RenderSource, protocol: RenderProtocol, seed: int, align_yaw: Literal["none", "back"] = "none"
) -> RenderedObject:
    """Return the pictures, the voxels and points of one object; they depend on the arguments alone.

    Args:
        source: What to read.
        protocol: How it is seen.
        seed: Of random views and of the points, together with the object's name.
        align_yaw: ``back`` turns the mesh so that its back, the side on which it is high, lies at -x.

    Raises:
        UserError: if the file cannot be read as a mesh.
        ValueError: if the mesh has no extent or no area.
    """
    mesh = normalised(read_source(source), protocol.normalise)
    turns = 0
    if align_yaw == "back":
        turns = turns_to_back(kato_voxels(mesh).numpy())
        mesh = replace(mesh, vertices=turned(mesh.vertices, turns))
    code = zlib.crc32(f"{source.shape_class}/{source.name}".encode())
    angles = view_angles(protocol, np.random.default_rng([seed, code]))
    cameras = cameras_of(angles, protocol)
    points = sample_surface(mesh, NUM_POINTS, torch.Generator().manual_seed((seed << 32 | code) % 2**63))
    pictures = draw_pictures(mesh, cameras, with_depth=protocol.name == "lsm")
    if not pictures.images[:, 3].any():
        raise ValueError("no view shows the mesh")
    return RenderedObject(
        pictures,
        cameras.world_from_camera.float().numpy(),
        angles,
        kato_voxels(mesh).numpy(),
        points.float().numpy(),
        turns,
    )


def read_source(source: RenderSource) -> Mesh:
    """Return the mesh of an object, in the units of its file, or as it is made up."""
    return read_mesh(source.path) if source.path is not None else make_creature(creature_number(source.name))


def normalised(mesh: Mesh, size: Literal["box", "sphere"]) -> Mesh:
    """Return a mesh around the origin, in double precision, whose largest extent is 1.

    Args:
        mesh: Vertices that no triangle uses do not count.
        size: ``box``: the longest side of the box becomes 1; ``sphere``: twice the largest distance from its middle.

    Raises:
        ValueError: if the mesh has no triangle or no extent.
    """
    if not mesh.num_faces:
        raise ValueError("it holds no triangle")
    used = mesh.vertices.double()[mesh.faces.reshape(-1).unique()]
    lower, upper = used.aminmax(dim=0)
    middle = (lower + upper) / 2
    extent = float((upper - lower).max() if size == "box" else 2 * (used - middle).norm(dim=1).max())
    if not 0 < extent < float("inf"):
        raise ValueError("all its triangles lie in one point")
    return replace(mesh, vertices=(mesh.vertices.double() - middle) / extent)


def turned(vertices: Float[Tensor, "n 3"], quarter_turns: int) -> Float[Tensor, "n 3"]:
    """Return positions turned about y by multiples of 90 degrees, z towards x, without rounding."""
    x, y, z = vertices.unbind(1)
    for _ in range(quarter_turns % 4):
        x, z = z, -x
    return torch.stack([x, y, z], dim=1)


def turns_to_back(voxels: Bool[np.ndarray, "n n n"]) -> int:
    """Return how many quarter turns bring the high side of an object to -x; 0 if it has none.

    The offset is the mean of the occupied cells in the upper 30 % of the object's height minus the mean of all; it must
    be 1.5 cells long.

    Args:
        voxels: Indexed by x, y, z.
    """
    cells = np.argwhere(voxels).astype(np.float64)
    if not len(cells):
        return 0
    low, high = cells[:, 1].min(), cells[:, 1].max()
    top = cells[cells[:, 1] >= high - TOP_SHARE * (high - low)]
    x, _, z = top.mean(0) - cells.mean(0)
    if math.hypot(x, z) < LEAST_OFFSET_CELLS:
        return 0
    if abs(x) >= abs(z):
        return 0 if x < 0 else 2
    return 3 if z > 0 else 1


def view_angles(protocol: RenderProtocol, rng: np.random.Generator) -> Float[np.ndarray, "views 2"]:
    """Return azimuth, from +x towards +z, and elevation of each view, in degrees."""
    count = protocol.views
    if protocol.viewpoints == "ring":
        return np.stack([360.0 / count * np.arange(count), np.full(count, KATO_ELEVATION_DEG)], axis=1)
    azimuth = rng.uniform(-180.0, 180.0, count)
    if protocol.viewpoints == "lsm":
        return np.stack([azimuth, rng.uniform(-20.0, 40.0, count)], axis=1)
    low, high = (-1.0, 1.0) if protocol.viewpoints == "sphere" else (0.0, math.sin(math.radians(CAP_HIGHEST_DEG)))
    return np.stack([azimuth, np.degrees(np.arcsin(rng.uniform(low, high, count)))], axis=1)


def cameras_of(angles_deg: Float[np.ndarray, "views 2"], protocol: RenderProtocol) -> Cameras:
    """Return the cameras at azimuths and elevations, which look at the origin."""
    eyes = orbit_eyes(protocol.distance, angles_deg[:, 1].tolist(), angles_deg[:, 0].tolist())
    return cameras_around(eyes, protocol.size, protocol.half_angle_deg)
