"""``shapewright info RUN``: what a run folder holds."""

from __future__ import annotations

import tyro

from shapewright.cli.arguments import Run
from shapewright.cli.console import print_rows
from shapewright.engine.run_dir import RunDir
from shapewright.io.files import read_json


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(info, prog="shapewright info", args=words)


def info(run: Run) -> None:
    """Show where a run came from, how far it is, and what was measured.

    Args:
        run: Folder of the run.
    """
    from shapewright.engine.checkpoint import list_checkpoints

    folder = RunDir.open(run)
    facts = {name: value for name, value in folder.info.items() if name not in ("schema", "versions")}
    facts |= {f"version of {name}": value for name, value in folder.info["versions"].items()}
    facts["checkpoints"] = list_checkpoints(folder)
    rows = folder.read_metrics()
    if rows:
        facts |= {f"last {name}": value for name, value in rows[-1].items()}
    if (folder.path / "metrics.json").is_file():
        facts |= read_json(folder.path / "metrics.json")["metrics"]
    print_rows(facts.items())
