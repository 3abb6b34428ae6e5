"""``shapewright data prepare SRC --format F --out D``: downloaded pictures as a folder that training can map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from shapewright.cli.arguments import check_least
from shapewright.cli.console import start_log

SourceFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SRC")]
SourceFormat = Literal["kato", "lsm", "vpl", "pascal3d"]


@dataclass(frozen=True, kw_only=True)
class PrepareOptions:
    """Convert a downloaded data set of pictures into the plain folder that `train pose_invariant` reads.

    Args:
        source: Folder of the download, unpacked.
        format: Kato's renderings, LSM's, LSM's as view prior learning packs them, or its photographs of Pascal3D+.
        out: Folder to write.
        size: Pixels along each side; none: as they are for kato, 64 for lsm, 224 for vpl and pascal3d.
        classes: Classes to convert; none: all.
        lsm_axes: How LSM's voxels are read: x, y, z of the world, or mirrored as the original method has them.
    """

    source: SourceFolder
    format: SourceFormat
    out: Path
    size: int | None = None
    classes: tuple[str, ...] = ()
    lsm_axes: Literal["x y z", "original"] = "x y z"


def run(words: list[str]) -> None:
    """Run the verb."""
    options = tyro.cli(PrepareOptions, prog="shapewright data prepare", args=words)
    start_log()
    check_least("--size", options.size, 1)
    from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures

    objects = prepare_pictures(
        PrepareJob(
            source=options.source,
            out=options.out,
            source_format=options.format,
            size=options.size,
            classes=options.classes,
            lsm_axes=options.lsm_axes,
        )
    )
    for name, sets in objects.items():
        print(f"{name}: " + ", ".join(f"{len(ids)} objects in {split}" for split, ids in sets.items()))
    print(f"Next: shapewright data check {options.out}")
