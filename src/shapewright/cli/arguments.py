"""Arguments that several commands take, and options that hold words with commas between them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Annotated

import tyro

from shapewright.engine.config import suggestion
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError

Run = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
MESH_FORMATS = ("glb", "ply", "obj")
SceneFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SCENE")]


def check_least(option: str, value: float | None, least: float) -> None:
    """Raise unless an option is left out or at least so large.

    Raises:
        UserError: if it is smaller, or no number.
    """
    if value is not None and not value >= least:
        raise UserError(f"{option} is {value}, but must be {least} or more.", f"Correct {option}.")


def method_of(words: Sequence[str]) -> str:
    """Return the method of the run folder among the words of a command, as ``deep_sdf`` or ``deep_sdf/single``.

    It is ``surface`` if no word is a run folder.
    """
    for word in words:
        if (Path(word) / "config.json").is_file():
            info = RunDir.open(Path(word)).info
            mode = f"/{info['mode']}" if "mode" in info else ""
            return str(info.get("method", "surface")) + mode
    return "surface"


def commands_of(words: Sequence[str]) -> ModuleType:
    """Return the commands for a run of shapes, or of pictures, among the words; those for shapes if there is none."""
    name = "pose_invariant" if method_of(words) == "pose_invariant" else "deep_sdf"
    return import_module(f"shapewright.cli.{name}")


def split_names(option: str, text: str, known: Collection[str]) -> tuple[str, ...]:
    """Return the words of ``a,b,c``, each of which must be known.

    Raises:
        UserError: if a word is unknown or there is none.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UserError(f"{option} is empty.", f"Known: {', '.join(known)}.")
    for name in names:
        if name not in known:
            raise UserError(f"{option} {name!r} is unknown.", suggestion(name, known))
    return names


def split_numbers(option: str, text: str) -> tuple[int, ...]:
    """Return the numbers of ``0,8,16``.

    Raises:
        UserError: if a part is not a number.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"{option} {text!r} must be numbers with commas between them.", "For example 0,8,16.")
    return tuple(int(part) for part in parts)
