"""``shapewright embed RUN``: look into a shape space."""

from __future__ import annotations

import tyro


def run(words: list[str]) -> None:
    """Run the verb."""
    from shapewright.cli import deep_sdf

    tyro.cli(deep_sdf.embed, prog="shapewright embed", args=words)
