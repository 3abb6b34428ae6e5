"""``shapewright interpolate RUN``: look into a shape space."""

from __future__ import annotations

import tyro


def run(words: list[str]) -> None:
    """Run the verb."""
    from shapewright.cli import deep_sdf

    tyro.cli(deep_sdf.interpolate, prog="shapewright interpolate", args=words)
