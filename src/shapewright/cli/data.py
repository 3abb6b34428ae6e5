"""``shapewright data check SCENE``: look at a scene before training."""

from __future__ import annotations

from shapewright.engine.config import suggestion
from shapewright.errors import UserError

ACTIONS = ("check",)


def run(words: list[str]) -> None:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: shapewright data check SCENE [OPTIONS]     (shapewright data check --help: its options)")
    elif words[0] in ACTIONS:
        from shapewright.cli import data_check

        data_check.run(words[1:])
    else:
        raise UserError(f"Unknown command 'data {words[0]}'.", suggestion(words[0], ACTIONS))
