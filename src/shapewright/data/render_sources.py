"""What there is to render: meshes in files and folders, with their categories and clusters of near copies."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from shapewright.data import creatures
from shapewright.data.shapenet import PLAIN_CLASS, MeshSource, find_meshes
from shapewright.errors import UserError
from shapewright.io.meshes import READ_SUFFIXES

INDEX = "index.csv"
PROCEDURAL, MOST_MADE_UP = "procedural:", 100_000
CATEGORY, KEY, CLUSTER = "category", "key", "shape_cluster"


@dataclass(frozen=True, order=True)
class RenderSource:
    """Name one object.

    Args:
        shape_class: Its category, a part of file names.
        name: What it is called, once in its category.
        path: The mesh's file; None: it is made up from its name.
        cluster: Near copies share one; None: the object has none.
    """

    shape_class: str
    name: str
    path: Path | None = None
    cluster: str | None = None


@dataclass(frozen=True)
class _Row:
    category: str
    key: str
    cluster: str | None


def find_sources(words: Sequence[str]) -> list[RenderSource]:
    """Return the objects that the words of a command name, sorted by category and name.

    A word is a file, a folder as ``find_meshes`` reads it, or a table (``.csv``) with the columns ``category``, ``key``
    and, if known, ``shape_cluster``, whose meshes lie beside it or in a folder of their category. A table ``index.csv``
    in the folder of a mesh, or in the one above, says the mesh's category and cluster. Without one the category is the
    name of the folder. ``procedural:1000`` means so many made-up objects, of the category ``creature``.

    Args:
        words: What the user gave.

    Raises:
        UserError: if there is no such file, no mesh, a table is not as said, or two objects have one name.
    """
    if not words:
        raise UserError("There is nothing to render.", "Give meshes, folders of meshes, or a table of them.")
    found: list[RenderSource] = []
    for word in words:
        path = Path(word)
        if word.startswith(PROCEDURAL):
            found += _made_up(word)
            continue
        found += _from_table(path) if path.suffix.lower() == ".csv" else map(_source, find_meshes(path))
    # What is named twice is one object.
    found = list(dict.fromkeys(found))
    found.sort(key=lambda source: (source.shape_class, source.name))
    twice = [name for name, count in Counter((one.shape_class, one.name) for one in found).items() if count > 1]
    if twice:
        paths = [str(one.path) for one in found if (one.shape_class, one.name) == twice[0]]
        raise UserError(
            f"Two objects would both be called {'/'.join(twice[0])}: {' and '.join(paths[:2])}.",
            "Rename or remove one of them.",
        )
    return found


def _made_up(word: str) -> list[RenderSource]:
    count = word.removeprefix(PROCEDURAL)
    if not count.isdecimal() or not 1 <= int(count) <= MOST_MADE_UP:
        raise UserError(
            f"{word!r} is no number of made-up objects.", f"Write {PROCEDURAL}1000, at most {MOST_MADE_UP}."
        )
    return [RenderSource(creatures.CATEGORY, creatures.creature_name(number)) for number in range(int(count))]


def _source(mesh: MeshSource) -> RenderSource:
    path = mesh.path.absolute()
    is_plain = mesh.key.shape_class == PLAIN_CLASS
    row = _row_of(path, mesh.key.name, None if is_plain else mesh.key.shape_class)
    shape_class = mesh.key.shape_class
    if is_plain:
        shape_class = row.category if row is not None else mesh.key.dataset
    return RenderSource(shape_class, mesh.key.name, path, None if row is None else row.cluster)


def _row_of(path: Path, name: str, shape_class: str | None) -> _Row | None:
    """Return the line of the table beside or above a mesh that is about it."""
    for folder in (path.parent, path.parent.parent):
        rows = [row for row in _table(folder / INDEX) if row.key == name]
        wanted = shape_class or path.parent.name
        rows = [row for row in rows if row.category == wanted] or rows
        if len(rows) == 1:
            return rows[0]
    return None


@lru_cache(maxsize=64)
def _table(path: Path) -> tuple[_Row, ...]:
    """Return the lines of a table; none if there is no such file, or it is about something else."""
    if not path.is_file():
        return ()
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return ()
    if not rows or not {CATEGORY, KEY} <= rows[0].keys():
        return ()
    return tuple(_Row(row[CATEGORY] or "", row[KEY] or "", row.get(CLUSTER) or None) for row in rows)


def _from_table(path: Path) -> list[RenderSource]:
    """Return the objects that a table names."""
    if not path.is_file():
        raise UserError(f"The table {path} does not exist.", "Check the path.")
    rows = _table(path.absolute())
    if not rows:
        raise UserError(
            f"{path} is no table with the columns {CATEGORY} and {KEY}.",
            f"Its first line must name them, and {CLUSTER} where near copies are known; commas stand between.",
        )
    return [RenderSource(row.category, row.key, _mesh_of(path.absolute(), row), row.cluster) for row in rows]


def _mesh_of(table: Path, row: _Row) -> Path:
    folders = (table.parent, table.parent / row.category)
    for candidate in (folder / f"{row.key}{suffix}" for folder in folders for suffix in READ_SUFFIXES):
        if row.key and candidate.is_file():
            return candidate
    raise UserError(
        f"{table} names {row.category}/{row.key}, but there is no such mesh beside it.",
        f"Put {row.key}.glb (or {', '.join(READ_SUFFIXES[1:])}) into {table.parent} or {folders[1]}.",
    )
