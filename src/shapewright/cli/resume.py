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
    method = method_of([str(run)])
    if method == "deep_sdf/single":
        from shapewright.methods.deep_sdf.single_shape import resume_single

        resume_single(run)
    elif method == "deep_sdf":
        from shapewright.methods.deep_sdf.training import resume as resume_space

        resume_space(run, device=device)
    elif method == "pose_invariant":
        from shapewright.methods.pose_invariant.training import resume as resume_pictures

        resume_pictures(run, device=device)
    else:
        from shapewright.methods.surface import pipeline

        pipeline.resume(run, device=device)
    print(f"Trained: {run}. Next: shapewright eval {run}")
