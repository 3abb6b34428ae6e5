"""``shapewright interpolate RUN``: look into a shape space."""

from __future__ import annotations

import tyro

from shapewright.cli.arguments import commands_of


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(commands_of(words).interpolate, prog="shapewright interpolate", args=words)
