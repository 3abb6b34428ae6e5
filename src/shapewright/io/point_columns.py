"""The columns of numbers in PLY and PCD files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from shapewright.errors import UserError

Columns = dict[str, Shaped[np.ndarray, " points"]]

_HEADER_BYTES = 1 << 16
_PLY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_PLY_NAMES = {
    "normal_x": "nx", "normal_y": "ny", "normal_z": "nz", "r": "red", "g": "green", "b": "blue",
    "diffuse_red": "red", "diffuse_green": "green", "diffuse_blue": "blue",
}  # fmt: skip
_PCD_NAMES = {"normal_x": "nx", "normal_y": "ny", "normal_z": "nz"}


@dataclass(frozen=True)
class PlyElement:
    """Hold one element of a PLY header: its name, number, and properties as pairs of name and type (None: a list)."""

    name: str
    count: int
    properties: tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class PlyHeader:
    """Hold what a PLY header says.

    Args:
        order: ``a`` for ASCII, else numpy's sign of the byte order.
        elements: In the order of the file.
        size: Bytes up to the data.
    """

    order: str
    elements: tuple[PlyElement, ...]
    size: int

    def count(self, name: str) -> int:
        """Return the number of an element, 0 if it is missing."""
        return sum(element.count for element in self.elements if element.name == name)


def ply_header(path: Path) -> PlyHeader:
    """Return the header of a PLY file.

    Raises:
        UserError: if the file cannot be read or does not start with a PLY header.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEADER_BYTES)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    mark = head.find(b"end_header")
    end = head.find(b"\n", mark) + 1
    if not head.startswith(b"ply") or mark < 0 or not end:
        raise UserError(f"{path} is not a PLY file: its header is missing or cut off.", "Export it again.")
    try:
        return _parsed_header(head[:mark].decode("ascii", errors="replace"), end)
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: the PLY header is damaged: {error}.", "Export it again.") from error


def _parsed_header(text: str, size: int) -> PlyHeader:
    orders = {"ascii": "a", "binary_little_endian": "<", "binary_big_endian": ">"}
    order, elements = "", []
    for words in (line.split() for line in text.splitlines()[1:]):
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format":
            order = orders[words[1]]
        elif words[0] == "element":
            if int(words[2]) < 0:
                raise ValueError(f"element {words[1]} has the count {words[2]}")
            elements.append(PlyElement(words[1], int(words[2]), ()))
        elif words[0] == "property":
            last = elements[-1]
            kind = None if words[1] == "list" else _PLY_TYPES[words[1]]
            elements[-1] = PlyElement(last.name, last.count, (*last.properties, (words[-1], kind)))
        else:
            raise ValueError(f"unknown line {' '.join(words)!r}")
    if not order:
        raise ValueError("no format line")
    return PlyHeader(order, tuple(elements), size)


def read_ply_columns(path: Path) -> Columns:
    """Return the properties of a PLY's vertices by name: ``x y z``, ``nx ny nz``, ``red green blue`` and others.

    Raises:
        UserError: if the file is damaged or cut off, or lists stand before the vertices.
    """
    header = ply_header(path)
    data = path.read_bytes()[header.size :]
    offset = 0
    for element in header.elements:
        if element.name == "vertex":
            columns = _ply_rows(path, header, element, data, offset)
            return {_PLY_NAMES.get(name, name): values for name, values in columns.items()}
        if any(kind is None for _, kind in element.properties):
            raise UserError(f"{path}: lists ({element.name}) stand before the vertices.", "Export the points alone.")
        offset += element.count * (1 if header.order == "a" else _row_type(header, element).itemsize)
    raise UserError(f"{path} holds no points.", "It has no element 'vertex'; export the cloud again.")


def _row_type(header: PlyHeader, element: PlyElement) -> np.dtype:
    order = "<" if header.order == "a" else header.order
    return np.dtype([(name, order + str(kind)) for name, kind in element.properties])


