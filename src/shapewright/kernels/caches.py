"""Where compiled kernels are kept between processes."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from functools import lru_cache
from pathlib import Path

_VARIABLES = {"NUMBA_CACHE_DIR": "numba", "WARP_CACHE_PATH": "warp"}


@lru_cache(maxsize=1)
def prepare_caches() -> None:
    """Point numba and Warp to ``$XDG_CACHE_HOME/shapewright/kernels``, unless the environment says otherwise.

    Both read the place when they are loaded. Numba's own choice is beside the module, which may be read-only. If the
    folder cannot be written, a temporary one serves this process, and a warning says so.
    """
    unset = {variable: name for variable, name in _VARIABLES.items() if variable not in os.environ}
    if not unset:
        return
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(base).expanduser() / "shapewright" / "kernels"
    if not all(_is_writable(folder / name) for name in unset.values()):
        warnings.warn(
            f"Kernels are compiled anew in every process, because {folder} cannot be written; "
            "set XDG_CACHE_HOME to a folder that can.",
            RuntimeWarning,
            stacklevel=2,
        )
        folder = Path(tempfile.mkdtemp(prefix="shapewright-kernels-"))
    for variable, name in unset.items():
        os.environ[variable] = str(folder / name)
    if "numba" in sys.modules and "NUMBA_CACHE_DIR" in unset:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
