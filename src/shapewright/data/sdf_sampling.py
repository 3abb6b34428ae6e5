"""Sampling of all meshes of a folder: one mesh a process, resumable, one bad mesh never stops the rest."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from shapewright.data.sdf_samples import (
    DATA_SOURCES,
    JOURNAL,
    MANIFEST,
    SAMPLES,
    SURFACES,
    ShapeKey,
    read_manifest,
    read_split,
    write_manifest,
)
from shapewright.data.sdf_shape import SamplingOptions, ShapeTask, sample_shape, source_hash
from shapewright.data.shapenet import MeshSource, find_meshes
from shapewright.errors import UserError
from shapewright.io.files import append_line, read_json, write_error, write_json

logger = logging.getLogger(__name__)
progress_logger = logging.getLogger("shapewright.progress")

Entry = dict[str, Any]
DIED = "the process that sampled it died (out of memory, or a fault in a library)"


@dataclass(frozen=True, kw_only=True)
class SamplingJob:
    """Say which meshes to sample, and where to.

    Args:
        meshes: Folder of meshes, or one file.
        out: Folder of the samples.
        options: How to sample each.
        name: What to call the data set; None: as the split says, or else the folder.
        split: Sample the shapes that this file names only.
        variants: Smooth deformations of each mesh to sample as well, named ``<id>~1`` and so on.
        overwrite: Sample again what is there already.
        workers: Processes.
        cluster: Address of a Dask scheduler to send the meshes to; None: processes of this machine.
    """

    meshes: Path
    out: Path
    options: SamplingOptions = field(default_factory=SamplingOptions)
    name: str | None = None
    split: Path | None = None
    variants: int = 0
    overwrite: bool = False
    workers: int = 1
    cluster: str | None = None


@dataclass(frozen=True)
class SamplingResult:
    """Tell what a job did.

    Args:
        entries: The manifest's entry of each shape of the job, by name; foreign samples that were kept have none.
        sampled: How many were sampled now.
        kept: How many were there already.
    """

    entries: dict[str, Entry]
    sampled: int
    kept: int

    def in_state(self, state: str) -> list[str]:
        """Return the names of the shapes that are ``ok``, ``flagged`` or ``failed``."""
        return [name for name, entry in self.entries.items() if entry["state"] == state]


def sample_folder(job: SamplingJob, executor: Executor | None = None) -> SamplingResult:
    """Sample every mesh of a folder that has not been sampled yet.

    Args:
        job: What to do.
        executor: Where to run ``sample_shape``; None: as the job says.

    Returns:
        The entries of the manifest, which is written as well, also when the job is interrupted.

    Raises:
        UserError: if there is no mesh, the split names a missing one, samples of the same shapes were made with other
            options, or the folder belongs to another source.
    """
    tasks = _tasks(job)
    _make_folder(job.out)
    _note_source(job, {task.key.dataset for task in tasks})
    entries = read_manifest(job.out)
    is_foreign = not ((job.out / MANIFEST).exists() or (job.out / JOURNAL).exists())
    todo = [task for task in tasks if job.overwrite or not _is_done(task, entries.get(str(task.key)), is_foreign)]
    try:
        for done, (task, entry) in enumerate(_run(todo, job, executor), start=1):
            entries[str(task.key)] = entry
            append_line(job.out / JOURNAL, json.dumps({str(task.key): entry}, allow_nan=False))
            _tell(task, entry, done, len(todo))
    except KeyboardInterrupt:
        logger.warning("Interrupted: give the same command again to go on.")
        raise
    finally:
        write_manifest(job.out, entries)
    names = [str(task.key) for task in tasks]
    return SamplingResult({name: entries[name] for name in names if name in entries}, len(todo), len(tasks) - len(todo))


def _tasks(job: SamplingJob) -> list[ShapeTask]:
    """Return what is to be sampled, in the order of the names, or of the split."""
    sources = {source.key: source for source in find_meshes(job.meshes, _dataset_name(job))}
    if job.split is not None:
        sources = _chosen(job, sources)
    variants = range(job.variants + 1)
    return [
        ShapeTask(_variant_key(source.key, k), source.path.absolute(), job.out.absolute(), job.options, k)
        for source in sources.values()
        for k in variants
    ]


def _variant_key(key: ShapeKey, variant: int) -> ShapeKey:
    return ShapeKey(key.dataset, key.shape_class, f"{key.name}~{variant}") if variant else key


def _dataset_name(job: SamplingJob) -> str | None:
    """Return the name that was given, or the only one in the split."""
    if job.name is not None or job.split is None:
        return job.name
    names = {key.dataset for key in read_split(job.split)}
    return names.pop() if len(names) == 1 else None


def _chosen(job: SamplingJob, sources: dict[ShapeKey, MeshSource]) -> dict[ShapeKey, MeshSource]:
    """Return the sources that the split names, in its order."""
    assert job.split is not None
    keys = [key for key in read_split(job.split) if job.name is None or key.dataset == job.name]
    missing = [str(key) for key in keys if key not in sources]
    if missing or not keys:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(
            f"{job.split} names {len(missing)} meshes that {job.meshes} does not have: {', '.join(missing[:3])}{more}."
            if keys
            else f"{job.split} names no shape of the data set {job.name!r}.",
            f"{job.meshes} has {len(sources)}, such as {next(iter(sources))}; names are dataset/class/name, "
            "and --name sets the first.",
        )
    return {key: sources[key] for key in keys}


def _is_done(task: ShapeTask, entry: Entry | None, is_foreign: bool) -> bool:
    """Tell if a shape has its samples already, made from the same mesh with the same options."""
    path = task.key.file(task.out, SAMPLES, ".npz")
    if entry is None:
        return is_foreign and path.exists()
    if entry["state"] == "failed":
        return False
    for name, value in task.options.what_matters().items():
        before = entry.get("options", {}).get(name)
        if before != value:
            raise UserError(
                f"{task.key} was sampled with {name.replace('_', '-')} {before}, not {value}.",
                "Add --overwrite to sample again, or choose another --out.",
            )
    skipped = entry["state"] == "flagged" and task.options.skip_flagged
    has_surface = not task.options.surface or task.key.file(task.out, SURFACES, ".ply").exists()
    if not (skipped or (path.exists() and has_surface)):
        return False
    return not task.source.exists() or entry.get("source_sha256") == source_hash(task.source)


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def _note_source(job: SamplingJob, datasets: set[str]) -> None:
    """Remember where each data set's meshes are; the same name for two places is an error."""
    path = job.out / DATA_SOURCES
    known = read_json(path) if path.exists() else {}
    here = str((job.meshes.parent if job.meshes.is_file() else job.meshes).resolve())
    for dataset in sorted(datasets):
        if known.setdefault(dataset, here) != here:
            raise UserError(
                f"{job.out} already has a data set {dataset!r}, from {known[dataset]}, not from {here}.",
                "Give this one another --name, or choose another --out.",
            )
    write_json(path, known)


