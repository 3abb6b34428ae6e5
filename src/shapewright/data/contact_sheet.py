"""A picture of a whole scene: every view with mask, hull and unit sphere, and where the cameras stand."""

from __future__ import annotations

import textwrap

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch import Tensor

from shapewright.data.check import EPIPOLAR_WARNING_PX, IOU_WARNING, MOST_VIEWS, SceneReport, ViewRow
from shapewright.data.scene import Scene
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.voxels import hull_silhouette, resize_mask, surface_samples

COLUMNS = 8
CELL = 224
CAPTION = 34
PLOT = 440
MARGIN = 8
INK, PAPER, MUTED = (30, 30, 34), (250, 250, 248), (120, 120, 126)
MASK, HULL, SPHERE, BAD = (40, 200, 90), (240, 70, 60), (60, 150, 255), (215, 40, 40)


def draw_contact_sheet(scene: Scene, report: SceneReport) -> UInt8[np.ndarray, "h w 3"]:
    """Return the contact sheet of a checked scene.

    Each cell shows a picture, dark outside its mask, with the outlines of the
    mask (green), of the hull carved from all masks (red) and of the unit sphere
    (blue); its caption turns red where the hull or the feature matches disagree.

    Args:
        scene: The scene.
        report: What ``check_scene`` said of it.
    """
    stride = -(-len(scene.views) // MOST_VIEWS)
    shown = range(0, len(scene.views), stride)
    samples = _hull_samples(report)
    cells = [_cell(scene, report, samples, view) for view in shown]
    height = max(cell.height for cell in cells)
    rows = -(-len(cells) // COLUMNS)
    top = PLOT + 3 * MARGIN
    sheet = Image.new("RGB", (COLUMNS * (CELL + MARGIN) + MARGIN, top + rows * (height + MARGIN)), PAPER)
    for index, (title, axes) in enumerate(_plot_axes(scene.cameras)):
        sheet.paste(_camera_plot(scene, report, title, axes), (MARGIN + index * (PLOT + MARGIN), MARGIN))
    _write_report(sheet, report, left=2 * (PLOT + MARGIN) + 2 * MARGIN)
    for index, cell in enumerate(cells):
        row, column = divmod(index, COLUMNS)
        sheet.paste(cell, (MARGIN + column * (CELL + MARGIN), top + row * (height + MARGIN)))
    return np.asarray(sheet)


def sphere_outline(cameras: Cameras, view: int) -> Float[np.ndarray, "n 2"]:
    """Return the pixels of the unit sphere's outline; empty from inside or if it is not all in front.

    A camera at ``C`` sees the circle of radius ``sqrt(1 - 1/|C|^2)`` around
    ``C / |C|^2``, perpendicular to ``C``.
    """
    center = cameras.centers[view].double()
    distance = center.norm()
    if distance <= 1.0:
        return np.zeros((0, 2))
    helper = torch.eye(3, dtype=torch.float64)[center.abs().argmin()]
    first = torch.nn.functional.normalize(torch.linalg.cross(center, helper), dim=0)
    second = torch.linalg.cross(center / distance, first)
    angle = torch.linspace(0, 2 * torch.pi, 97, dtype=torch.float64)[:, None]
    radius = (1 - 1 / distance**2).sqrt()
    points = center / distance**2 + radius * (angle.cos() * first + angle.sin() * second)
    uv, depth = cameras.project(points, view)
    return uv.numpy() if bool((depth > 0).all()) else np.zeros((0, 2))


def _cell(scene: Scene, report: SceneReport, samples: tuple[Tensor, float] | None, view: int) -> Image.Image:
    """Draw one view with its outlines and caption."""
    picture = scene.picture(view)
    height = max(1, round(CELL * picture.rgb.shape[0] / picture.rgb.shape[1]))
    small = scene.cameras[view].resized(torch.tensor([[CELL, height]]))
    pixels = np.array(Image.fromarray(picture.rgb).resize((CELL, height), Image.Resampling.BOX))
    if picture.alpha is not None:
        mask = resize_mask(torch.from_numpy(picture.alpha > 127), CELL, height).numpy()
        pixels[~mask] = pixels[~mask] // 3
    if samples is not None:
        hull = resize_mask(hull_silhouette(*samples, small, 0), CELL, height).numpy()
        pixels[_edge(hull)] = HULL
    if picture.alpha is not None:
        pixels[_edge(mask)] = MASK
    cell = Image.new("RGB", (CELL, height + CAPTION), PAPER)
    cell.paste(Image.fromarray(pixels), (0, 0))
    draw = ImageDraw.Draw(cell)
    outline = sphere_outline(small, 0)
    if len(outline):
        draw.line([tuple(point) for point in outline.tolist()], fill=SPHERE, width=1)
    draw.rectangle((0, height, CELL, height + CAPTION), fill=PAPER)
    _write_caption(draw, report.rows[view] if report.rows else None, scene.views[view].name, view in scene.test, height)
    return cell


def _hull_samples(report: SceneReport) -> tuple[Tensor, float] | None:
    """Return points on the hull's surface and their spacing, if there is a hull."""
    if report.hull is None:
        return None
    return surface_samples(report.hull.occupied, report.hull.lower, report.hull.upper)


def _edge(mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Return the pixels of a mask that touch its outside."""
    return mask & ~ndimage.binary_erosion(mask, border_value=1)


def _write_caption(draw: ImageDraw.ImageDraw, row: ViewRow | None, name: str, held_out: bool, top: int) -> None:
    """Write name, split and measurements under a cell, red where they are bad."""
    draw.text((2, top + 1), name + (" (held out)" if held_out else ""), fill=INK, font=_font(13))
    if row is None:
        return
    words = []
    if row.hull_iou is not None:
        words.append((f"IoU {row.hull_iou:.2f}", row.hull_iou < IOU_WARNING))
    if row.epipolar_px is not None:
        words.append((f"epipolar {row.epipolar_px:.2f} px", row.epipolar_px > EPIPOLAR_WARNING_PX))
    left = 2.0
    for text, is_bad in words:
        draw.text((left, top + 16), text, fill=BAD if is_bad else MUTED, font=_font(13))
        left += _font(13).getlength(text) + 10


def _plot_axes(cameras: Cameras) -> list[tuple[str, Float[np.ndarray, "2 3"]]]:
    """Return title and the two directions (right, up on paper) of the plots from above and the side.

    Up is the mean of the images' upper sides; right is where most cameras stand.
    """
    up = torch.nn.functional.normalize(-cameras.world_from_camera[:, :, 1].mean(0), dim=0)
    right = cameras.centers.mean(0)
    right = right - (right @ up) * up
    if right.norm() < 0.1 * cameras.centers.norm(dim=1).mean():
        right = torch.linalg.cross(torch.eye(3, dtype=up.dtype)[up.abs().argmin()], up)
    right = torch.nn.functional.normalize(right, dim=0)
    away = torch.linalg.cross(up, right)
    return [
        ("cameras from above", torch.stack([right, away]).numpy()),
        ("cameras from the side", torch.stack([right, up]).numpy()),
    ]


def _camera_plot(scene: Scene, report: SceneReport, title: str, axes: Float[np.ndarray, "2 3"]) -> Image.Image:
    """Draw unit sphere, hull and viewing frusta, projected along one direction."""
    length = 0.15 * float(scene.cameras.centers.norm(dim=1).median())
    frusta = np.stack([_frustum(scene.cameras, view, length) @ axes.T for view in range(len(scene.views))])
    low = np.minimum(frusta.reshape(-1, 2).min(0), -1)
    high = np.maximum(frusta.reshape(-1, 2).max(0), 1)
    middle, zoom = (low + high) / 2, 0.9 * PLOT / (high - low).max()

    def place(points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        return PLOT / 2 + (points - middle) * [zoom, -zoom]

    pixels = np.full((PLOT, PLOT, 3), 255, dtype=np.uint8)
    hull = _hull_samples(report)
    if hull is not None:
        at = place(hull[0].numpy() @ axes.T).astype(int).clip(0, PLOT - 1)
        pixels[at[:, 1], at[:, 0]] = HULL
    plot = Image.fromarray(pixels)
    draw = ImageDraw.Draw(plot)
    ((left, top), (right, bottom)) = place(np.array([[-1.0, 1.0], [1.0, -1.0]]))
    draw.ellipse((left, top, right, bottom), outline=SPHERE, width=2)
    for view, corners in enumerate(place(frusta.reshape(-1, 2)).reshape(-1, 5, 2)):
        color = _camera_color(scene, report, view)
        for i, j in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
            draw.line([*corners[i], *corners[j]], fill=color, width=1)
        if view % -(-len(scene.views) // 30) == 0:
            draw.text(tuple(corners[0] + 2), str(view), fill=INK, font=_font(11))
    draw.text((6, 4), title, fill=INK, font=_font(15))
    return plot


def _frustum(cameras: Cameras, view: int, length: float) -> Float[np.ndarray, "5 3"]:
    """Return the centre of a camera and the corners of its image at a distance."""
    width, height = cameras.sizes[view].tolist()
    corners = torch.tensor([[0, 0], [width, 0], [width, height], [0, height]], dtype=torch.float64)
    origins, directions = cameras.rays(view, corners)
    return torch.cat([origins[:1], origins + length * directions]).numpy()


def _camera_color(scene: Scene, report: SceneReport, view: int) -> tuple[int, int, int]:
    """Return red for cameras that the pictures contradict, blue for held-out ones, else grey."""
    error = report.rows[view].epipolar_px if report.rows else None
    if error is not None and error > EPIPOLAR_WARNING_PX:
        return BAD
    return SPHERE if view in scene.test else MUTED


def _write_report(sheet: Image.Image, report: SceneReport, left: int) -> None:
    """Write the report beside the plots, errors in red."""
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    legend = (("mask", MASK), ("hull, inexact cameras", HULL), ("unit sphere, held-out cameras", SPHERE))
    at = float(left)
    for text, color in legend:
        draw.text((at, top), text, fill=color, font=_font(16))
        at += _font(16).getlength(text) + 18
    top += 28
    per_line = (sheet.width - left) // 8
    for line in report.lines():
        for part in textwrap.wrap(line, per_line) or [""]:
            if top > PLOT - 12:
                return
            draw.text((left, top), part, fill=BAD if line.startswith("error") else INK, font=_font(15))
            top += 20


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font."""
    return ImageFont.load_default(size)
