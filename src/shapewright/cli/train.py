"""``shapewright train METHOD``: train a method."""

from __future__ import annotations

from shapewright.engine.config import suggestion
from shapewright.errors import UserError
from shapewright.methods import METHODS


def run(words: list[str]) -> None:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print(f"usage: shapewright train METHOD --data DATA --out RUN [OPTIONS]\n\nmethods: {', '.join(METHODS)}")
        return
    if words[0] not in METHODS:
        raise UserError(f"There is no method {words[0]!r}.", suggestion(words[0], METHODS))
    if words[0] == "surface":
        _train_surface(words[1:])
    elif words[0] == "pose_invariant":
        from shapewright.cli import pose_invariant

        pose_invariant.train(words[1:])
    else:
        from shapewright.cli import deep_sdf

        deep_sdf.train(words[1:])


def _train_surface(words: list[str]) -> None:
    from shapewright.cli.console import start_log
    from shapewright.cli.run_options import TrainOptions, parse_surface

    options = parse_surface(TrainOptions, "shapewright train surface", words)
    start_log()
    from shapewright.methods.surface import pipeline

    pipeline.train(
        options.config,
        options.data,
        options.out,
        options.start(["shapewright", "train", "surface", *words]),
    )
    print(f"Trained: {options.out}. Next: shapewright eval {options.out}")
