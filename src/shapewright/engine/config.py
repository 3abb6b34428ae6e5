"""Configurations: frozen, keyword-only dataclasses of plain values, as dictionaries and back."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from shapewright.errors import UserError

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """Return the configuration as nested dictionaries and lists that JSON can hold."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[Config], values: Mapping[str, Any], where: str = "") -> Config:
    """Build a configuration from nested dictionaries; missing keys take their defaults.

    Args:
        cls: The dataclass to build.
        values: What ``to_dict`` returned, perhaps edited by a person.
        where: Prefix of the keys in messages, such as ``"encoding."``.

    Raises:
        UserError: if a key is unknown (the closest is named) or missing, or a value is wrong.
    """
    hints = get_type_hints(cls)
    for name in values:
        if name not in hints:
            raise UserError(f"Unknown setting {where + name!r}.", suggestion(name, hints))
    decoded = {name: _value(hints[name], values[name], where + name) for name in values}
    try:
        return cls(**decoded)
    except (TypeError, ValueError) as error:
        place = f"Settings {where.rstrip('.')!r}" if where else "Settings"
        raise UserError(f"{place} are wrong: {error}", "Correct the value.") from error


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return the hint that names the known word most like ``name``, or else all of them."""
    words = list(known)
    match = difflib.get_close_matches(name, words, n=1, cutoff=0.5)
    return f"Did you mean {match[0]!r}?" if match else f"Known: {', '.join(words)}."


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _value(hint: Any, value: Any, where: str) -> Any:
    """Return ``value`` as the type ``hint`` says, or raise ``UserError`` naming ``where``."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _first_fit(parts, value, where)
    if origin is Literal:
        if value in parts:
            return value
        raise UserError(f"{where} is {value!r}.", suggestion(str(value), map(str, parts)))
    if origin is tuple and isinstance(value, (list, tuple)):
        kinds = parts[:1] * len(value) if parts[1:] == (Ellipsis,) else parts
        if len(kinds) == len(value):
            return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return from_dict(hint, value, where + ".")
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    if hint in (int, str, bool, type(None)) and type(value) is hint:
        return value
    name = getattr(hint, "__name__", str(hint)) if origin is None else str(hint)
    raise UserError(f"{where} is {value!r}, but must be of type {name}.", "Correct the value.")


def _first_fit(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    """Return ``value`` as the first of several types that accepts it."""
    if value is None and type(None) in kinds:
        return None
    error: UserError | None = None
    for kind in kinds:
        try:
            if kind is not type(None):
                return _value(kind, value, where)
        except UserError as refused:
            error = error or refused
    raise error or UserError(f"{where} is {value!r}.", "Correct the value.")
