"""Drawings of discs and lines of text, as PDF: sharp at any size, without a plotting library."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

Rgb = tuple[int, int, int]

# Widths of Helvetica's letters in thousandths of its size: near enough to centre short texts.
MEAN_LETTER = 0.53
# From the middle of a line of text down to its base line, in its size.
TO_BASE_LINE = 0.35


@dataclass(frozen=True)
class Disc:
    """Hold a filled circle: its middle from the upper left corner, in px, and its sRGB colour."""

    x: float
    y: float
    radius: float
    color: Rgb


@dataclass(frozen=True)
class Text:
    """Hold a line of text, ``x`` its beginning, or its middle if centred, ``y`` the middle of its height."""

    x: float
    y: float
    text: str
    size: int
    color: Rgb
    is_centered: bool = False


@dataclass(frozen=True)
class Drawing:
    """Hold what is drawn on white, in this order."""

    width: int
    height: int
    discs: tuple[Disc, ...] = ()
    texts: tuple[Text, ...] = ()


def pdf_of(drawing: Drawing) -> bytes:
    """Return a drawing as a PDF of one page (ISO 32000-1), a point a pixel.

    Letters outside Latin-1 become question marks.
    """
    commands = ["1 J"]
    last: tuple[Rgb, float] | None = None
    for disc in drawing.discs:
        if (disc.color, disc.radius) != last:
            last = (disc.color, disc.radius)
            commands.append(f"{_color(disc.color)} RG {2 * disc.radius:.2f} w")
        # A line without a length, with round ends, is a disc.
        place = f"{disc.x:.2f} {drawing.height - disc.y:.2f}"
        commands.append(f"{place} m {place} l S")
    for text in drawing.texts:
        letters = text.text.encode("latin-1", "replace").decode("latin-1")
        escaped = letters.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
        x = text.x - (MEAN_LETTER * text.size * len(letters) / 2 if text.is_centered else 0)
        y = drawing.height - text.y - TO_BASE_LINE * text.size
        commands.append(f"BT {_color(text.color)} rg /F {text.size} Tf {x:.2f} {y:.2f} Td ({escaped}) Tj ET")
    content = zlib.compress("\n".join(commands).encode("latin-1"), 9)
    box = f"[0 0 {drawing.width} {drawing.height}]"
    resources = "<< /Font << /F 5 0 R >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R /Resources {resources} >>".encode(),
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    return _file_of(objects)


def _file_of(objects: list[bytes]) -> bytes:
    """Return a PDF file: the objects, the table of where they begin, and where the table begins."""
    file = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    starts = []
    for number, value in enumerate(objects, start=1):
        starts.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, value)
    table = len(file)
    file += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for start in starts:
        file += b"%010d 00000 n \n" % start
    file += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(file)


def _color(color: Rgb) -> str:
    return " ".join(f"{value / 255:.3f}" for value in color)
