"""Toy scenes: objects given by formulas, photographed by ourselves, so that the true surface is known.

Pictures are made by sphere tracing (Hart, The Visual Computer 12, 1996) of the
signed distance, lit by one lamp with soft shadows and by the sky. Scenes are
written in IDR's layout; the object's own coordinates are the normalised ones.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import igl
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.data.figurine import figurine_color, figurine_distance
from shapewright.geometry.analytic import sphere_distance, torus_distance
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import atomic_write
from shapewright.io.images import write_image
from shapewright.io.meshes import write_mesh

# Photos are taken in millimetres, away from the origin: nothing may rely on a normalised world.
WORLD_SCALE = 65.0
WORLD_TRANSLATION = (20.0, 110.0, -35.0)

_LAMP = (-0.42, 0.75, 0.51)
_STEP_SHARE = 0.8  # Smoothly joined and displaced shapes have slopes up to 1.25.
_FRAME_RADIUS = 0.94  # A ball of this radius touches the left and right borders of the pictures.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Toy:
    """Hold an object given by formulas, inside the unit ball.

    Args:
        distance: Signed distance (negative inside), exact at the surface.
        color: Linear reflectance in [0, 1] at points on the surface.
    """

    distance: Callable[[Float[Tensor, "points 3"]], Float[Tensor, " points"]]
    color: Callable[[Float[Tensor, "points 3"]], Float[Tensor, "points 3"]]


def _sphere(points: Tensor) -> Tensor:
    return sphere_distance(points, (0.0, 0.0, 0.0), 0.6)


def _torus(points: Tensor) -> Tensor:
    return torus_distance(points, (0.0, 0.0, 0.0), 0.5, 0.22)


def _waves(points: Tensor) -> Tensor:
    """Return a smooth pattern of three frequencies, the same in no two directions."""
    slow, fast = torch.sin(5 * points + 1.3), torch.sin(13 * points.roll(1, -1) - 0.4)
    return (0.45 + 0.22 * slow + 0.16 * fast * slow.roll(1, -1)).clamp(0, 1)


TOYS = {
    "sphere": Toy(_sphere, _waves),
    "torus": Toy(_torus, _waves),
    "demo": Toy(figurine_distance, figurine_color),
}


def toy_cameras(num_views: int, size: tuple[int, int], distance: float = 3.2) -> Cameras:
    """Return cameras on a spiral around the unit ball, from below its equator to near its pole.

    The sine of the elevation rises evenly from -0.5 to 0.9 and the azimuth turns
    by sqrt(2) - 1 of a full turn, so that every 8th view (those held out) again
    surrounds the object; with the golden angle these would stand side by side.

    Args:
        num_views: Number of views.
        size: Width and height, in pixels.
        distance: From the origin to each camera, > 1.
    """
    index = torch.arange(num_views, dtype=torch.float64)
    height = -0.5 + 1.4 * (index + 0.5) / num_views
    azimuth = index * 2 * math.pi * (math.sqrt(2) - 1)
    across = (1 - height * height).sqrt()
    eyes = distance * torch.stack([across * azimuth.cos(), height, across * azimuth.sin()], dim=1)
    fov_deg = 2 * math.degrees(math.asin(_FRAME_RADIUS / distance))
    up = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)
    return Cameras.from_look_at(
        eyes, torch.zeros(3, dtype=torch.float64), up, fov_deg, torch.tensor([size] * num_views)
    )


def render_toy(toy: Toy, cameras: Cameras, view: int, supersample: int = 2) -> np.ndarray:
    """Return a picture of a toy as 8-bit RGBA with straight alpha.

    Args:
        toy: The object.
        cameras: Cameras in the object's coordinates.
        view: Which camera.
        supersample: Rays along each side of a pixel.
    """
    width, height = cameras.sizes[view].tolist()
    origins, directions = cameras[view].scaled(float(supersample)).image_rays(0)
    rgb, alpha = torch.zeros(len(origins), 3), torch.zeros(len(origins), 1)
    for start in range(0, len(origins), _CHUNK):
        rays = origins[start : start + _CHUNK].float(), directions[start : start + _CHUNK].float()
        distances, hit = trace_toy(toy, *rays)
        points, towards = (rays[0] + distances[:, None] * rays[1])[hit], -rays[1][hit]
        index = start + hit.nonzero()[:, 0]
        rgb[index], alpha[index] = shade_toy(toy, points, towards), 1.0
    pixels = torch.cat([rgb * alpha, alpha], dim=1).view(height, supersample, width, supersample, 4).mean((1, 3))
    straight = pixels[..., :3] / pixels[..., 3:].clamp_min(1e-6)
    screen = torch.cat([straight.clamp(0, 1) ** (1 / 2.2), pixels[..., 3:]], dim=-1)
    return (screen * 255).round().to(torch.uint8).numpy()


def trace_toy(
    toy: Toy, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]
) -> tuple[Float[Tensor, " rays"], Bool[Tensor, " rays"]]:
    """Return where rays meet a toy, and whether they do; the distances of misses mean nothing.

    Rays are marched through the unit ball until the surface is nearer than 1e-4.
    """
    middle = -(origins * directions).sum(-1)
    half = (1 - (origins * origins).sum(-1) + middle * middle).clamp_min(0).sqrt()
    distances, far = middle - half, middle + half
    hit = torch.zeros_like(distances, dtype=torch.bool)
    active = (half > 0).nonzero()[:, 0]
    for _ in range(256):
        gap = toy.distance(origins[active] + distances[active, None] * directions[active])
        distances[active] += _STEP_SHARE * gap
        hit[active] = gap < 1e-4
        active = active[(gap >= 1e-4) & (distances[active] < far[active])]
        if not len(active):
            break
    return distances, hit


def toy_normals(toy: Toy, points: Float[Tensor, "points 3"], step: float = 5e-4) -> Float[Tensor, "points 3"]:
    """Return unit normals from the slope of the distance."""
    return torch.nn.functional.normalize(_slope(toy, points, step), dim=-1)


def _slope(toy: Toy, points: Tensor, step: float) -> Tensor:
    """Return the gradient of the distance by differences at the corners of a tetrahedron."""
    total = torch.zeros_like(points)
    for corner in ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0)):
        offset = torch.tensor(corner, dtype=points.dtype)
        total += toy.distance(points + step * offset)[:, None] * offset
    return total / (4 * step)


def shade_toy(
    toy: Toy, points: Float[Tensor, "points 3"], towards: Float[Tensor, "points 3"]
) -> Float[Tensor, "points 3"]:
    """Return the linear colour of surface points seen from the unit directions ``towards``.

    One warm lamp (Lambert, soft shadow, a faint Blinn-Phong highlight), a sky that is
    brighter above, and ambient occlusion from five distances along the normal.
    """
    normals = toy_normals(toy, points)
    lamp = torch.tensor(_LAMP, dtype=points.dtype)
    lamp = lamp / lamp.norm()
    shadow = _light_that_arrives(toy, points + 4e-3 * normals, lamp)
    lit = (normals @ lamp).clamp_min(0) * shadow
    open_sky = _openness(toy, points, normals) * (0.62 + 0.38 * normals[:, 1])
    highlight = (normals * torch.nn.functional.normalize(lamp + towards, dim=-1)).sum(-1).clamp_min(0) ** 40 * shadow
    warm, cool = torch.tensor([1.0, 0.95, 0.86]), torch.tensor([0.90, 0.96, 1.06])
    light = 0.78 * lit[:, None] * warm + 0.60 * open_sky[:, None] * cool
    return (toy.color(points) * light + 0.05 * highlight[:, None]).clamp(0, 0.97)


def _light_that_arrives(toy: Toy, points: Tensor, lamp: Tensor) -> Tensor:
    """Return 1 in the light, 0 in shadow, and between at its edge, by how near the ray passes something."""
    light, travelled = torch.ones_like(points[:, 0]), torch.full_like(points[:, 0], 0.01)
    for _ in range(24):
        gap = toy.distance(points + travelled[:, None] * lamp)
        light = torch.minimum(light, (0.5 + 5 * gap / travelled).clamp(0, 1))
        travelled = travelled + (_STEP_SHARE * gap).clamp(0.015, 0.15)
    return light * light * (3 - 2 * light)


def _openness(toy: Toy, points: Tensor, normals: Tensor) -> Tensor:
    """Return how much of the sky is free above the points: 1 in the open, less in hollows."""
    blocked = torch.zeros_like(points[:, 0])
    for index in range(5):
        reach = 0.015 + 0.055 * index
        blocked += (reach - toy.distance(points + reach * normals)) * 0.75**index
    return (1 - 1.6 * blocked).clamp(0.12, 1)


def toy_mesh(toy: Toy, resolution: int = 256, num_faces: int | None = None) -> Mesh:
    """Return the surface of a toy, with colours, in its own coordinates.

    The triangles of the marching cubes are merged by quadric error (Garland and
    Heckbert, 1997) and their corners moved onto the surface by Newton steps.

    Args:
        toy: The object.
        resolution: Cells along the side of the cube around it.
        num_faces: Merge triangles until no more than these are left; None keeps all.
    """
    corner = torch.full((3,), 1.0)
    mesh = extract_isosurface(toy.distance, -corner, corner, resolution).mesh
    vertices, faces = mesh.vertices.double().cpu(), mesh.faces
    if num_faces is not None:
        kept_vertices, kept_faces, *_ = igl.qslim(vertices.numpy(), faces.numpy().astype(np.int32), num_faces)
        vertices, faces = torch.from_numpy(kept_vertices), torch.from_numpy(kept_faces).long()
    for _ in range(4):
        slope = _slope(toy, vertices, 1e-5)
        vertices = vertices - slope * (toy.distance(vertices) / slope.square().sum(-1).clamp_min(0.05))[:, None]
    normals = toy_normals(toy, vertices).float()
    colors = shade_toy(toy, vertices.float(), normals) ** (1 / 2.2)
    return Mesh(vertices.float(), faces, colors)


def write_toy_scene(
    folder: Path, shape: str = "sphere", num_views: int = 12, size: tuple[int, int] = (64, 56), supersample: int = 2
) -> None:
    """Photograph a toy from all around and write image/, mask/ and cameras.npz.

    Normalised coordinates are the toy's own (``TOYS[shape].distance`` is the true
    distance there); world coordinates are ``WORLD_SCALE * x + WORLD_TRANSLATION``.

    Args:
        folder: Where to write; made if missing.
        shape: A name in ``TOYS``.
        num_views: Number of pictures.
        size: Width and height, in pixels.
        supersample: Rays along each side of a pixel.

    Raises:
        ValueError: if there is no such shape.
    """
    if shape not in TOYS:
        raise ValueError(f"shape must be one of {', '.join(TOYS)}, got {shape!r}.")
    cameras = toy_cameras(num_views, size)
    for name in ("image", "mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for view in range(num_views):
        picture = render_toy(TOYS[shape], cameras, view, supersample)
        write_image(folder / "image" / f"{view:03d}.png", picture)
        write_image(folder / "mask" / f"{view:03d}.png", picture[..., 3])
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_camera_arrays(cameras))
    atomic_write(folder / "cameras.npz", buffer.getvalue())


def write_toy_mesh(path: Path, shape: str, resolution: int, num_faces: int | None = None) -> None:
    """Write the surface of a toy, in the world coordinates of ``write_toy_scene``; see ``toy_mesh``."""
    mesh = toy_mesh(TOYS[shape], resolution, num_faces)
    write_mesh(path, mesh.transformed(WORLD_SCALE, torch.tensor(WORLD_TRANSLATION)))


def _camera_arrays(cameras: Cameras) -> dict[str, Any]:
    """Return ``world_mat_i`` and ``scale_mat_i`` as IDR stores them: world to pixel, integer pixel centres."""
    scale_mat = np.diag([WORLD_SCALE, WORLD_SCALE, WORLD_SCALE, 1.0])
    scale_mat[:3, 3] = WORLD_TRANSLATION
    shift = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    arrays = {}
    for view, projection in enumerate(cameras.projections().numpy()):
        normalised = np.vstack([shift @ projection, [0.0, 0.0, 0.0, 1.0]])
        world_mat = normalised @ np.linalg.inv(scale_mat)
        world_mat[:3] *= WORLD_SCALE
        arrays[f"world_mat_{view}"], arrays[f"scale_mat_{view}"] = world_mat, scale_mat
    return arrays