def _tell(task: ShapeTask, entry: Entry, done: int, total: int) -> None:
    """Log what became of a shape."""
    if entry["state"] != "ok":
        logger.warning("%s %s: %s", task.key, entry["state"], "; ".join(entry["reasons"]))
    text = f"{done}/{total}  {task.key}  {entry['state']}  {entry['cpu_seconds']:.1f} s CPU"
    progress_logger.info(text, extra={"progress": done / total})


def _run(tasks: Sequence[ShapeTask], job: SamplingJob, executor: Executor | None) -> Iterator[tuple[ShapeTask, Entry]]:
    """Yield each shape with its entry as it is finished."""
    if not tasks:
        return
    if executor is not None:
        yield from _run_in(lambda: executor, tasks, job.workers, owned=False)
    elif job.cluster is not None:
        with _cluster(job.cluster) as client:
            width = max(job.workers, sum(client.ncores().values()))
            yield from _run_in(client.get_executor, tasks, width, owned=False)
    else:
        yield from _run_in(lambda: _process_pool(job.workers), tasks, job.workers, owned=True)


def _run_in(
    make: Callable[[], Executor], tasks: Sequence[ShapeTask], width: int, owned: bool
) -> Iterator[tuple[ShapeTask, Entry]]:
    """Yield each shape with its entry; where a process dies, the shapes it may have had are tried again one by one.

    Args:
        make: Returns an executor.
        tasks: What to do.
        width: Processes; twice as many shapes are handed over at a time.
        owned: Whether to shut executors down, and to make a new one in place of a broken one.
    """
    waiting, suspects = deque(tasks), list[ShapeTask]()
    running: dict[Future[Entry], ShapeTask] = {}
    executor = make()
    try:
        while waiting or running:
            while waiting and len(running) < 2 * width:
                task = waiting.popleft()
                running[_submit(executor, task)] = task
            # What was finished before an interrupt is kept.
            for future in sorted(wait(running, return_when=FIRST_COMPLETED).done, key=_is_interrupt):
                task, entry = running.pop(future), _entry_of(future)
                if entry is None:
                    suspects += [task, *running.values()]
                    running.clear()
                    executor = _renewed(executor, make) if owned else executor
                    break
                yield task, entry
        for task in suspects:
            entry = _entry_of(_submit(executor, task))
            if entry is None and owned:
                executor = _renewed(executor, make)
            yield task, entry or _failed(task, DIED)
    finally:
        for future in running:
            future.cancel()
        if owned:
            executor.shutdown(wait=True)


