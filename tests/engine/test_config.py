from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest

from shapewright.engine.config import from_dict, suggestion, to_dict
from shapewright.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Inner:
    kind: Literal["none", "hash"] = "none"
    levels: int = 4
    rates: tuple[float, ...] = (0.1, 0.2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    size: tuple[int, int] = (3, 4)
    limit: float | None = None
    flag: bool = False
    length: int | str = 1

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ValueError("name must not be bad")


FULL = Outer(name="a", inner=Inner(kind="hash", levels=2, rates=(1.0,)), limit=0.5, flag=True, length="long")


def test_a_config_survives_json() -> None:
    assert from_dict(Outer, json.loads(json.dumps(to_dict(FULL)))) == FULL


def test_missing_keys_take_their_defaults() -> None:
    assert from_dict(Outer, {"name": "b", "inner": {"levels": 9}}) == Outer(name="b", inner=Inner(levels=9))


def test_an_integer_is_a_number_and_none_is_optional() -> None:
    assert from_dict(Outer, {"name": "b", "limit": 2}).limit == 2.0
    assert from_dict(Outer, {"name": "b", "limit": None}).limit is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": "a", "innr": {}}, ["'innr'", "'inner'"]),
        ({"name": "a", "inner": {"levls": 1}}, ["inner.levls", "'levels'"]),
        ({"name": "a", "inner": {"kind": "hsh"}}, ["inner.kind", "'hsh'", "'hash'"]),
        ({"name": "a", "inner": {"levels": 1.5}}, ["inner.levels", "1.5", "int"]),
        ({"name": "a", "inner": {"levels": True}}, ["inner.levels", "True"]),
        ({"name": "a", "inner": 3}, ["inner", "3", "Inner"]),
        ({"name": "a", "inner": {"rates": [1, "x"]}}, ["inner.rates", "'x'"]),
        ({"name": "a", "size": [1, 2, 3]}, ["size", "[1, 2, 3]"]),
        ({"name": "a", "limit": float("nan")}, ["limit", "nan", "float"]),
        ({"name": "a", "length": [1]}, ["length", "[1]"]),
        ({"name": 3}, ["name", "3", "str"]),
        ({}, ["name"]),
        ({"name": "bad"}, ["name must not be bad"]),
    ],
)
def test_wrong_settings_are_refused_by_name(values: dict, words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        from_dict(Outer, values)
    for word in words:
        assert word in str(caught.value)


def test_the_hint_names_the_closest_word_or_all() -> None:
    assert suggestion("trian", ["train", "eval"]) == "Did you mean 'train'?"
    assert suggestion("zzz", ["train", "eval"]) == "Known: train, eval."
