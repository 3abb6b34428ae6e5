"""``shapewright render RUN``: pictures and videos of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from shapewright.cli.arguments import Run, method_of, split_names, split_numbers
from shapewright.cli.console import start_log
from shapewright.errors import UserError

KINDS = ("rgb", "normal", "depth", "mask")


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """Render pictures of a run into its folder media/.

    Args:
        run: Folder of the run.
        what: Kinds with commas between them: rgb, normal, depth, mask.
        path: Where from: held-out or training views, or an orbit around the object.
        views: Views with commas between them, such as 0,8; empty: all of the path.
        frames: Pictures of an orbit.
        video: Write a video as well (GIF; MP4 with `pip install shapewright[video]`).
    """

    run: Run
    what: str = "rgb"
    path: Literal["test", "train", "orbit"] = "test"
    views: str = ""
    frames: int = 60
    video: bool = False


def run(words: list[str]) -> None:
    """Run the verb."""
    method = method_of(words)
    if method != "surface":
        raise UserError(
            f"render draws runs of surface; this is one of {method}.", "See `shapewright eval` for its pictures."
        )
    options = tyro.cli(RenderOptions, prog="shapewright render", args=words)
    what = split_names("--what", options.what, KINDS)
    views = split_numbers("--views", options.views)
    start_log()
    from shapewright.methods.surface import pipeline

    written = pipeline.render(
        options.run,
        what=what,
        path_kind=options.path,
        frames=options.frames,
        video=options.video,
        views=views,
    )
    for path in written:
        print(path)
