"""``shapewright resume RUN``: go on exactly where a run was stopped."""

from __future__ import annotations

import tyro

from shapewright.cli.arguments import Run, method_of
from shapewright.cli.console import start_log


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(resume, prog="shapewright resume", args=words)


def resume(run: Run, device: str = "auto") -> None:
    """Go on with a run from its latest checkpoint that is whole; the settings are those of the run.

    Args:
        run: Folder of the run.
        device: auto, cpu, cuda or cuda:N.
    """
    start_log()
    if method_of([str(run)]) == "deep_sdf":
        from shapewright.methods.deep_sdf.pipeline import resume as resume_run
    else:
        from shapewright.methods.surface.pipeline import resume as resume_run

    resume_run(run, device=device)
    print(f"Trained: {run}. Next: shapewright eval {run}")
