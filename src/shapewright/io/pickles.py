"""Pickles of other programs, read by an unpickler that can only build NumPy arrays and plain values."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from collections.abc import Callable
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

import numpy as np

from shapewright.errors import UserError

_rebuild_array: Any = np.zeros(1).__reduce__()[0]
_rebuild_scalar: Any = np.float64(0).__reduce__()[0]


class RefusedGlobal(pickle.UnpicklingError):
    """Report that a pickle asks for something that is no array."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Return bytes that Python 3 wrote as text for Python 2; it always says latin1."""
    if encoding != "latin1":
        raise RefusedGlobal(f"_codecs.encode with {encoding}")
    return text.encode("latin1")


# NumPy 1 and 2 keep these functions at different places, and a pickle names the place of the version that wrote it.
ALLOWED: dict[tuple[str, str], Callable[..., Any]] = {
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _rebuild_array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _rebuild_scalar for core in ("core", "_core")},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
}


class _ArrayUnpickler(pickle.Unpickler):
    """Build arrays, numbers, text and containers, and refuse every name but those of arrays."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an allowed name stands for."""
        if (module, name) not in ALLOWED:
            raise RefusedGlobal(f"{module}.{name}")
        return ALLOWED[module, name]


def read_pickle(path: Path) -> Any:
    """Return the value in a pickle of arrays and plain values; text of Python 2 is decoded as latin1.

    Raises:
        UserError: if the file is missing or damaged, or asks for anything but arrays; then nothing of it has run.
    """
    try:
        with path.open("rb") as file:
            return _load(file, path)
    except OSError as problem:
        raise UserError(f"Cannot read {path}: {problem.strerror}.", "Check the path.") from None


def read_object_npz(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz``, those of objects too, which NumPy stores as pickles.

    Raises:
        UserError: as ``read_pickle``.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".npy")]
            return {name.removesuffix(".npy"): _read_member(archive, name, path) for name in names}
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.", "Check the path.") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as problem:
        raise _damaged(path, problem) from None


def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> np.ndarray:
    with archive.open(name) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(file)
        if not dtype.hasobject:
            flat = np.frombuffer(file.read(), dtype)
            return flat.reshape(shape, order="F" if is_fortran else "C")
        value = _load(file, path)
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise ValueError(f"{name} is not the array that its header announces")
    return value


def _load(file: IO[bytes] | BufferedIOBase, path: Path) -> Any:
    try:
        return _ArrayUnpickler(file, encoding="latin1").load()
    except RefusedGlobal as problem:
        raise UserError(
            f"{path} asks for {problem}: a file of arrays does not need that, and loading it could run a program.",
            "Do not open it by other means; download the data set again from its authors.",
        ) from None
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as problem:
        raise _damaged(path, problem) from None


def _damaged(path: Path, problem: Exception) -> UserError:
    return UserError(f"The file {path} cannot be read: {problem}.", "It is damaged or cut short: copy it again.")
