"""Rendered data sets of meshes in the published layouts: the same bytes for any number of workers."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch

from shapewright import __version__
from shapewright.data.render_files import WRITERS, RenderWriter
from shapewright.data.render_object import KATO, NUM_POINTS, RenderedObject, RenderProtocol, render_object
from shapewright.data.render_pictures import LIGHT, SUPERSAMPLE
from shapewright.data.render_sources import RenderSource, find_sources
from shapewright.data.render_splits import SETS, split_sources
from shapewright.errors import UserError
from shapewright.io.files import file_sha256, read_json, write_error, write_json

progress_logger = logging.getLogger("shapewright.progress")
logger = logging.getLogger(__name__)

DATASET = "dataset.json"
SCHEMA = 1
VOXEL_RULE = "kato32"
FRAME = "right-handed, y up, as the mesh files; cameras x right, y down, z forward"
# Of the stored voxels, in the order of the array's axes.
VOXEL_AXES = {"kato": "Y -Z X", "lsm": "X Y Z", "free": "X Y Z"}

_NOT_IN_FILE_NAMES = frozenset("/\\\0\n")

Outcome = RenderedObject | str


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """Say what to render, and where to.

    Args:
        meshes: Files, folders or tables, as ``find_sources`` takes them.
        out: Folder of the data set; it appears when all is done.
        protocol: How objects are seen, and which files are written.
        shares: Of train, val and test.
        seed: Of the split, of random views and of points.
        align_yaw: ``back`` turns every mesh so that its high side lies at -x.
        overwrite: Whether to replace a folder that is there.
        workers: Processes.
    """

    meshes: Sequence[str]
    out: Path
    protocol: RenderProtocol = field(default_factory=lambda: KATO)
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    seed: int = 0
    align_yaw: Literal["none", "back"] = "none"
    overwrite: bool = False
    workers: int = 1


@dataclass(frozen=True)
class RenderResult:
    """Tell what was rendered.

    Args:
        objects: Names by class and set, in the order of the arrays.
        refused: Why each mesh that could not be rendered was left out, by ``class/name``.
    """

    objects: dict[str, dict[str, list[str]]]
    refused: dict[str, str]

    @property
    def num_objects(self) -> int:
        """Return the number of objects."""
        return sum(len(names) for sets in self.objects.values() for names in sets.values())


def render_views(job: RenderJob) -> RenderResult:
    """Render a data set into a new folder, which takes its name when it is complete.

    A mesh that cannot be rendered is left out and listed; the others stay in the sets they would have been in.

    Args:
        job: What to do.

    Raises:
        UserError: if there is no mesh or none can be rendered, two objects would share files, the folder is there
            already, it cannot be written, or a worker dies.
    """
    _check_out(job)
    sources = find_sources(job.meshes)
    _check_names(sources, job.protocol)
    split = split_sources(sources, job.shares, job.seed)
    folder = job.out.absolute()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        result = _render(job, split, temporary)
        _take_name(temporary, folder)
    except OSError as error:
        raise write_error(Path(error.filename or job.out), error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return result


def _check_out(job: RenderJob) -> None:
    if job.out.exists() and not job.overwrite and not (job.out.is_dir() and not any(job.out.iterdir())):
        raise UserError(f"{job.out} is there already.", "Choose another --out, or add --overwrite to replace it.")
    found = [job.out] if job.out.is_file() or job.out.is_symlink() else _foreign_files(job.out)
    if found:
        raise UserError(
            f"{found[0]} is something that `data render` did not write.", "Choose another --out; it is left alone."
        )


def _foreign_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are not those of a rendered data set."""
    facts = read_json(folder / DATASET) if (folder / DATASET).is_file() else {}
    # What `data prepare` wrote has a layout.
    own = {DATASET, *facts.get("files", {})} if "protocol" in facts and "layout" not in facts else set()
    files = (path for path in sorted(folder.rglob("*")) if not path.is_dir())
    return [path for path in files if path.relative_to(folder).as_posix() not in own]


def _check_names(sources: Sequence[RenderSource], protocol: RenderProtocol) -> None:
    names = Counter(source.name for source in sources)
    for source in sources:
        for word in (source.shape_class, source.name):
            if word in ("", ".", "..") or set(word) & _NOT_IN_FILE_NAMES:
                raise UserError(
                    f"{source.shape_class}/{source.name}: {word!r} cannot be a part of a file name.",
                    "Rename the category or the object, in the folder or in the table.",
                )
        if protocol.name == "free" and names[source.name] > 1:
            raise UserError(
                f"Two categories have an object {source.name}; with free views its pictures would share names.",
                "Render the categories one by one.",
            )


def _take_name(temporary: Path, folder: Path) -> None:
    """Give a finished folder its name, in place of what is there."""
    if folder.exists():
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        temporary.rename(folder)


