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


def check_faces(faces: Tensor, num_vertices: int, name: str = "faces", columns: int = 3) -> None:
    """Raise unless ``faces`` is a table of vertex indices.

    Args:
        faces: One row a face.
        num_vertices: How many vertices there are.
        name: How the caller calls the table.
        columns: Indices in a row.

    Raises:
        ValueError: if there are not as many indices in a row, or one names a missing vertex.
    """
    check_shape(name, faces, (None, columns))
    if faces.numel():
        lowest, highest = (int(end) for end in faces.aminmax())
        if lowest < 0 or highest >= num_vertices:
            raise ValueError(f"{name} must name vertices 0 to {num_vertices - 1}, got {lowest} to {highest}.")
