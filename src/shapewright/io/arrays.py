"""NumPy archives: read from outside without pickle, written atomically."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shapewright.errors import UserError
from shapewright.io.files import atomic_write


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        UserError: if the file is missing, damaged or holds pickled objects.
    """
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array, not an archive")
        with archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.", "Check the path.") from None
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as problem:
        raise UserError(
            f"The file {path} cannot be read as a NumPy archive: {problem}.",
            "Copy or write it again with numpy.savez, without object arrays.",
        ) from None


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as an uncompressed ``.npz``, atomically; equal arrays give equal bytes.

    Raises:
        UserError: if the file cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    atomic_write(path, buffer.getvalue())