def _submit(executor: Executor, task: ShapeTask) -> Future[Entry]:
    """Hand a shape over; a broken executor answers with a future that says so."""
    try:
        return executor.submit(sample_shape, task)
    except BrokenExecutor as error:
        future: Future[Entry] = Future()
        future.set_exception(error)
        return future


def _renewed(executor: Executor, make: Callable[[], Executor]) -> Executor:
    """Return a new executor in place of a broken one."""
    executor.shutdown(wait=True)
    return make()


def _is_interrupt(future: Future[Entry]) -> bool:
    """Tell if a finished task ended in what ends the whole job, such as Ctrl-C."""
    error = future.exception()
    return error is not None and not isinstance(error, Exception)


def _entry_of(future: Future[Entry]) -> Entry | None:
    """Return the result of a task, once it is there; None if its process died."""
    error = future.exception()
    if error is None:
        return future.result()
    if isinstance(error, BrokenExecutor):
        return None
    if _is_interrupt(future):
        raise error
    return {"state": "failed", "reasons": [f"{type(error).__name__}: {error}"], "cpu_seconds": 0.0}


def _failed(task: ShapeTask, reason: str) -> Entry:
    key = task.key
    names = {"dataset": key.dataset, "class": key.shape_class, "id": key.name, "source": str(task.source)}
    return names | {
        "options": task.options.what_matters(),
        "state": "failed",
        "reasons": [reason],
        "cpu_seconds": 0.0,
    }


def _process_pool(workers: int) -> Executor:
    """Return processes with one thread each, started afresh: a fork of a process with threads may hang."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_process)


def _prepare_process() -> None:
    """Keep a worker to one thread, and leave Ctrl-C to the process that started it."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["IGL_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def _cluster(address: str) -> Any:
    """Return a client of a Dask cluster."""
    try:
        from dask.distributed import Client
    except ImportError:
        raise UserError("--cluster needs Dask.", "Install it: pip install 'shapewright[cluster]'") from None
    try:
        return Client(address, timeout=20)
    except (OSError, ValueError) as problem:
        raise UserError(f"The cluster at {address} does not answer: {problem}.", "Check its address.") from None
