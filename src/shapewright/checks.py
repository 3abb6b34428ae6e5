"""Argument checks: each raises ``ValueError`` with one sentence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def check_shape(name: str, value: Tensor, expected: tuple[int | None, ...]) -> None:
    """Raise unless ``value`` has the expected shape.

    Args:
        name: How the caller calls the argument.
        value: The tensor to look at.
        expected: One entry an axis; ``None`` accepts any size.

    Raises:
        ValueError: if the number of axes or a size differs.
    """
    actual = tuple(value.shape)
    fits = len(actual) == len(expected) and all(
        want is None or want == have for want, have in zip(expected, actual, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        raise ValueError(f"{name} must have shape [{wanted}], got {list(actual)}.")


def check_finite(name: str, value: Tensor) -> None:
    """Raise unless every entry of ``value`` is finite.

    Raises:
        ValueError: if ``value`` holds a NaN or an infinity; the message counts them.
    """
    bad = int((~value.isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, but {bad} of {value.numel()} entries are not.")


def check_range(name: str, value: float, lowest: float, highest: float = math.inf) -> None:
    """Raise unless ``lowest <= value <= highest``.

    Raises:
        ValueError: if ``value`` lies outside, or is NaN.
    """
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must lie in [{lowest}, {highest}], got {value}.")
