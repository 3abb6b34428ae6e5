"""Reading of NumPy archives from outside, without pickle."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from shapewright.errors import UserError


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
