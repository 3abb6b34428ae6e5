"""Shaded pictures of meshes by ray casting on the CPU: no window, no graphics driver."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from shapewright.checks import check_range, check_shape
from shapewright.geometry.corner_normals import corner_normals
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.ray_casting import RayCaster
from shapewright.rendering.picture_camera import MeshView, PictureCamera
from shapewright.rendering.sky_visibility import sky_visibility

Picture = UInt8[np.ndarray, "h w 3"]
Color = tuple[float, float, float]

CLAY: Color = (0.72, 0.74, 0.78)
POINT_COLOR: Color = (0.85, 0.27, 0.18)
BACKGROUND = 1.0
DISPLAY_GAMMA = 2.2
RAYS_PER_CALL = 2**19

# Lights in the camera's frame: right, up, towards the viewer. The key light comes from the upper left.
KEY_LIGHT = (-0.45, 0.75, 0.55)
SKY, GROUND, KEY, HEADLIGHT, GLOSS = 0.42, 0.14, 0.85, 0.1, 0.07
KEY_SHADOW = 0.7
GLOSS_EXPONENT = 40
KEY_WRAP = 0.15
BACK_FACE = 0.3

# Two sides of a sheet are no farther apart, in radii of the picture.
SHEET_THICKNESS = 0.002
# How much of white the farthest points take on.
PALEST_POINT = 0.6
# How far behind a surface a point may lie and still be drawn, in radii of the picture.
POINT_TOLERANCE = 0.02

CAPTION_SIZE_PX = 15
GRID_GAP_PX = 8
TEXT_COLOR = (50, 50, 50)


@dataclass(frozen=True)
class MeshStyle:
    """Say how a mesh is painted.

    Args:
        crease_deg: Edges sharper than this stay sharp, others are shaded round; 0 shows the flat triangles.
        supersampling: Rays along each side of a pixel.
        sky_rays: Rays from every sample towards the sky, for soft shadows in folds and under parts; 0 leaves them out.
        margin: Share of the picture's half width that stays empty around the fitted sphere.
    """

    crease_deg: float = 40.0
    supersampling: int = 2
    sky_rays: int = 4
    margin: float = 0.03

    def __post_init__(self) -> None:
        check_range("supersampling", self.supersampling, 1, 8)
        check_range("sky_rays", self.sky_rays, 0, 256)
        check_range("margin", self.margin, 0.0, 0.9)


@dataclass(frozen=True)
class PointLayer:
    """Hold points to be drawn into a picture of a mesh; those behind its surface are hidden.

    Args:
        positions: In the space of the mesh.
        color: sRGB in [0, 1].
        radius_px: Radius of a point's disc.
        normals: Of either sign; points are shaded by them, or else become paler with their distance.
    """

    positions: Float[Tensor, "points 3"]
    color: Color = POINT_COLOR
    radius_px: float = 1.5
    normals: Float[Tensor, "points 3"] | None = None

    def __post_init__(self) -> None:
        check_shape("positions", self.positions, (None, 3))
        check_range("radius_px", self.radius_px, 0.0, 100.0)
        if self.normals is not None:
            check_shape("normals", self.normals, tuple(self.positions.shape))


def draw_mesh(
    mesh: Mesh,
    view: MeshView | None = None,
    color: Color | Literal["vertices"] | None = None,
    points: PointLayer | None = None,
    style: MeshStyle | None = None,
) -> Picture:
    """Return a shaded picture of a mesh on white.

    A soft key light from the upper left, a headlight and a sky; faces seen from behind are dark, so that a mesh turned
    inside out does not pass for a whole one; a sheet with faces on both sides has no behind. The lights stay with the
    camera.

    Args:
        mesh: What is drawn; without triangles only the points are.
        view: Where the camera stands.
        color: sRGB in [0, 1], or ``"vertices"`` for the mesh's own vertex colours; grey clay if not given.
        points: Points drawn over the mesh.
        style: How it is painted.

    Raises:
        ValueError: if there is nothing that fixes the picture's scale, or vertex colours are asked for and missing.
    """
    view, style = view or MeshView(), style or MeshStyle()
    camera = PictureCamera.of(_framed(view, mesh, points), style.supersampling, style.margin)
    image = np.full((camera.side, camera.side, 3), BACKGROUND, dtype=np.float32)
    depth = np.full((camera.side, camera.side), np.inf, dtype=np.float32)
    if mesh.num_faces:
        _paint_mesh(image, depth, camera, _Surface.of(mesh, camera, color, style.crease_deg), style)
    if points is not None and len(points.positions):
        _paint_points(image, depth, camera, points)
    step = style.supersampling
    smaller = image.reshape(view.size_px, step, view.size_px, step, 3).mean(axis=(1, 3))
    return (smaller.clip(0, 1) ** (1 / DISPLAY_GAMMA) * 255).round().astype(np.uint8)


def turntable(
    mesh: Mesh,
    frames: int,
    view: MeshView | None = None,
    color: Color | Literal["vertices"] | None = None,
    style: MeshStyle | None = None,
) -> list[Picture]:
    """Return pictures of a mesh from all around, starting at the view's azimuth, ready for ``write_video``.

    Raises:
        ValueError: if ``frames`` is not positive, or as ``draw_mesh``.
    """
    check_range("frames", frames, 1)
    view = _framed(view or MeshView(), mesh, None)
    azimuths = [view.azimuth_deg + 360.0 * frame / frames for frame in range(frames)]
    return [draw_mesh(mesh, replace(view, azimuth_deg=azimuth), color, style=style) for azimuth in azimuths]


def draw_grid(
    rows: Sequence[Sequence[Picture]],
    captions: Sequence[str] | Sequence[Sequence[str]] = (),
    row_captions: Sequence[str] = (),
) -> Picture:
    """Return one picture of many: rows of cells of equal size, with captions.

    Args:
        rows: The pictures; smaller ones stand in the middle of their cells, rows may differ in length.
        captions: A head for every column, or a line under every picture: as many sequences of texts as there are rows.
        row_captions: A line above every row.

    Raises:
        ValueError: if there is no picture, or the number of captions fits neither columns nor rows.
    """
    sizes = [picture.shape[:2] for row in rows for picture in row]
    if not sizes:
        raise ValueError("A grid needs at least one picture.")
    height, width = (max(size[axis] for size in sizes) for axis in (0, 1))
    columns = max(len(row) for row in rows)
    heads = [text for text in captions if isinstance(text, str)]
    below = [list(texts) for texts in captions if not isinstance(texts, str)]
    wanted = [len(row) for row in rows]
    if (heads and (below or len(heads) != columns)) or (below and [len(texts) for texts in below] != wanted):
        raise ValueError(f"captions must hold {columns} texts, or one for each picture of the rows {wanted}.")
    if row_captions and len(row_captions) != len(rows):
        raise ValueError(f"row_captions must hold {len(rows)} texts, got {len(row_captions)}.")
    font = ImageFont.load_default(CAPTION_SIZE_PX)
    line = round(CAPTION_SIZE_PX * 1.6)
    above, under = line * bool(row_captions), line * bool(below)
    step = above + height + under + GRID_GAP_PX
    full_width = columns * (width + GRID_GAP_PX) + GRID_GAP_PX
    sheet = Image.new("RGB", (full_width, line * bool(heads) + GRID_GAP_PX + step * len(rows)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    centers = [GRID_GAP_PX + (width + GRID_GAP_PX) * column + width // 2 for column in range(columns)]
    for center, text in zip(centers, heads, strict=False):
        _write(draw, font, (center, GRID_GAP_PX + line // 2), text, width)
    for index, row in enumerate(rows):
        top = GRID_GAP_PX + line * bool(heads) + step * index
        if row_captions:
            _write(draw, font, (full_width // 2, top + line // 2), row_captions[index], full_width - 2 * GRID_GAP_PX)
        for column, picture in enumerate(row):
            corner = (centers[column] - picture.shape[1] // 2, top + above + (height - picture.shape[0]) // 2)
            sheet.paste(Image.fromarray(picture), corner)
            if below:
                place = (centers[column], top + above + height + line // 2)
                _write(draw, font, place, below[index][column], width)
    return np.asarray(sheet)


def _write(
    draw: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    center: tuple[int, int],
    text: str,
    width: int,
) -> None:
    """Write a line of text, shortened in the middle until it fits."""
    shown, keep = text, len(text)
    while keep > 2 and draw.textlength(shown, font=font) > width:
        keep -= 1
        shown = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
    draw.text(center, shown, font=font, fill=TEXT_COLOR, anchor="mm")


def _framed(view: MeshView, mesh: Mesh, points: PointLayer | None) -> MeshView:
    """Return the view with its centre and radius filled in from the mesh, or from the points if it has no faces."""
    if view.center is not None and view.radius is not None:
        return view
    if mesh.num_faces:
        positions = mesh.vertices[mesh.faces.reshape(-1).unique()]
    else:
        positions = points.positions if points is not None else mesh.vertices[:0]
    if not len(positions):
        raise ValueError("There is nothing to draw: give the view a center and a radius to draw an empty picture.")
    positions = positions.detach().double().cpu()
    lower, upper = positions.aminmax(dim=0)
    center = (lower + upper) / 2 if view.center is None else torch.tensor(view.center, dtype=torch.float64)
    radius = float((positions - center).norm(dim=1).max()) if view.radius is None else view.radius
    return replace(view, center=tuple(center.tolist()), radius=radius if radius > 0 else 1.0)


@dataclass(frozen=True)
class _Surface:
    """Hold a mesh in the camera's space, with what is needed to shade it."""

    vertices: Float32[np.ndarray, "vertices 3"]
    faces: Int64[np.ndarray, "faces 3"]
    normals: Float32[np.ndarray, "faces 3 3"]
    colors: Float32[np.ndarray, "vertices 3"] | Float32[np.ndarray, " 3"]  # in linear light

    @classmethod
    def of(
        cls, mesh: Mesh, camera: PictureCamera, color: Color | Literal["vertices"] | None, crease_deg: float
    ) -> _Surface:
        """Return a mesh as a camera sees it."""
        if color == "vertices":
            if mesh.vertex_colors is None:
                raise ValueError("The mesh has no vertex colours to draw.")
            srgb = mesh.vertex_colors.detach().float().cpu().numpy()
        else:
            srgb = np.array(color or CLAY, dtype=np.float32)
        normals = corner_normals(mesh, crease_deg).detach().float().cpu().numpy() @ camera.axes.T.astype(np.float32)
        placed = camera.placed(mesh.vertices).astype(np.float32)
        return cls(placed, mesh.faces.cpu().numpy(), normals, srgb.clip(0, 1) ** np.float32(DISPLAY_GAMMA))


