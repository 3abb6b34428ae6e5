"""A run folder: everything that one training run is, on disk."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shapewright import __version__
from shapewright.errors import UserError
from shapewright.io.files import append_line, atomic_write, read_json, write_error, write_json

SCHEMA = 1
FILES = ("config.json", "run.json", "metrics.jsonl", "metrics.json", "metrics.md", "report.html", "log.txt")
LIBRARIES = ("torch", "numpy", "numba", "warp-lang", "safetensors")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunDir:
    """The files of a run; make one with ``create`` or ``open``.

    They are ``config.json, run.json, metrics.jsonl, metrics.json, report.html, log.txt, lock``
    and the folders ``checkpoints, media, meshes``.
    """

    path: Path

    @staticmethod
    def create(
        path: Path,
        config: Mapping[str, Any],
        command: Sequence[str],
        details: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> RunDir:
        """Make the folder of a new run.

        Args:
            path: The folder; it must be missing or empty.
            config: The settings (``to_dict``), written to ``config.json``.
            command: The words of the command line, written to ``run.json``.
            details: More of ``run.json``: method, seed, device, data.
            force: Use a folder that holds an earlier run, and delete that run's files.

        Raises:
            UserError: if the folder is not empty, or cannot be written.
        """
        run = RunDir(path)
        try:
            RunDir.check_new(path, force)
            if (path / "config.json").exists():
                _delete_run(run)
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / "config.json", {"schema": SCHEMA, "config": dict(config)})
            write_json(path / "run.json", _provenance(command) | dict(details or {}))
            for folder in (run.checkpoints, run.media, run.meshes):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from error
        return run

    @staticmethod
    def check_new(path: Path, force: bool = False) -> None:
        """Check, before any work, that a new run may use a folder.

        Raises:
            UserError: if it is a file, or not empty; with ``force``, if it holds anything but a run.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file, but the run needs a folder.", "Give another --out.")
        if not path.exists() or not any(path.iterdir()):
            return
        if not force:
            raise UserError(
                f"The output folder {path} is not empty.",
                "Give a new folder with --out, go on with `shapewright resume`, or add --force.",
            )
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} is not empty and is not a run folder, so --force does not touch it.",
                "Give a new folder with --out.",
            )

    @staticmethod
    def open(path: Path) -> RunDir:
        """Return the run in an existing folder, with the folders of what it can make again.

        Raises:
            UserError: if ``path`` is not a run folder of this version of the format.
        """
        if not (path / "config.json").is_file():
            raise UserError(
                f"{path} is not a run folder: it has no config.json.",
                "Give the folder that `shapewright train --out` wrote.",
            )
        run = RunDir(path)
        schema = read_json(path / "config.json").get("schema")
        if schema != SCHEMA:
            raise UserError(
                f"{path / 'config.json'} has schema {schema!r}; this version reads {SCHEMA}.",
                "Use the version of shapewright that wrote the run (see run.json).",
            )
        for folder in (run.media, run.meshes):
            # Where nothing may be written, a run can still be read.
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
        return run

    @property
    def config(self) -> dict[str, Any]:
        """Return the settings of the run, for ``from_dict``."""
        settings: dict[str, Any] = read_json(self.path / "config.json")["config"]
        return settings

    @property
    def info(self) -> dict[str, Any]:
        """Return ``run.json``: versions, command, seed and what else the run was started with."""
        info: dict[str, Any] = read_json(self.path / "run.json")
        return info

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def media(self) -> Path:
        """Return the folder of the pictures and videos."""
        return self.path / "media"

    @property
    def meshes(self) -> Path:
        """Return the folder of the meshes."""
        return self.path / "meshes"

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Append a line with the time to ``log.txt`` and hand it to the ``logging`` module."""
        now = datetime.datetime.now().isoformat(timespec="seconds")
        append_line(self.path / "log.txt", f"{now} {logging.getLevelName(level)} {message}")
        logger.log(level, message)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append a row to ``metrics.jsonl``; numbers that are not finite become ``null``."""
        append_line(self.path / "metrics.jsonl", json.dumps(_finite(row), allow_nan=False))

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return the rows of ``metrics.jsonl``; a last line cut off by a crash is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                rows.append(json.loads(line))
        return rows

    def truncate_metrics(self, step: int) -> None:
        """Drop the rows of ``metrics.jsonl`` after ``step``, which will be computed again."""
        kept = [json.dumps(row) + "\n" for row in self.read_metrics() if row["step"] <= step]
        atomic_write(self.path / "metrics.jsonl", "".join(kept).encode())

    def write_metrics(self, values: Mapping[str, Any]) -> None:
        """Write ``metrics.json``, the result of an evaluation; not finite becomes ``null``."""
        write_json(self.path / "metrics.json", {"schema": SCHEMA} | _finite(values))

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process, not re-entrantly; a dead process's lock is taken over.

        The file says who holds it; what excludes others is the system's lock on the open file,
        which ends with the process, however it ends.

        Raises:
            UserError: if another process that is alive holds it.
        """
        path = self.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise write_error(path, error) from error
        try:
            holder = os.pread(descriptor, 1024, 0).decode(errors="replace")
            if not _lock_file(descriptor):
                raise UserError(
                    f"{self.path} is in use by process {holder or '?'}.",
                    "Wait until it ends, or stop it; then run the command again.",
                )
            if holder:
                self.log(f"Took over the lock of process {holder}, which is gone.", logging.WARNING)
            _write_lock(descriptor, path, f"{os.getpid()} on {platform.node()}")
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)


def _lock_file(descriptor: int) -> bool:
    """Return whether the open file is now locked by this process (always, on Windows)."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_lock(descriptor: int, path: Path, holder: str) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
    except OSError as error:
        raise write_error(path, error) from error


def _delete_run(run: RunDir) -> None:
    """Delete the files of a run that nobody uses, and no others."""
    with run.lock():
        for name in FILES:
            (run.path / name).unlink(missing_ok=True)
        for folder in (run.checkpoints, run.media, run.meshes):
            shutil.rmtree(folder, ignore_errors=True)


def _provenance(command: Sequence[str]) -> dict[str, Any]:
    """Return what ``run.json`` says about the program and the machine."""
    versions = {"shapewright": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[library] = importlib.metadata.version(library)
    return {
        "schema": SCHEMA,
        "command": list(command),
        "created": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions,
        "platform": platform.platform(),
    }


def _finite(value: Any) -> Any:
    """Return ``value`` with floats that JSON cannot say replaced by ``None``."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return value
