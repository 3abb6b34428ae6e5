"""Pictures of predicted meshes: beside the pictures they were made from, from all sides, on the way to one another.

All are drawn by the rasteriser with the cameras of the data, in milliseconds, so that a mesh seen from its picture's
pose can be laid over it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from shapewright.checks import check_range, check_shape
from shapewright.data.picture_sets import near_of, project_to
from shapewright.geometry.mesh import Mesh
from shapewright.io.images import write_image
from shapewright.io.video import write_video
from shapewright.methods.pose_invariant.pose_search import OrbitRig
from shapewright.rendering.mesh_pictures import CLAY, TEXT_COLOR, draw_grid
from shapewright.rendering.rasterizer import draw, rasterize
from shapewright.rendering.shading import shade, vertex_normals_of
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

Picture = UInt8[np.ndarray, "_ _ 3"]
T = TypeVar("T")

# Azimuth and elevation; the front is +x, as cars and chairs of the data look, which makes +z the right-hand side.
SIDES = {
    "front": (0.0, 0.0),
    "right": (90.0, 0.0),
    "back": (180.0, 0.0),
    "left": (270.0, 0.0),
    "above": (0.0, 90.0),
    "below": (0.0, -90.0),
}
AZIMUTHS_DEG = tuple(15.0 * k for k in range(24))
ELEVATION_DEG = 30.0
STRIP_VIEW_DEG = (40.0, 20.0)
SHEET_COLUMNS = 6
FRAMES_PER_SECOND = 12.0

# Towards the light, in the camera's frame: right, down, ahead.
TO_LIGHT = (-0.45, -0.6, -0.66)
SUPERSAMPLE = 3
MESHES_PER_CHUNK = 2
# Share of the picture's half width that stays empty around a mesh fitted into it.
MARGIN = 0.04
# What is laid over a picture: an orange that people who see red and green alike tell from grey.
TINT, TINT_SHARE = (213, 94, 0), 0.45
LABEL_FONT_PX = 15
# White lines left above and below what is drawn, where all pictures of a sheet have some.
PADDING_PX = 4


@dataclass(frozen=True)
class ComparedObject:
    """Hold a picture, and the meshes that several methods made of it.

    Args:
        picture: RGB times mask, then the mask, in 0..255.
        meshes: One a method, by its name; the true shape may be among them.
        world_from_camera: Of the picture; the meshes are drawn from there as well if it is known.
    """

    picture: UInt8[np.ndarray, "channels h w"]
    meshes: Mapping[str, Mesh] = field(default_factory=dict)
    world_from_camera: Float[Tensor, "3 4"] | None = None


def draw_clay(
    vertices: Float[Tensor, "n vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    world_from_camera: Float[Tensor, "n 3 4"],
    half_angle_deg: float | None,
    size: int,
) -> list[Picture]:
    """Return clay pictures of meshes on white, one a camera, shaded round, the light at the camera's side.

    Faces seen from behind are dark: a mesh turned inside out does not pass for a whole one.

    Args:
        vertices: Of each mesh; not finite ones are left out with their faces.
        faces: Vertex indices, shared.
        world_from_camera: One camera a mesh.
        half_angle_deg: Half the field of view; None: orthographic.
        size: Pixels along each side.
    """
    poses = world_from_camera.to(vertices)
    check_shape("world_from_camera", poses, (len(vertices), 3, 4))
    pictures = []
    # A few at a time, so that the samples stay in the cache.
    for some, seen_from in zip(vertices.detach().split(MESHES_PER_CHUNK), poses.split(MESHES_PER_CHUNK), strict=True):
        screen = project_to(some, seen_from, half_angle_deg, size)
        fragments = rasterize(screen, faces, size, SUPERSAMPLE, near_of(half_angle_deg))
        normals = vertex_normals_of(some, faces).nan_to_num()
        light = shade(fragments, screen, normals, seen_from[:, :, :3] @ seen_from.new_tensor(TO_LIGHT))
        pixels, _ = draw(light * light.new_tensor(CLAY), fragments, background=1.0)
        pictures += list((255 * pixels).round().to(torch.uint8).cpu().numpy())
    return pictures


def on_white(picture: Float[Tensor, "channels h w"] | UInt8[np.ndarray, "channels h w"]) -> Picture:
    """Return a picture of the data as people like to see it: the object on white.

    Args:
        picture: RGB times mask, then the mask, in [0, 1] or as bytes; without a mask it stays as it is.
    """
    if isinstance(picture, np.ndarray):
        picture = torch.from_numpy(np.array(picture, order="C")).float() / 255
    values = picture[:3] + (1 - picture[3:4] if len(picture) > 3 else 0)
    return (values.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()


def training_grids(
    vertices: Float[Tensor, "n vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    world_from_camera: Float[Tensor, "n 3 4"],
    half_angle_deg: float | None,
    pictures: Float[Tensor, "n channels size size"],
    masks: Float[Tensor, "n height width"],
) -> tuple[Picture, Picture, Picture]:
    """Return three squares of pictures, 5 x 5 of 25: meshes from the pose of their pictures, pictures, and masks.

    Args:
        vertices: Of the predicted meshes.
        faces: Vertex indices.
        world_from_camera: Of the pictures.
        half_angle_deg: Half the field of view; None: orthographic.
        pictures: RGB times mask, then the mask, in [0, 1].
        masks: To be learned, in [0, 1].
    """
    made = draw_clay(vertices, faces, world_from_camera, half_angle_deg, pictures.shape[-1])
    columns = math.ceil(math.sqrt(len(made)))
    given, wanted = (
        [on_white(picture) for picture in some] for some in (pictures, masks[:, None].expand(-1, 3, -1, -1))
    )
    return draw_grid(_rows(made, columns)), draw_grid(_rows(given, columns)), draw_grid(_rows(wanted, columns))


def six_sides(picture: UInt8[np.ndarray, "channels h w"], mesh: Mesh, size: int = 128) -> Picture:
    """Return a row: a picture, and the mesh made of it from front, right, back, left, above and below."""
    cells = [_enlarged(on_white(picture), size), *_sides_of(mesh, [mesh], size)]
    return draw_grid(_trimmed([cells]), ["picture", *SIDES])


def side_by_side(
    objects: Sequence[ComparedObject], half_angle_deg: float | None = OrbitRig.half_angle_deg, size: int = 112
) -> Picture:
    """Return what several methods make of pictures: a row a method, from the picture's pose and from six sides.

    The meshes of one object are drawn at one scale.

    Args:
        objects: Pictures and meshes.
        half_angle_deg: Half the field of view of the pictures; None: orthographic.
        size: Pixels along each side of a cell.

    Raises:
        ValueError: if there is no mesh.
    """
    with_pose = any(compared.world_from_camera is not None for compared in objects)
    blank = np.full((size, size, 3), 255, dtype=np.uint8)
    rows = []
    for compared in objects:
        meshes = list(compared.meshes.values())
        for place, (name, mesh) in enumerate(compared.meshes.items()):
            row = [blank if place else _enlarged(on_white(compared.picture), size), _label(name, size)]
            if with_pose:
                row.append(_from_picture(mesh, compared.world_from_camera, half_angle_deg, size))
            rows.append([*row, *_sides_of(mesh, meshes, size)])
    heads = ["picture", "", *(["its view"] if with_pose else []), *SIDES]
    return draw_grid(_trimmed(rows), heads)


def turntable_frames(mesh: Mesh, size: int = 192, elevation_deg: float = ELEVATION_DEG) -> list[Picture]:
    """Return pictures of a mesh from 24 sides, 15 degrees apart, fitted into them."""
    return _drawn([mesh], [mesh], [(azimuth, elevation_deg) for azimuth in AZIMUTHS_DEG], size)


def draw_views(mesh: Mesh, size: int = 128, elevation_deg: float = ELEVATION_DEG) -> Picture:
    """Return a sheet of a mesh from 24 sides, each with its azimuth below."""
    return _sheet(turntable_frames(mesh, size, elevation_deg))


def write_turntable(folder: Path, mesh: Mesh) -> list[Path]:
    """Write a sheet of a mesh from 24 sides, ``turntable.png``, and ``turntable.gif``; return the files.

    Raises:
        UserError: if a file cannot be written.
    """
    paths = [folder / "turntable.png", folder / "turntable.gif"]
    frames = turntable_frames(mesh)
    write_image(paths[0], _sheet(frames))
    write_video(paths[1], frames, FRAMES_PER_SECOND)
    return paths


def draw_strip(meshes: Sequence[Mesh], size: int = 192) -> tuple[Picture, list[Picture]]:
    """Return meshes on the way from one to another, at one scale and from one side: in a row, and each by itself.

    Args:
        meshes: In their order; the share of the way stands below each.
        size: Pixels along each side of a picture.

    Raises:
        ValueError: if there is no mesh.
    """
    check_range("meshes", len(meshes), 1)
    frames = [_drawn([mesh], meshes, [STRIP_VIEW_DEG], size)[0] for mesh in meshes]
    shares = [f"{100 * place / max(len(meshes) - 1, 1):.0f} %" for place in range(len(meshes))]
    return draw_grid(_trimmed([frames]), [shares]), frames


def overlay(
    picture: Float[Tensor, "channels h w"],
    mesh: Mesh,
    world_from_camera: Float[Tensor, "3 4"],
    half_angle_deg: float | None = OrbitRig.half_angle_deg,
    size: int = 256,
) -> Picture:
    """Return a picture on white, with a tint where a mesh would cover it.

    Args:
        picture: Square, RGB times mask, then the mask, in [0, 1].
        mesh: What was made of it.
        world_from_camera: From where the mesh is seen, such as the pose that was found for it.
        half_angle_deg: Half the field of view; None: orthographic.
        size: Pixels along each side of the result.
    """
    screen = project_to(mesh.vertices.detach()[None], world_from_camera[None], half_angle_deg, size)
    style = SilhouetteStyle(near=near_of(half_angle_deg))
    covered = silhouette(screen, mesh.faces, size, style)[0, ..., None].cpu().double().numpy()
    base = _enlarged(on_white(picture), size).astype(np.float64)
    return (base + TINT_SHARE * covered * (np.array(TINT) - base)).round().astype(np.uint8)


def _sheet(frames: Sequence[Picture]) -> Picture:
    captions = [f"{azimuth:.0f}°" for azimuth in AZIMUTHS_DEG]
    return draw_grid(_trimmed(_rows(frames, SHEET_COLUMNS)), _rows(captions, SHEET_COLUMNS))


def _trimmed(rows: Sequence[Sequence[Picture]]) -> list[list[Picture]]:
    """Return pictures of one size without the lines above and below that are white in all of them."""
    used = np.flatnonzero(np.any([(picture < 255).any(axis=(1, 2)) for row in rows for picture in row], axis=0))
    if not len(used):
        return [list(row) for row in rows]
    lines = slice(max(0, int(used[0]) - PADDING_PX), int(used[-1]) + 1 + PADDING_PX)
    return [[picture[lines] for picture in row] for row in rows]


def _from_picture(
    mesh: Mesh, world_from_camera: Float[Tensor, "3 4"] | None, half_angle_deg: float | None, size: int
) -> Picture:
    """Return a mesh from the pose of its picture; nothing if that is not known."""
    if world_from_camera is None:
        return np.full((size, size, 3), 255, dtype=np.uint8)
    return draw_clay(mesh.vertices[None], mesh.faces, world_from_camera[None], half_angle_deg, size)[0]


def _sides_of(mesh: Mesh, together: Sequence[Mesh], size: int) -> list[Picture]:
    return _drawn([mesh], together, list(SIDES.values()), size)


def _drawn(
    meshes: Sequence[Mesh], together: Sequence[Mesh], angles: Sequence[tuple[float, float]], size: int
) -> list[Picture]:
    """Return meshes from some azimuths and elevations; all of ``together`` would fit into the pictures."""
    rig = OrbitRig()
    poses = rig.poses([azimuth for azimuth, _ in angles], [elevation for _, elevation in angles])
    bounds = torch.stack([mesh.bounds.double().cpu() for mesh in together])
    center = (bounds[:, 0].amin(0) + bounds[:, 1].amax(0)) / 2
    radius = max(float((mesh.vertices.double().cpu() - center).norm(dim=1).max()) for mesh in together)
    fitting = (1 - MARGIN) * rig.distance * math.sin(math.radians(rig.half_angle_deg or 0.0)) / max(radius, 1e-12)
    pictures = []
    for mesh in meshes:
        placed = ((mesh.vertices.double().cpu() - center) * fitting).float()
        pictures += draw_clay(placed.expand(len(poses), -1, -1), mesh.faces.cpu(), poses, rig.half_angle_deg, size)
    return pictures


def _rows(cells: Sequence[T], columns: int) -> list[list[T]]:
    return [list(cells[start : start + columns]) for start in range(0, len(cells), columns)]


def _enlarged(picture: Picture, size: int) -> Picture:
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def _label(text: str, size: int) -> Picture:
    """Return words below each other in the middle of a white cell."""
    image = Image.new("RGB", (size, size), (255, 255, 255))
    place = (size / 2, size / 2)
    font = ImageFont.load_default(LABEL_FONT_PX)
    ImageDraw.Draw(image).multiline_text(
        place, "\n".join(text.split()), font=font, fill=TEXT_COLOR, anchor="mm", align="center"
    )
    return np.asarray(image)
