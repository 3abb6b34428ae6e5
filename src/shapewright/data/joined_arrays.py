"""Several arrays as one, without copying them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


class JoinedArrays:
    """Stand for arrays one after the other along their first axis.

    Each part stays where it is, such as in a file that is mapped; what is asked for is copied. Several categories at
    full size would not fit into memory side by side.

    Args:
        parts: At least one; all alike but for the first axis.

    Raises:
        ValueError: if they are not.
    """

    def __init__(self, parts: Sequence[np.ndarray | JoinedArrays]) -> None:
        if len({(part.shape[1:], part.dtype) for part in parts}) != 1:
            raise ValueError(f"parts must be alike but for the first axis, got {[part.shape for part in parts]}.")
        self._parts = list(parts)
        self._ends = np.cumsum([len(part) for part in parts])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the length of each axis."""
        return (len(self), *self._parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of the elements."""
        return self._parts[0].dtype

    def __len__(self) -> int:
        """Return the number of rows."""
        return int(self._ends[-1])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all of it in memory."""
        return np.concatenate([np.asarray(part) for part in self._parts]).astype(dtype or self.dtype, copy=False)

    def __getitem__(self, key: Any) -> np.ndarray:
        """Return rows by a number, a slice or an array of numbers; what follows is as in an array.

        Arrays that follow go with an array of rows, element by element, and have its shape.
        """
        first, *rest = key if isinstance(key, tuple) else (key,)
        rows = np.arange(len(self))[first]
        if rows.ndim == 0:
            return self[(rows[None], *rest)][0]
        numbers = np.searchsorted(self._ends, rows, side="right")
        result: np.ndarray | None = None
        for number in np.unique(numbers):
            own = numbers == number
            local = rows[own] - (self._ends[number] - len(self._parts[number]))
            piece = self._parts[number][(local, *(k[own] if isinstance(k, np.ndarray) else k for k in rest))]
            result = np.empty((*rows.shape, *piece.shape[1:]), self.dtype) if result is None else result
            result[own] = piece
        return self._parts[0][(slice(0), *rest)] if result is None else result
