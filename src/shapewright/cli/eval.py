"""``shapewright eval RUN``: measure a run on its held-out pictures."""

from __future__ import annotations

from typing import Literal

import tyro

from shapewright.cli.arguments import Run, method_of
from shapewright.cli.console import print_rows, start_log


def run(words: list[str]) -> None:
    """Run the verb."""
    method = method_of(words)
    if method == "deep_sdf":
        from shapewright.cli import deep_sdf

        tyro.cli(deep_sdf.evaluate, prog="shapewright eval", args=words)
    elif method == "deep_sdf/single":
        from shapewright.cli import single_shape

        tyro.cli(single_shape.evaluate, prog="shapewright eval", args=words)
    elif method == "pose_invariant":
        from shapewright.cli import pose_invariant

        tyro.cli(pose_invariant.evaluate, prog="shapewright eval", args=words)
    else:
        tyro.cli(evaluate, prog="shapewright eval", args=words)


def evaluate(
    run: Run,
    checkpoint: Literal["latest", "best"] | int = "latest",
    pixel_step: int = 1,
) -> None:
    """Measure a run on its held-out pictures and write metrics.json.

    Args:
        run: Folder of the run.
        checkpoint: latest, best, or a step.
        pixel_step: Render every n-th pixel of a row and a column; 1 is exact.
    """
    start_log()
    from shapewright.methods.surface import pipeline

    result = pipeline.evaluate(run, checkpoint=checkpoint, resolution_step=pixel_step)
    print_rows(sorted(result["metrics"].items()))
    print(f"Written: {run / 'metrics.json'}")
