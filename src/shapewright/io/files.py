"""Atomic files: a reader sees the old content or the new one, never a part of it."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from shapewright.errors import UserError


def atomic_write(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a crash or a full disk leaves the old file whole.

    The bytes go to a temporary file in the same folder, are flushed to the disk, and take the
    name in one step (``rename`` is atomic within a file system, POSIX.1-2017).

    Raises:
        UserError: if the disk is full, the folder is missing or may not be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        ValueError: if ``value`` holds a NaN or an infinity, which JSON cannot say.
        UserError: as ``atomic_write``.
    """
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    atomic_write(path, (text + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: if the file is missing, unreadable or not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(value, dict):
            raise ValueError("it holds no object")
        return value
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from error
    except ValueError as error:
        raise UserError(
            f"{path} is not valid JSON: {error}.", "The file is damaged or was edited: restore it."
        ) from error


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, read in parts."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def append_line(path: Path, line: str) -> None:
    """Append one line of text; a line that does not fit on the disk is taken back entirely.

    Raises:
        UserError: if the disk is full or the file may not be written.
    """
    try:
        with open(path, "ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            data = (line + "\n").encode()
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(file.fileno(), size)
                raise
    except OSError as error:
        raise write_error(path, error) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are missing.

    Raises:
        UserError: if it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def write_error(path: Path, error: OSError) -> UserError:
    """Return the ``UserError`` that says why ``path`` could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(
            f"The disk is full: {path} could not be written ({_free_mebibytes(path)} MiB free).",
            "Free some space or choose another folder; what was written before is intact.",
        )
    return UserError(
        f"Cannot write {path}: {error.strerror or error}.", "Check that the folder exists and is writable."
    )


def _free_mebibytes(path: Path) -> int:
    folder = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    return shutil.disk_usage(folder).free // 2**20


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; file systems without folder syncing are left as they are."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
