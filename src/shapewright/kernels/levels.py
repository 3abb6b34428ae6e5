"""The table of levels of a multi-resolution hash grid: the one place where the conventions differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from shapewright.checks import check_range


@dataclass(frozen=True)
class HashLevels:
    """Say where each level of a hash grid lies in the table and how positions map to its cells.

    Level ``l`` puts ``x`` in [0,1] at ``p = scales[l] x + offset`` in units of its cells and has ``resolutions[l]``
    vertices along an axis. Rows ``starts[l] .. starts[l] + sizes[l]`` of the table are its own: one for each vertex
    if ``dense[l]``, and ``sizes[l]``, a power of two, shared by hashing otherwise.
    """

    scales: tuple[float, ...]
    offset: float
    resolutions: tuple[int, ...]
    starts: tuple[int, ...]
    sizes: tuple[int, ...]
    dense: tuple[bool, ...]
    features: int

    @property
    def num_levels(self) -> int:
        """Return the number of levels."""
        return len(self.scales)

    @property
    def rows(self) -> int:
        """Return the number of rows of the table."""
        return self.starts[-1] + self.sizes[-1]

    @property
    def width(self) -> int:
        """Return the number of columns of the encoding: levels times features."""
        return self.num_levels * self.features


def hash_levels(
    num_levels: int,
    log2_table_size: int,
    base_resolution: int,
    max_resolution: int,
    form: Literal["half-cell", "paper"] = "half-cell",
    features: int = 2,
) -> HashLevels:
    """Return the levels of a grid whose resolution grows geometrically (Instant NGP, arXiv:2201.05989, eq. 2-3).

    With growth ``b = (max / base)^(1 / (L - 1))``, level ``l`` has scale ``base b^l - 1`` and offset 1/2 in the
    half-cell form (that of tiny-cuda-nn, with one more vertex, so that no corner inside [0,1] is shared or cut off),
    and scale ``floor(base b^l)`` and offset 0 in the paper's. Levels with at most ``2^log2_table_size`` vertices are
    stored densely, the others are hashed into that many rows.

    Args:
        num_levels: Number of levels ``L``.
        log2_table_size: Base-2 logarithm of the most rows a level may have.
        base_resolution: Resolution of the coarsest level.
        max_resolution: Resolution of the finest level.
        form: Convention of scale and offset.
        features: Numbers stored in a row.

    Raises:
        ValueError: if a size is not positive, the resolutions fall, or the table has 2^32 entries or more.
    """
    check_range("num_levels", num_levels, 1)
    check_range("log2_table_size", log2_table_size, 0, 31)
    check_range("base_resolution", base_resolution, 2)
    check_range("max_resolution", max_resolution, base_resolution)
    check_range("features", features, 1)
    if form not in ("half-cell", "paper"):
        raise ValueError(f"form must be 'half-cell' or 'paper', got {form!r}.")
    growth = math.log(max_resolution / base_resolution) / max(num_levels - 1, 1)
    exact = [base_resolution * math.exp(growth * level) for level in range(num_levels)]
    if form == "half-cell":
        scales, offset = [resolution - 1 for resolution in exact], 0.5
        resolutions = [math.floor(scale + offset) + 2 for scale in scales]
    else:
        # The small number keeps the last level at max_resolution when the power is rounded down.
        scales, offset = [float(math.floor(resolution + 1e-6)) for resolution in exact], 0.0
        resolutions = [int(scale) + 1 for scale in scales]
    return _lay_out(scales, offset, resolutions, 2**log2_table_size, features)


def _lay_out(scales: list[float], offset: float, resolutions: list[int], table_size: int, features: int) -> HashLevels:
    sizes = [min(resolution**3, table_size) for resolution in resolutions]
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    if sum(sizes) * features >= 2**32:
        raise ValueError(f"The table would have {sum(sizes) * features} entries, 2^32 or more; lower log2_table_size.")
    dense = [resolution**3 <= table_size for resolution in resolutions]
    return HashLevels(tuple(scales), offset, tuple(resolutions), tuple(starts), tuple(sizes), tuple(dense), features)


@dataclass(frozen=True)
class HashGrid:
    """Say how a table is read: its levels, how many of them take part, and the interpolation between vertices."""

    levels: HashLevels
    active: int
    smoothstep: bool
