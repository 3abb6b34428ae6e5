"""Reading and writing of point clouds: PLY, XYZ, PCD, NPY and NPZ in, PLY out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.point_cloud import PointCloud
from shapewright.io.arrays import read_npz
from shapewright.io.files import atomic_write
from shapewright.io.meshes import READ_SUFFIXES as MESH_SUFFIXES
from shapewright.io.point_columns import ply_header, read_pcd_columns, read_ply_columns

CLOUD_SUFFIXES = (".ply", ".xyz", ".txt", ".pts", ".csv", ".pcd", ".npy", ".npz")
_TEXT_SUFFIXES = (".xyz", ".txt", ".pts", ".csv")
_POSITION, _NORMAL, _COLOR = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
_UNIT_TOLERANCE = 0.05

Columns = dict[str, Shaped[np.ndarray, " points"]]


def scan_kind(path: Path) -> Literal["mesh", "cloud", "samples"]:
    """Return what a file holds: a PLY with faces is a mesh, an archive with ``pos`` and ``neg`` is signed distances.

    Raises:
        UserError: if the file is missing or of no known format.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"The scan {path} {what}.", "Give one file: points, a mesh or signed distances.")
    if suffix == ".ply":
        return "mesh" if ply_header(path).count("face") else "cloud"
    if suffix in MESH_SUFFIXES:
        return "mesh"
    if suffix == ".npz":
        return "samples" if {"pos", "neg"} <= set(read_npz(path)) else "cloud"
    if suffix in CLOUD_SUFFIXES:
        return "cloud"
    known = ", ".join(dict.fromkeys(CLOUD_SUFFIXES + MESH_SUFFIXES))
    raise UserError(f"{path}: '{path.suffix}' is no known format of a scan.", f"Known: {known}.")


def read_point_cloud(path: Path) -> PointCloud:
    """Return the points in a file, with normals and colours where it has them.

    Normals come back with length 1, or as zero vectors where they are zero or not finite. Text files and arrays have
    3, 6 or 9 columns: positions first, then vectors of length 1 are normals and others are colours (0 to 1, or to
    255). A PLY's faces are left out. Colours are sRGB.

    Raises:
        UserError: if the file is missing, damaged, of another format, holds no point or a position that is not finite.
    """
    suffix = path.suffix.lower()
    if not path.is_file():
        raise UserError(f"The file {path} does not exist.", "Check the path.")
    if suffix == ".ply":
        columns = read_ply_columns(path)
    elif suffix == ".pcd":
        columns = read_pcd_columns(path)
    elif suffix in _TEXT_SUFFIXES:
        columns = _named_columns(path, _text_table(path))
    elif suffix == ".npy":
        columns = _named_columns(path, _array(path))
    elif suffix == ".npz":
        columns = _archive_columns(path)
    else:
        raise UserError(
            f"{path}: '{path.suffix}' is no known format of a point cloud.", f"Known: {', '.join(CLOUD_SUFFIXES)}."
        )
    return _cloud(path, columns)


def write_point_cloud(path: Path, cloud: PointCloud) -> None:
    """Write a cloud as binary PLY, atomically; positions are float32, colours have 8 bits.

    Raises:
        UserError: if the suffix is not ``.ply``, there is no point, or the file cannot be written.
    """
    if path.suffix.lower() != ".ply":
        raise UserError(f"{path}: point clouds cannot be written as '{path.suffix}'.", "Choose .ply.")
    if not cloud.num_points:
        raise UserError(f"{path}: there is no point to write.", "Look at the cloud's source: it is empty.")
    groups = [(_POSITION, "float", "<f4", cloud.points)]
    if cloud.normals is not None:
        groups.append((_NORMAL, "float", "<f4", cloud.normals))
    if cloud.colors is not None:
        groups.append((_COLOR, "uchar", "u1", (cloud.colors.clamp(0, 1) * 255).round()))
    rows = np.empty(cloud.num_points, [(name, kind) for names, _, kind, _ in groups for name in names])
    for names, _, _, values in groups:
        for index, name in enumerate(names):
            rows[name] = values[:, index].detach().cpu().numpy()
    header = ["ply", "format binary_little_endian 1.0", "comment shapewright", f"element vertex {cloud.num_points}"]
    header += [f"property {word} {name}" for names, word, _, _ in groups for name in names]
    atomic_write(path, ("\n".join([*header, "end_header", ""])).encode() + rows.tobytes())


