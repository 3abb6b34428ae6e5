"""Pictures of maps of codes: thumbnails of the shapes, or dots in the colours of their labels."""

from __future__ import annotations

import base64
import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from shapewright.errors import UserError
from shapewright.io.files import atomic_write
from shapewright.io.images import encode_image

Picture = UInt8[np.ndarray, "h w 3"]

# Told apart by people who see red and green alike (Okabe and Ito, 2008).
PALETTE = ((0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (213, 94, 0), (86, 180, 233), (90, 90, 90))
INK = (50, 50, 50)
DOT_PX, MARGIN_PX, LINE_PX, FONT_PX = 6, 24, 20, 14
FINER = 8
# Thumbnails keep this share of their size apart: shapes seldom fill their picture's corners.
SPACING = 0.8
SPREADING_ROUNDS = 200


@dataclass(frozen=True)
class EmbeddingPlot:
    """Hold a map of shapes and how it is drawn.

    Args:
        positions: A place on the plane for every shape.
        names: Of the shapes, shown in the SVG when the mouse rests on one.
        labels: A class for every shape, shown as colours with a legend.
        thumbnails: A picture of every shape on white, drawn in the place of dots; neighbours make way for each other.
        size_px: Width and height of the map.

    Raises:
        ValueError: if there is no shape, or as many names, labels or thumbnails as shapes are not given.
    """

    positions: Float[np.ndarray, "shapes 2"]
    names: Sequence[str] = ()
    labels: Sequence[str] = ()
    thumbnails: Sequence[Picture] = ()
    size_px: int = 900

    def __post_init__(self) -> None:
        if self.positions.ndim != 2 or self.positions.shape[1] != 2 or not len(self.positions):
            raise ValueError(f"positions must have shape [any, 2] with a row at least, got {self.positions.shape}.")
        if not np.isfinite(self.positions).all():
            raise ValueError("positions must be finite.")
        for name in ("names", "labels", "thumbnails"):
            count = len(getattr(self, name))
            if count not in (0, len(self.positions)):
                raise ValueError(f"{name} must be {len(self.positions)} or none, got {count}.")

    @property
    def colors(self) -> dict[str, tuple[int, int, int]]:
        """Return the colour of every label, in alphabetical order."""
        labels = sorted(set(self.labels))
        if len(labels) <= len(PALETTE):
            return dict(zip(labels, PALETTE, strict=False))
        hues = [colorsys.hsv_to_rgb(i / len(labels), 0.75, 0.8) for i in range(len(labels))]
        return {
            label: (round(255 * r), round(255 * g), round(255 * b))
            for label, (r, g, b) in zip(labels, hues, strict=True)
        }

    def color_of(self, shape: int) -> tuple[int, int, int]:
        """Return the colour of a shape's dot."""
        return self.colors[self.labels[shape]] if self.labels else PALETTE[0]

    def places_px(self) -> Float[np.ndarray, "shapes 2"]:
        """Return column and row of the middle of every dot or thumbnail, y upwards; both axes have one scale."""
        lower, upper = self.positions.min(axis=0), self.positions.max(axis=0)
        cell = np.array([max((t.shape[axis] for t in self.thumbnails), default=2 * DOT_PX) for axis in (1, 0)])
        room = np.maximum(self.size_px - cell - 2 * MARGIN_PX, 1)
        scale = float((room / np.maximum(upper - lower, 1e-12)).min())
        places = (self.positions - (lower + upper) / 2) * min(scale, 1e12) * [1, -1] + self.size_px / 2
        if len(self.thumbnails):
            places = _spread(places, cell * SPACING, self.size_px)
        return places

    def height_px(self) -> int:
        """Return the height with the legend."""
        return self.size_px + LINE_PX * len(self.colors) + (MARGIN_PX if self.labels else 0)


def draw_embedding(plot: EmbeddingPlot) -> Picture:
    """Return the map as a picture."""
    sheet = np.full((plot.height_px(), plot.size_px, 3), 255, dtype=np.uint8)
    places = plot.places_px()
    for place, thumbnail in zip(places, plot.thumbnails, strict=False):
        _darken(sheet, thumbnail, place)
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(FONT_PX)
    for x, y, radius, color in _dots(plot, places):
        _draw_dot(image, (x, y), radius, color)
    for line, (label, color) in enumerate(plot.colors.items()):
        y = plot.size_px + LINE_PX * (line + 0.5)
        _draw_dot(image, (MARGIN_PX, y), DOT_PX, color)
        draw.text((MARGIN_PX + 2 * DOT_PX, y), label, font=font, fill=INK, anchor="lm")
    return np.asarray(image)


def embedding_svg(plot: EmbeddingPlot) -> str:
    """Return the map as SVG that needs no other file."""
    width, height = plot.size_px, plot.height_px()
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="{FONT_PX}">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    places = plot.places_px()
    titles = [f"<title>{escape(name)}</title>" for name in plot.names] or [""] * len(places)
    for title, (x, y), thumbnail in zip(titles, places, plot.thumbnails, strict=False):
        rows, columns = thumbnail.shape[:2]
        data = base64.b64encode(encode_image(thumbnail)).decode()
        parts.append(
            f'<image x="{x - columns / 2:.1f}" y="{y - rows / 2:.1f}" width="{columns}" height="{rows}" '
            f'style="mix-blend-mode:darken" href="data:image/png;base64,{data}">{title}</image>'
        )
    for title, (x, y, radius, color) in zip(titles, _dots(plot, places), strict=False):
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{_hex(color)}">{title}</circle>')
    for line, (label, color) in enumerate(plot.colors.items()):
        y = plot.size_px + LINE_PX * (line + 0.5)
        parts.append(f'<circle cx="{MARGIN_PX}" cy="{y}" r="{DOT_PX}" fill="{_hex(color)}"/>')
        parts.append(f'<text x="{MARGIN_PX + 2 * DOT_PX}" y="{y + FONT_PX / 3:.1f}">{escape(label)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def write_embedding(path: Path, plot: EmbeddingPlot) -> None:
    """Write the map as ``.png`` or ``.svg``, atomically.

    Raises:
        UserError: if the suffix is neither, or the file cannot be written.
    """
    suffix = path.suffix.lower()
    if suffix == ".png":
        atomic_write(path, encode_image(draw_embedding(plot)))
    elif suffix == ".svg":
        atomic_write(path, embedding_svg(plot).encode())
    else:
        raise UserError(f"{path}: maps cannot be written as '{path.suffix}'.", "Choose .png or .svg.")


def _spread(
    places: Float[np.ndarray, "shapes 2"], cell: Float[np.ndarray, " 2"], size_px: int
) -> Float[np.ndarray, "shapes 2"]:
    """Return places pushed apart, each pair along the axis that needs less, until cells hardly overlap."""
    places = places.copy()
    # Shapes at one place need a direction to part in.
    places += np.stack([np.cos(np.arange(len(places))), np.sin(np.arange(len(places)))], axis=-1) * 1e-3
    for _ in range(SPREADING_ROUNDS):
        apart = places[:, None] - places[None]
        overlap = cell - np.abs(apart)
        touching = (overlap > 0).all(axis=-1) & ~np.eye(len(places), dtype=bool)
        if not touching.any():
            break
        along = np.argmin(overlap / cell, axis=-1)[..., None] == np.arange(2)
        push = np.where(along & touching[..., None], overlap * np.where(apart < 0, -1, 1), 0.0)
        places += 0.25 * push.sum(axis=1)
        places = places.clip(MARGIN_PX + cell / 2, size_px - MARGIN_PX - cell / 2)
    return places


def _darken(sheet: Picture, thumbnail: Picture, place: Float[np.ndarray, " 2"]) -> None:
    """Paint a picture on white over a sheet, so that its white hides nothing."""
    rows, columns = thumbnail.shape[:2]
    top, left = round(float(place[1]) - rows / 2), round(float(place[0]) - columns / 2)
    first_row, first_column = max(0, -top), max(0, -left)
    shown = thumbnail[first_row : sheet.shape[0] - top, first_column : sheet.shape[1] - left]
    target = sheet[top + first_row :, left + first_column :][: shown.shape[0], : shown.shape[1]]
    np.minimum(target, shown, out=target)


def _dots(
    plot: EmbeddingPlot, places: Float[np.ndarray, "shapes 2"]
) -> list[tuple[float, float, int, tuple[int, int, int]]]:
    """Return column, row, radius and colour of the dots: none where thumbnails stand alone, else below them."""
    if not plot.thumbnails:
        return [(x, y, DOT_PX, plot.color_of(shape)) for shape, (x, y) in enumerate(places)]
    below = [SPACING / 2 * thumbnail.shape[0] for thumbnail in plot.thumbnails]
    return [(x, y + below[i], DOT_PX // 2, plot.color_of(i)) for i, (x, y) in enumerate(places) if plot.labels]


def _draw_dot(image: Image.Image, center: tuple[float, float], radius: int, color: tuple[int, int, int]) -> None:
    """Paint a disc with soft edges."""
    side = 2 * radius + 2
    mask = Image.new("L", (side * FINER, side * FINER))
    ImageDraw.Draw(mask).ellipse([FINER, FINER, FINER * (side - 1), FINER * (side - 1)], fill=255)
    left, top = (round(float(value) - side / 2) for value in center)
    image.paste(color, (left, top, left + side, top + side), mask.reduce(FINER))


def _hex(color: tuple[int, int, int]) -> str:
    return "#" + "".join(f"{value:02x}" for value in color)