def _ply_rows(path: Path, header: PlyHeader, element: PlyElement, data: bytes, offset: int) -> Columns:
    """Return the columns of the vertices, which start at a byte, or a line of an ASCII file."""
    names = [name for name, _ in element.properties]
    if any(kind is None for _, kind in element.properties) or len(set(names)) != len(names):
        raise UserError(f"{path}: vertices with lists or doubled properties cannot be read.", "Export it again.")
    kind = _row_type(header, element)
    if header.order != "a":
        if len(data) < offset + element.count * kind.itemsize:
            raise _cut_off(path, element.count)
        rows = np.frombuffer(data, kind, element.count, offset)
        return {name: rows[name] for name in names}
    lines = [line for line in data.decode("ascii", errors="replace").splitlines() if line.strip()]
    words = [line.split()[: len(names)] for line in lines[offset : offset + element.count]]
    if len(words) < element.count:
        raise _cut_off(path, element.count)
    try:
        table = np.array(words, dtype=np.float64).reshape(element.count, len(names))
    except ValueError as error:
        raise UserError(f"{path} has a line that is not {len(names)} numbers: {error}.", "Export it again.") from error
    return {name: table[:, i].astype(kind[name]) for i, name in enumerate(names)}


def _cut_off(path: Path, count: int) -> UserError:
    return UserError(f"{path} is cut off: it should hold {count:,} points.", "Download or export it again.")


def read_pcd_columns(path: Path) -> Columns:
    """Return the fields of a PCD file (version 0.7, ASCII or binary) by name; points that are not finite are left out.

    Scanners write pixels without a depth as NaN.

    Raises:
        UserError: if the file is damaged, cut off or compressed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    mark = data.find(b"\nDATA ")
    end = data.find(b"\n", mark + 1) + 1
    if mark < 0 or not end:
        raise UserError(f"{path} is not a PCD file: it has no line DATA.", "Export it again.")
    lines = [line.split() for line in data[:end].decode("ascii", errors="replace").splitlines()]
    head = {words[0]: words[1:] for words in lines if words and not words[0].startswith("#")}
    try:
        columns = _pcd_rows(path, head, data[end:])
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise UserError(f"{path}: the PCD file is damaged: {error}.", "Export it again.") from error
    if not {"x", "y", "z"} <= set(columns):
        return {}
    kept = np.isfinite(np.stack([columns[name] for name in "xyz"], axis=1)).all(axis=1)
    columns = {_PCD_NAMES.get(name, name): values[kept] for name, values in columns.items()}
    return columns | _packed_colors(columns)


def _pcd_rows(path: Path, head: dict[str, list[str]], data: bytes) -> Columns:
    names, sizes, kinds = head["FIELDS"], head["SIZE"], head["TYPE"]
    counts = [int(word) for word in head.get("COUNT", ["1"] * len(names))]
    letters = {"F": "f", "I": "i", "U": "u"}
    kind = np.dtype(
        [
            (name if name != "_" else f"_{i}", f"<{letters[k]}{size}", (count,))
            for i, (name, k, size, count) in enumerate(zip(names, kinds, sizes, counts, strict=True))
        ]
    )
    number, form = int(head["POINTS"][0]), head["DATA"][0]
    if form == "binary":
        if len(data) < number * kind.itemsize:
            raise _cut_off(path, number)
        rows = np.frombuffer(data, kind, number)
        return {name: rows[name][:, 0] for name in kind.names or () if rows[name].shape[1] == 1}
    if form != "ascii":
        raise UserError(f"{path}: PCD data of the form {form!r} cannot be read.", "Save it as binary or ascii.")
    words = data.split()
    if len(words) < number * sum(counts):
        raise _cut_off(path, number)
    table = np.array(words[: number * sum(counts)], dtype=np.float64).reshape(number, sum(counts))
    starts = np.cumsum([0, *counts])
    return {
        name: table[:, start].astype(kind[name].base)
        for name, start, count in zip(kind.names or (), starts, counts, strict=False)
        if count == 1
    }


def _packed_colors(columns: Columns) -> Columns:
    """Return the colours that PCD packs into the bits of one number."""
    packed = columns.get("rgb", columns.get("rgba"))
    if packed is None or packed.dtype.itemsize != 4:
        return {}
    bits = packed.astype(packed.dtype.newbyteorder("=")).view(np.uint32)
    names = ("red", "green", "blue")
    return {name: ((bits >> shift) & 255).astype(np.uint8) for name, shift in zip(names, (16, 8, 0), strict=True)}