def _cloud(path: Path, columns: Mapping[str, Shaped[np.ndarray, " points"]]) -> PointCloud:
    """Return the cloud in named columns, checked."""
    points = _vectors(columns, _POSITION)
    if points is None or not len(points):
        raise UserError(f"{path} holds no points.", "It may be empty or hold other data; export the cloud again.")
    bad = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: point {bad[0]} (and {len(bad) - 1} more) is not finite.", "Export the cloud without NaN."
        )
    # Coordinates of surveys are large: float32 would round them before they are centred.
    wide = float(np.abs(points).max()) > 1e3 * float(np.ptp(points, axis=0).max())
    positions = torch.from_numpy(points) if wide else torch.from_numpy(points).float()
    normals = _unit_or_zero(_vectors(columns, _NORMAL))
    colors = _vectors(columns, _COLOR)
    if colors is not None:
        has_bytes = columns[_COLOR[0]].dtype.kind in "ui" or colors.max() > 1.0
        largest = 65535.0 if columns[_COLOR[0]].dtype == np.uint16 else 255.0
        colors = np.nan_to_num(colors / largest if has_bytes else colors).clip(0.0, 1.0)
    return PointCloud(positions, _tensor(normals, positions), _tensor(colors, positions))


def _tensor(values: Float[np.ndarray, "points 3"] | None, like: Float[Tensor, "points 3"]) -> Tensor | None:
    return None if values is None else torch.from_numpy(values).to(like)


def _vectors(
    columns: Mapping[str, Shaped[np.ndarray, " points"]], names: tuple[str, str, str]
) -> Float[np.ndarray, "points 3"] | None:
    """Return three columns side by side, or None if one is missing."""
    if not all(name in columns for name in names):
        return None
    return np.stack([columns[name] for name in names], axis=1).astype(np.float64)


def _unit_or_zero(vectors: Float[np.ndarray, "points 3"] | None) -> Float[np.ndarray, "points 3"] | None:
    if vectors is None:
        return None
    vectors = np.where(np.isfinite(vectors).all(axis=1, keepdims=True), vectors, 0.0)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), 0.0)


def _text_table(path: Path) -> Float[np.ndarray, "rows columns"]:
    """Return the numbers in a text file; separators are blanks, commas or semicolons, a head line is skipped."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    lines = [line.split("#")[0].replace(",", " ").replace(";", " ").split() for line in text.splitlines()]
    numbered = [(number, words) for number, words in enumerate(lines, 1) if words]
    # The number of points alone in the first line (.pts), or the columns' names.
    if numbered and (len(numbered[0][1]) == 1 or not _is_number(numbered[0][1][0])):
        numbered = numbered[1:]
    if not numbered:
        raise UserError(f"{path} holds no points.", "The file is empty; export the cloud again.")
    width = len(numbered[0][1])
    rows = []
    for number, words in numbered:
        try:
            if len(words) != width:
                raise ValueError(f"{len(words)} numbers, but the first line has {width}")
            rows.append([float(word) for word in words])
        except ValueError as error:
            raise UserError(
                f"{path}, line {number}: {error}.", "Each line needs the same 3, 6 or 9 numbers."
            ) from error
    return np.array(rows)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _array(path: Path) -> Shaped[np.ndarray, "rows columns"]:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path} cannot be read as a NumPy array: {error}.", "Write it with numpy.save.") from error


def _named_columns(path: Path, table: Shaped[np.ndarray, "rows columns"]) -> Columns:
    """Return the columns of a table by name."""
    if table.ndim != 2 or table.shape[1] not in (3, 4, 6, 7, 9) or table.dtype.kind not in "fiu":
        raise UserError(
            f"{path}: the table has shape {list(table.shape)} and type {table.dtype}.",
            "Points need 3 columns (x y z), 6 (and normals or colours) or 9 (both).",
        )
    columns = dict(zip(_POSITION, table[:, :3].T, strict=True))
    # A fourth or seventh column is an intensity: it stands before the colours, or alone.
    start = 4 if table.shape[1] in (4, 7) else 3
    for first in range(start, table.shape[1], 3):
        group = table[:, first : first + 3]
        length = np.linalg.norm(group.astype(np.float64), axis=1)
        is_normal = np.mean(np.abs(length - 1.0) < _UNIT_TOLERANCE) > 0.5 or bool((group < 0).any())
        if not group.any() and "nx" not in columns:
            is_normal = True
        columns |= dict(zip(_NORMAL if is_normal else _COLOR, group.T, strict=True))
    return columns


def _archive_columns(path: Path) -> Columns:
    """Return the columns of an archive with ``points`` and perhaps ``normals`` and ``colors``."""
    arrays = read_npz(path)
    columns: Columns = {}
    for key, names in (("points", _POSITION), ("normals", _NORMAL), ("colors", _COLOR)):
        values = arrays.get(key)
        if values is None:
            continue
        if values.ndim != 2 or values.shape[1] != 3 or values.dtype.kind not in "fiu":
            raise UserError(
                f"{path}: {key!r} has shape {list(values.shape)} and type {values.dtype}.", "It needs rows of three."
            )
        columns |= dict(zip(names, values.T, strict=True))
    if "x" not in columns:
        raise UserError(
            f"{path} has no array 'points'; it has {', '.join(arrays) or 'none'}.",
            "Write numpy.savez(file, points=..., normals=...), or pos and neg for signed distances.",
        )
    sizes = {len(column) for column in columns.values()}
    if len(sizes) > 1:
        raise UserError(f"{path}: points, normals and colors differ in length.", "Write one row for each point.")
    return columns