def _render(job: RenderJob, split: dict[str, dict[str, list[RenderSource]]], folder: Path) -> RenderResult:
    """Write everything into a folder."""
    batches = [(name, kind, split[name][kind]) for name in split for kind in SETS if split[name][kind]]
    sources = [source for _, _, members in batches for source in members]
    objects: dict[str, dict[str, list[str]]] = {name: {kind: [] for kind in SETS} for name in split}
    refused: dict[str, str] = {}
    turns: dict[str, int] = {}
    writer = WRITERS[job.protocol.name](folder, job.protocol)
    outcomes = _outcomes(sources, job)
    done = 0
    for name, kind, members in batches:
        writer.open_set(name, kind)
        for source in members:
            outcome, done = next(outcomes), done + 1
            label = f"{name}/{source.name}"
            if isinstance(outcome, str):
                refused[label] = outcome
                logger.warning("%s left out: %s", label, outcome)
            else:
                writer.add(name, source.name, outcome)
                objects[name][kind].append(source.name)
                turns[label] = outcome.quarter_turns
            progress_logger.info(f"{done}/{len(sources)}  {label}", extra={"progress": done / len(sources)})
        writer.close_set()
    result = RenderResult(objects, refused)
    _finish(job, result, writer, sources, turns)
    return result


def _finish(
    job: RenderJob,
    result: RenderResult,
    writer: RenderWriter,
    sources: Iterable[RenderSource],
    turns: dict[str, int],
) -> None:
    """Write what is known when all objects are."""
    if not result.num_objects:
        label, reason = next(iter(result.refused.items()))
        raise UserError(
            f"None of {len(result.refused)} meshes can be rendered; {label}: {reason}", "Look at the files in a viewer."
        )
    writer.finish(result.objects)
    for name, sets in result.objects.items():
        for kind in (kind for kind in SETS if not sets[kind]):
            for path in writer.folder.glob(f"{glob.escape(f'{name}_{kind}_')}*.npz"):
                path.unlink()
    files = sorted(path for path in writer.folder.rglob("*") if path.is_file())
    clusters = {f"{one.shape_class}/{one.name}": one.cluster for one in sources if one.cluster is not None}
    write_json(
        writer.folder / DATASET,
        {
            "schema": SCHEMA,
            "protocol": job.protocol.name,
            "frame": FRAME,
            "half_angle_deg": job.protocol.half_angle_deg,
            "distances": [job.protocol.distance],
            "views": job.protocol.views,
            "viewpoints": job.protocol.viewpoints,
            "size": job.protocol.size,
            "normalise": job.protocol.normalise,
            "classes": list(result.objects),
            "objects": result.objects,
            "clusters": clusters,
            "quarter_turns": {label: count for label, count in turns.items() if count},
            "refused": result.refused,
            "voxel_rule": VOXEL_RULE,
            "voxel_axes": VOXEL_AXES[job.protocol.name],
            "num_points": NUM_POINTS,
            "supersample": SUPERSAMPLE,
            "light": list(LIGHT),
            "split": list(job.shares),
            "seed": job.seed,
            "align_yaw": job.align_yaw,
            "version": __version__,
            "files": {path.relative_to(writer.folder).as_posix(): file_sha256(path) for path in files},
        },
    )


def attempt(source: RenderSource, protocol: RenderProtocol, seed: int, align_yaw: Literal["none", "back"]) -> Outcome:
    """Return an object rendered, or why it cannot be."""
    try:
        return render_object(source, protocol, seed, align_yaw)
    except UserError as error:
        return error.message
    except ValueError as error:
        return str(error)


def _outcomes(sources: Sequence[RenderSource], job: RenderJob) -> Iterator[Outcome]:
    """Yield what became of each object, in their order."""
    work = partial(attempt, protocol=job.protocol, seed=job.seed, align_yaw=job.align_yaw)
    if job.workers <= 1 or len(sources) <= 1:
        yield from map(work, sources)
        return
    executor = ProcessPoolExecutor(
        min(job.workers, len(sources)), mp_context=get_context("spawn"), initializer=_prepare_process
    )
    try:
        yield from _in_order(executor, work, sources, job.workers)
    except BrokenExecutor as error:
        raise UserError(
            "A process that renders died (out of memory, or a fault in a library).",
            "Give fewer --workers; with --workers 1 the log names the mesh.",
        ) from error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _in_order(
    executor: ProcessPoolExecutor,
    work: Callable[[RenderSource], Outcome],
    sources: Sequence[RenderSource],
    workers: int,
) -> Iterator[Outcome]:
    """Yield results in the order of the sources, with few of them waiting in memory."""
    waiting: deque[Future[Outcome]] = deque()
    for source in sources:
        waiting.append(executor.submit(work, source))
        if len(waiting) >= 4 * workers:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _prepare_process() -> None:
    """Keep a worker to one thread, and leave Ctrl-C to the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
