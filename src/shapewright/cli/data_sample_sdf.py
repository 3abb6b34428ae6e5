"""``shapewright data sample-sdf MESHES --out D``: signed distance samples of a folder of meshes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from shapewright.cli.console import start_log
from shapewright.data.sdf_shape import SamplingOptions

if TYPE_CHECKING:
    from shapewright.data.sdf_sampling import SamplingResult

MeshFolder = Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="MESHES")]


@dataclass(frozen=True, kw_only=True)
class SampleSdfOptions:
    """Sample signed distances of every mesh in a folder, as `train deep_sdf` and DeepSDF read them.

    Args:
        meshes: Folder of meshes (ShapeNet v1 or v2, ABC, classes, or plain), or one file.
        out: Folder to write; samples that are there already are kept.
        name: What to call the data set; none: as the split says, or else the folder.
        split: Sample only the shapes that this JSON file names.
        variants: Sample this many smooth deformations of each mesh as well.
        overwrite: Sample again what is there already.
        workers: Processes.
        cluster: Address of a Dask scheduler that does the work.
        options: How to sample.
    """

    meshes: MeshFolder
    out: Path
    name: str | None = None
    split: Path | None = None
    variants: int = 0
    overwrite: bool = False
    workers: int = 2
    cluster: str | None = None
    options: Annotated[SamplingOptions, tyro.conf.arg(name="")] = field(default_factory=SamplingOptions)


def run(words: list[str]) -> None:
    """Run the verb; the exit status is 1 if a mesh could not be sampled."""
    options = tyro.cli(SampleSdfOptions, prog="shapewright data sample-sdf", args=words)
    start_log()
    from shapewright.data.sdf_sampling import SamplingJob, sample_folder

    job = SamplingJob(**{name: getattr(options, name) for name in SamplingJob.__dataclass_fields__})
    result = sample_folder(job)
    _print_table(result)
    flagged, failed = result.in_state("flagged"), result.in_state("failed")
    print(
        f"{options.out}: {result.sampled} sampled, {result.kept} there before; "
        f"{len(result.in_state('ok'))} ok, {len(flagged)} flagged, {len(failed)} failed."
    )
    if failed:
        raise SystemExit(1)
    print(f"Next: shapewright data check {options.out}")


def _print_table(result: SamplingResult) -> None:
    """Print one line for each shape that is doubtful or failed, and why."""
    troubled = [(name, entry) for name, entry in result.entries.items() if entry["state"] != "ok" or entry["warnings"]]
    width = max((len(name) for name, _ in troubled), default=0)
    for name, entry in troubled:
        state = entry["state"] if entry["state"] != "ok" else "warning"
        print(f"{name:<{width}}  {state:<7}  {'; '.join(entry['reasons'] or entry['warnings'])}")
