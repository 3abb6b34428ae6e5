"""``shapewright interpolate RUN``: look into a shape space."""

from __future__ import annotations

import tyro

from shapewright.cli.arguments import method_of


def run(words: list[str]) -> None:
    """Run the verb."""
    from shapewright.cli import deep_sdf, pose_invariant

    commands = pose_invariant if method_of(words) == "pose_invariant" else deep_sdf
    tyro.cli(commands.interpolate, prog="shapewright interpolate", args=words)