@dataclass(frozen=True)
class _Hits:
    """Hold where rays met a surface: one row a sample of the picture."""

    pixels: Int64[np.ndarray, "n 2"]  # row and column
    faces: Int64[np.ndarray, " n"]
    depths: Float32[np.ndarray, " n"]
    directions: Float32[np.ndarray, "n 3"]
    positions: Float32[np.ndarray, "n 3"]

    @classmethod
    def of(cls, camera: PictureCamera, surface: _Surface, caster: RayCaster) -> _Hits:
        """Return what the rays of a camera hit."""
        parts: list[tuple[np.ndarray, ...]] = []
        for rows, columns in _covered_pixels(camera, surface.vertices):
            origins, directions = camera.rays(rows, columns)
            found, distances = caster.first_hit(torch.from_numpy(origins), torch.from_numpy(directions))
            hit = np.flatnonzero(found.numpy() >= 0)
            depths, ahead = distances.numpy()[hit], directions[hit]
            positions = origins[hit] + depths[:, None] * ahead
            parts.append((np.stack([rows[hit], columns[hit]], axis=-1), found.numpy()[hit], depths, ahead, positions))
        if not parts:
            none = np.zeros((0, 3), dtype=np.float32)
            parts = [(none[:, :2].astype(int), none[:, 0].astype(int), none[:, 0], none, none)]
        return cls(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _paint_mesh(
    image: Float32[np.ndarray, "h w 3"],
    depth: Float32[np.ndarray, "h w"],
    camera: PictureCamera,
    surface: _Surface,
    style: MeshStyle,
) -> None:
    """Paint what the rays hit, in linear light, and note its depth."""
    caster = RayCaster(Mesh(torch.from_numpy(surface.vertices), torch.from_numpy(surface.faces)))
    hits = _Hits.of(camera, surface, caster)
    weights, is_back = _barycentric(surface, hits)
    if is_back.any():
        hits = _prefer_fronts(hits, np.flatnonzero(is_back), camera, surface)
        weights, is_back = _barycentric(surface, hits)
    normals = _unit(np.einsum("ij,ijk->ik", weights, surface.normals[hits.faces]))
    normals = np.where(is_back[:, None], -normals, normals)
    visible = np.ones(len(normals), dtype=np.float32)
    if style.sky_rays:
        visible = sky_visibility(caster, hits.positions, normals, hits.pixels, style.sky_rays)
    if surface.colors.ndim == 2:
        albedo = np.einsum("ij,ijk->ik", weights, surface.colors[surface.faces[hits.faces]])
    else:
        albedo = np.broadcast_to(surface.colors, normals.shape)
    light = _shaded(albedo, normals, -_unit(hits.directions), visible)
    rows, columns = hits.pixels.T
    depth[rows, columns] = hits.depths
    image[rows, columns] = np.where(is_back[:, None], BACK_FACE * light, light)


def _prefer_fronts(hits: _Hits, behind: Int64[np.ndarray, " m"], camera: PictureCamera, surface: _Surface) -> _Hits:
    """Return the hits with those from behind moved to a triangle that faces the viewer at nearly the same depth.

    Sheets without thickness are often stored once for each side, and a ray meets either first.
    """
    a, b, c = surface.vertices[surface.faces].transpose(1, 0, 2)
    ahead = a if camera.perspective else np.array([0, 0, -1], dtype=np.float32)
    fronts = np.flatnonzero((np.cross(b - a, c - a) * ahead).sum(axis=-1) < 0)
    caster = RayCaster(Mesh(torch.from_numpy(surface.vertices), torch.from_numpy(surface.faces[fronts])))
    origins, directions = camera.rays(*hits.pixels[behind].T)
    found, depths = caster.first_hit(torch.from_numpy(origins), torch.from_numpy(directions))
    near = np.flatnonzero(depths.numpy() < hits.depths[behind] + SHEET_THICKNESS)
    moved = behind[near]
    faces, new_depths, positions = hits.faces.copy(), hits.depths.copy(), hits.positions.copy()
    faces[moved], new_depths[moved] = fronts[found.numpy()[near]], depths.numpy()[near]
    positions[moved] = origins[near] + new_depths[moved, None] * directions[near]
    return replace(hits, faces=faces, depths=new_depths, positions=positions)


def _barycentric(surface: _Surface, hits: _Hits) -> tuple[Float32[np.ndarray, "n 3"], Bool[np.ndarray, " n"]]:
    """Return the weights of the corners at every hit, and whether the triangle is seen from behind."""
    a, b, c = surface.vertices[surface.faces[hits.faces]].transpose(1, 0, 2)
    cross = np.cross(b - a, c - a)
    square = np.maximum(np.einsum("ij,ij->i", cross, cross), np.float32(1e-30))
    inside = hits.positions - a
    to_b = np.einsum("ij,ij->i", np.cross(inside, c - a), cross) / square
    to_c = np.einsum("ij,ij->i", np.cross(b - a, inside), cross) / square
    weights = np.stack([1 - to_b - to_c, to_b, to_c], axis=-1).clip(0, 1)
    return weights, np.einsum("ij,ij->i", cross, hits.directions) > 0


def _covered_pixels(
    camera: PictureCamera, placed: Float32[np.ndarray, "n 3"]
) -> Iterator[tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]]:
    """Give the rows and columns of the pixels in the box around a surface's picture, in parts of bounded size."""
    lower, upper = np.zeros(2), np.full(2, camera.side)
    if placed[:, 2].max() < -1e-3:
        projected = camera.project(placed)
        lower = np.clip(np.floor(projected.min(axis=0)), 0, camera.side)
        upper = np.clip(np.ceil(projected.max(axis=0)), 0, camera.side)
    (left, top), (right, bottom) = lower.astype(int), upper.astype(int)
    if right <= left:
        return
    at_once = max(1, RAYS_PER_CALL // (right - left))
    for start in range(top, bottom, at_once):
        rows, columns = np.mgrid[start : min(start + at_once, bottom), left:right]
        yield rows.reshape(-1), columns.reshape(-1)


def _shaded(
    albedo: Float32[np.ndarray, "n 3"],
    normals: Float32[np.ndarray, "n 3"],
    to_eye: Float32[np.ndarray, "n 3"],
    visible: Float32[np.ndarray, " n"],
) -> Float32[np.ndarray, "n 3"]:
    """Return the light that surfaces send to the eye: sky and ground, a wrapped key light, a headlight, some gloss.

    All but the headlight fade where little of the sky is visible, the sky's light most.
    """
    key = _unit(np.array(KEY_LIGHT, dtype=np.float32))
    sky = (GROUND + (SKY - GROUND) * (1 + normals[:, 1]) / 2) * visible
    from_key = ((normals @ key + KEY_WRAP) / (1 + KEY_WRAP)).clip(0, None) * (1 - KEY_SHADOW + KEY_SHADOW * visible)
    from_head = np.einsum("ij,ij->i", normals, to_eye).clip(0, None)
    gloss = np.einsum("ij,ij->i", normals, _unit(to_eye + key)).clip(0, None) ** GLOSS_EXPONENT * visible
    return albedo * (sky + KEY * from_key + HEADLIGHT * from_head)[:, None] + GLOSS * gloss[:, None]


def _unit(vectors: Float32[np.ndarray, "*n 3"]) -> Float32[np.ndarray, "*n 3"]:
    """Return vectors with length 1; zero stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32(1e-20))


def _paint_points(
    image: Float32[np.ndarray, "h w 3"], depth: Float32[np.ndarray, "h w"], camera: PictureCamera, points: PointLayer
) -> None:
    """Paint discs that face the viewer, far ones first, where no surface lies clearly in front of them."""
    placed = camera.placed(points.positions)
    order = np.argsort(placed[:, 2], kind="stable")
    order = order[placed[order, 2] < -1e-3]
    colors = _point_colors(points, placed, camera)[order]
    placed = placed[order]
    center = np.floor(camera.project(placed)).astype(int)
    radius = points.radius_px * camera.side / camera.size_px
    reach = math.ceil(radius)
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    offsets = offsets[:, (offsets**2).sum(axis=0) <= max(radius, 0.5) ** 2]
    columns, rows = center[:, :1] + offsets[0], center[:, 1:] + offsets[1]
    inside = (columns >= 0) & (columns < camera.side) & (rows >= 0) & (rows < camera.side)
    point = np.broadcast_to(np.arange(len(placed))[:, None], columns.shape)[inside]
    rows, columns = rows[inside], columns[inside]
    seen = -placed[point, 2] <= depth[rows, columns] + POINT_TOLERANCE
    image[rows[seen], columns[seen]] = colors[point[seen]]


def _point_colors(
    points: PointLayer, placed: Float[np.ndarray, "points 3"], camera: PictureCamera
) -> Float32[np.ndarray, "points 3"]:
    """Return the light that points send to the eye."""
    albedo = np.array(points.color, dtype=np.float32).clip(0, 1) ** np.float32(DISPLAY_GAMMA)
    if points.normals is None:
        behind_nearest = placed[:, 2:].max(initial=-math.inf) - placed[:, 2:]
        paler = (behind_nearest / 2).clip(0, 1) * PALEST_POINT
        return (albedo + (BACKGROUND - albedo) * paler).astype(np.float32)
    normals = _unit(points.normals.detach().float().cpu().numpy() @ camera.axes.T.astype(np.float32))
    to_eye = -_unit(placed) if camera.perspective else np.broadcast_to(np.array([0.0, 0, 1]), placed.shape)
    normals = np.where(np.einsum("ij,ij->i", normals, to_eye)[:, None] < 0, -normals, normals)
    visible = np.ones(len(normals), dtype=np.float32)
    return _shaded(np.broadcast_to(albedo, normals.shape), normals, to_eye, visible).astype(np.float32)
