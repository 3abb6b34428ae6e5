"""``shapewright demo``: the whole job on a capture that comes with the package."""

from __future__ import annotations

from pathlib import Path

import tyro

from shapewright.cli.console import start_log


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(demo, prog="shapewright demo", args=words)


def demo(out: Path = Path("runs/demo"), force: bool = False) -> None:
    """Make a mesh and a report from a small built-in capture, in two minutes on two CPU cores.

    Args:
        out: Folder to write.
        force: Replace an earlier run in the folder.
    """
    start_log()
    from shapewright.methods.surface import pipeline

    pipeline.demo(out, force=force)
    print(f"Mesh:   {out / 'meshes' / 'mesh.glb'}\nReport: {out / 'report.html'}")
