"""Maps of codes that show whether pictures lie together by their pose or by their object.

Two panels show the same places: coloured by the azimuth of the camera, whose colours go around as it does, and by the
object. Where the poses part the codes, the first is a patchwork of plain colours and the second a mixture; where codes
tell shapes alone it is the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from shapewright.analysis.embed import embed_codes
from shapewright.analysis.vector_drawing import Disc, Drawing, Text, pdf_of
from shapewright.checks import check_finite, check_range, check_shape
from shapewright.io.arrays import write_npz
from shapewright.io.files import atomic_write
from shapewright.io.images import write_image

MOST_POINTS = 5000
TSNE_DIMENSIONS = 50

INK = (50, 50, 50)
PANEL_PX, MARGIN_PX, RING_WIDTH_PX, HEAD_PX = 600, 24, 190, 64
TITLE_FONT_PX, FONT_PX = 22, 16
RING_RADIUS_PX, RING_DOT_PX, RING_DOTS, RING_HEIGHT_PX = 52, 9, 144, 200
LARGEST_DOT_PX, SMALLEST_DOT_PX = 5.0, 1.6
FINER = 3
# Hues of neighbouring objects are this far apart, so that any few are far from each other.
GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))


@dataclass(frozen=True)
class PoseMap:
    """Hold a place on the plane for every picture, with the pose that it was taken from and the object it shows.

    Args:
        positions: On the plane.
        azimuths_deg: Of the cameras, or of the middles of their pose bins.
        objects: A number for each picture's object.
        pictures: Which pictures these are, of those that were given.
        method: How codes became places.
    """

    positions: Float[np.ndarray, "n 2"]
    azimuths_deg: Float[np.ndarray, " n"]
    objects: Int64[np.ndarray, " n"]
    pictures: Int64[np.ndarray, " n"]
    method: Literal["tsne", "pca"] = "tsne"


def map_poses(
    codes: Float[Tensor, "n code"],
    azimuths_deg: Float[Tensor, " n"],
    objects: Int64[Tensor, " n"],
    method: Literal["tsne", "pca"] = "tsne",
    seed: int = 0,
) -> PoseMap:
    """Return places of codes on the plane: t-SNE of their first 50 principal components, of 5000 codes at most.

    Args:
        codes: One row a picture.
        azimuths_deg: Of the pictures' cameras, or of the middles of their pose bins.
        objects: A number for each picture's object.
        method: ``tsne`` needs scikit-learn; ``pca`` is the plane of largest variance.
        seed: Decides which codes are drawn if there are more, and the details of t-SNE.

    Raises:
        ValueError: if shapes disagree, or a value is not finite.
        UserError: if scikit-learn is missing, or there are too few codes.
    """
    check_shape("codes", codes, (None, None))
    check_shape("azimuths_deg", azimuths_deg, (len(codes),))
    check_shape("objects", objects, (len(codes),))
    check_finite("codes", codes)
    check_finite("azimuths_deg", azimuths_deg)
    # Always shuffled: dots that are drawn last would hide the others by object or by pose.
    kept = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:MOST_POINTS]
    rows = principal_components(codes.detach().cpu()[kept], TSNE_DIMENSIONS)
    positions = embed_codes(rows, method, seed=seed)
    azimuths = azimuths_deg.detach().cpu().double()[kept].numpy()
    return PoseMap(positions, azimuths, objects.cpu()[kept].numpy(), kept.numpy(), method)


def principal_components(codes: Float[Tensor, "n code"], most: int) -> Float[Tensor, "n components"]:
    """Return the coordinates of codes along their directions of largest variance; the codes if they have no more.

    Args:
        codes: One row a picture.
        most: How many coordinates are kept.
    """
    check_range("most", most, 1)
    if codes.shape[1] <= most:
        return codes
    centered = (codes - codes.mean(0)).double()
    directions = torch.linalg.eigh(centered.T @ centered).eigenvectors[:, -most:].flip(1)
    # A direction and its opposite are equally good: take the one whose largest entry is positive.
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    return centered @ (directions * torch.where(largest < 0, -1.0, 1.0))


def cyclic_colors(azimuths_deg: Float[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    """Return colours that go once around with the azimuth: hues of OKLab, light at 90 and dark at 270 degrees.

    The lightness tells people apart what the hue alone would not.
    """
    angle = np.radians(np.asarray(azimuths_deg, dtype=np.float64))
    return _srgb_of_oklch(0.66 + 0.14 * np.sin(angle), np.full_like(angle, 0.135), angle)


def object_colors(objects: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n 3"]:
    """Return a colour for every object: hues a golden angle apart, in three lightnesses."""
    rank = np.unique(objects, return_inverse=True)[1].reshape(-1)
    return _srgb_of_oklch(0.55 + 0.11 * (rank % 3), np.full(len(rank), 0.13), rank * GOLDEN_ANGLE)


def draw_pose_map(plot: PoseMap, title: str = "", note: str = "") -> Drawing:
    """Return the two panels, with a ring of the azimuths' colours between them.

    Args:
        plot: What is drawn.
        title: A line above all, such as the name of the run.
        note: A line below it, such as the discrepancy between the poses.
    """
    right = MARGIN_PX + PANEL_PX + RING_WIDTH_PX
    top = HEAD_PX + 2 * FONT_PX
    name = {"tsne": "t-SNE", "pca": "principal plane"}[plot.method]
    count = len(np.unique(plot.objects))
    many = f"{len(plot.objects):,} pictures of {count} object{'s' if count != 1 else ''}"
    texts = [
        Text(MARGIN_PX, MARGIN_PX + 6, title or f"{name} of the codes", TITLE_FONT_PX, INK),
        Text(MARGIN_PX, MARGIN_PX + 32, f"{name}, {many}" + (f". {note}" if note else ""), FONT_PX, INK),
        Text(MARGIN_PX, HEAD_PX + 20, "Coloured by the camera's azimuth", FONT_PX, INK),
        Text(right, HEAD_PX + 20, "Coloured by object", FONT_PX, INK),
        *_ring_texts(top),
    ]
    discs = [
        *_panel(plot.positions, cyclic_colors(plot.azimuths_deg), (MARGIN_PX, top)),
        *_ring(top),
        *_panel(plot.positions, object_colors(plot.objects), (right, top)),
    ]
    height = max(_panel_height(plot.positions), RING_HEIGHT_PX)
    return Drawing(right + PANEL_PX + MARGIN_PX, top + height + MARGIN_PX, tuple(discs), tuple(texts))


def picture_of(drawing: Drawing) -> UInt8[np.ndarray, "h w 3"]:
    """Return a drawing as pixels."""
    image = Image.new("RGB", (drawing.width * FINER, drawing.height * FINER), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for disc in drawing.discs:
        x, y, radius = disc.x * FINER, disc.y * FINER, disc.radius * FINER
        draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=disc.color)
    image = image.reduce(FINER)
    draw = ImageDraw.Draw(image)
    for text in drawing.texts:
        font = ImageFont.load_default(text.size)
        draw.text((text.x, text.y), text.text, font=font, fill=text.color, anchor="mm" if text.is_centered else "lm")
    return np.asarray(image)


def write_pose_map(stem: Path, plot: PoseMap, title: str = "", note: str = "") -> list[Path]:
    """Return the files that it writes: the map as ``.png`` and as ``.pdf``, its coordinates as ``.npz``.

    Args:
        stem: The files' name without a suffix.
        plot: What is drawn.
        title: A line above all.
        note: A line below it.

    Raises:
        UserError: if a file cannot be written.
    """
    drawing = draw_pose_map(plot, title, note)
    paths = [stem.with_name(stem.name + suffix) for suffix in (".png", ".pdf", ".npz")]
    write_image(paths[0], picture_of(drawing))
    atomic_write(paths[1], pdf_of(drawing))
    names = ("positions", "azimuths_deg", "objects", "pictures")
    write_npz(paths[2], {name: getattr(plot, name) for name in names})
    return paths


def _dot_radius(count: int) -> float:
    return float(np.clip(120 / math.sqrt(max(count, 1)), SMALLEST_DOT_PX, LARGEST_DOT_PX))


def _panel_height(positions: Float[np.ndarray, "n 2"]) -> int:
    """Return how high a panel is: as its places are, or as wide if they are higher than wide."""
    across, up = np.ptp(positions, axis=0).tolist()
    rim = 2 * _dot_radius(len(positions))
    return math.ceil(rim + (PANEL_PX - rim) * up / max(across, up, 1e-12))


def _panel(
    positions: Float[np.ndarray, "n 2"], colors: UInt8[np.ndarray, "n 3"], corner: tuple[int, int]
) -> Iterator[Disc]:
    """Yield a dot for every place, y upwards; both axes have one scale."""
    radius = _dot_radius(len(positions))
    lower, upper = positions.min(axis=0), positions.max(axis=0)
    scale = (PANEL_PX - 2 * radius) / max(float((upper - lower).max()), 1e-12)
    middle = np.array([PANEL_PX, _panel_height(positions)]) / 2
    places = (positions - (lower + upper) / 2) * [scale, -scale] + middle + corner
    for (x, y), color in zip(places.tolist(), colors.tolist(), strict=True):
        yield Disc(x, y, radius, (color[0], color[1], color[2]))


def _ring_center(top: int) -> tuple[float, float]:
    return MARGIN_PX + PANEL_PX + RING_WIDTH_PX / 2, top + RING_RADIUS_PX + 50


def _ring(top: int) -> Iterator[Disc]:
    """Yield the legend of the azimuths' colours: 0 degrees on the right, 90 above."""
    x, y = _ring_center(top)
    azimuths = np.arange(RING_DOTS) * 360.0 / RING_DOTS
    for azimuth, color in zip(np.radians(azimuths).tolist(), cyclic_colors(azimuths).tolist(), strict=True):
        place = (x + RING_RADIUS_PX * math.cos(azimuth), y - RING_RADIUS_PX * math.sin(azimuth))
        yield Disc(*place, RING_DOT_PX, (color[0], color[1], color[2]))


def _ring_texts(top: int) -> Iterator[Text]:
    x, y = _ring_center(top)
    yield Text(x, y, "azimuth", FONT_PX, INK, is_centered=True)
    away = RING_RADIUS_PX + RING_DOT_PX + FONT_PX
    for azimuth in (0, 90, 180, 270):
        place = (x + away * math.cos(math.radians(azimuth)), y - away * math.sin(math.radians(azimuth)))
        yield Text(*place, f"{azimuth}°", FONT_PX - 2, INK, is_centered=True)


def _srgb_of_oklch(
    lightness: Float[np.ndarray, " n"], chroma: Float[np.ndarray, " n"], hue: Float[np.ndarray, " n"]
) -> UInt8[np.ndarray, "n 3"]:
    """Return sRGB bytes of OKLab colours in polar coordinates (Ottosson, A perceptual color space, 2020)."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = (to_linear @ cones**3).T.clip(0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (255 * srgb).round().astype(np.uint8)
