"""How much two grids of cells share."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Bool, Float64
from torch import Tensor


def grid_iou(a: Bool[Tensor, "*#grids x y z"], b: Bool[Tensor, "*#grids x y z"]) -> Float64[Tensor, "..."]:
    """Return the number of cells in both of two grids over the number in either, in [0, 1].

    Two empty grids are equal: they get 1, with a warning, because an empty grid is hardly ever meant.

    Args:
        a: Occupied cells; leading axes are matched with those of ``b`` by broadcasting.
        b: The same of the other shape.

    Raises:
        ValueError: if a grid is not boolean, or their numbers of cells differ.
    """
    for name, grid in (("a", a), ("b", b)):
        if grid.dtype != torch.bool:
            raise ValueError(f"{name} must be boolean, got {grid.dtype}: compare densities with a threshold first.")
        if grid.dim() < 3:
            raise ValueError(f"{name} must have three axes at least, got shape {list(grid.shape)}.")
    if a.shape[-3:] != b.shape[-3:]:
        raise ValueError(f"The grids must have equal axes, got {list(a.shape[-3:])} and {list(b.shape[-3:])}.")
    both = (a & b).sum(dim=(-3, -2, -1))
    either = (a | b).sum(dim=(-3, -2, -1))
    empty = int((either == 0).sum())
    if empty:
        warnings.warn(
            f"{empty} of {either.numel()} pairs of grids are empty on both sides; they count as equal.", stacklevel=2
        )
    return torch.where(either == 0, 1.0, both.double() / either.clamp(min=1))
