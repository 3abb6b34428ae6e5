"""``shapewright data ACTION``: check and convert data, render views of meshes, and sample signed distances."""

from __future__ import annotations

from shapewright.engine.config import suggestion
from shapewright.errors import UserError

ACTIONS = {
    "check": "check FOLDER               look at a scene, samples of signed distances or pictures before training",
    "prepare": "prepare SRC --out D        convert a downloaded data set of pictures",
    "render": "render MESHES --out D      render views of meshes, in the layout of published data sets",
    "sample-sdf": "sample-sdf MESHES --out D  sample signed distances of a folder of meshes",
}


def run(words: list[str]) -> None:
    """Run the verb."""
    if not words or words[0] in ("-h", "--help"):
        print("usage: shapewright data ACTION [OPTIONS]     (shapewright data ACTION --help: its options)\n")
        print("\n".join(f"  {line}" for line in ACTIONS.values()))
    elif words[0] == "check":
        from shapewright.cli import data_check

        data_check.run(words[1:])
    elif words[0] == "prepare":
        from shapewright.cli import data_prepare

        data_prepare.run(words[1:])
    elif words[0] == "render":
        from shapewright.cli import data_render

        data_render.run(words[1:])
    elif words[0] == "sample-sdf":
        from shapewright.cli import data_sample_sdf

        data_sample_sdf.run(words[1:])
    else:
        raise UserError(f"Unknown command 'data {words[0]}'.", suggestion(words[0], ACTIONS))
