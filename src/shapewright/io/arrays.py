"""Reading of NumPy archives and JSON files from outside, without pickle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from shapewright.errors import UserError

LARGEST_JSON_BYTES = 256 * 2**20


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file; pickled objects are refused.

    Raises:
        UserError: if the file is missing, damaged or holds pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is a single array, not an archive")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.", "Check the path.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError) as problem:
        raise UserError(
            f"The file {path} cannot be read as a NumPy archive: {problem}.",
            "Copy or write it again with numpy.savez, without object arrays.",
        ) from None


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        UserError: if the file is missing, too large, not JSON or not an object.
    """
    try:
        if path.stat().st_size > LARGEST_JSON_BYTES:
            raise ValueError(f"it is larger than {LARGEST_JSON_BYTES >> 20} MiB")
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.", "Check the path.") from None
    except (OSError, ValueError, RecursionError) as problem:
        raise UserError(
            f"The file {path} is not valid JSON: {problem}.", "Copy or write the file again."
        ) from None
    if not isinstance(content, dict):
        raise UserError(
            f"The file {path} holds a JSON {type(content).__name__}, not an object.",
            "Check that it is the right file.",
        )
    return content
