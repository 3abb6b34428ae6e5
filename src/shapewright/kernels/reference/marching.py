"""Samples of rays in occupied cells, in plain torch: the lattice of every ray, filtered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_CHUNK = 2**22


@dataclass(frozen=True)
class Lattice:
    """Say where samples of rays may lie: ``t = near + (k + jitter) step < far`` for ``k = 0, 1, ..``.

    Args:
        origins: Of the rays, in coordinates of the grid's cube [0,1]^3.
        directions: Change of position for a unit of ``t``.
        near: First ``t`` of each ray.
        far: End of each ray; a ray with ``far <= near`` has no samples.
        jitter: In [0, 1), of each ray.
        step: Distance between samples, positive.
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    near: Float[Tensor, " rays"]
    far: Float[Tensor, " rays"]
    jitter: Float[Tensor, " rays"]
    step: float

    def part(self, begin: int, end: int) -> Lattice:
        """Return the lattice of some of the rays."""
        rays = slice(begin, end)
        return Lattice(
            self.origins[rays], self.directions[rays], self.near[rays], self.far[rays], self.jitter[rays], self.step
        )


def march(
    lattice: Lattice, occupied: Bool[Tensor, "size size size"]
) -> tuple[Int64[Tensor, " rays_1"], Float[Tensor, " samples"]]:
    """Return the offsets of each ray's samples, and ``t`` of those that lie in an occupied cell.

    Cells beyond the cube count as the nearest cell inside.
    """
    num_rays = len(lattice.near)
    longest = float((lattice.far - lattice.near).clamp_min(0).max()) if num_rays else 0.0
    num_steps = int(longest / lattice.step) + 2
    rows = max(1, _CHUNK // num_steps)
    parts = [_march(lattice.part(first, first + rows), occupied, num_steps) for first in range(0, num_rays, rows)]
    counts = [lattice.near.new_zeros(1, dtype=torch.int64), *(count for count, _ in parts)]
    depths = [lattice.near.new_zeros(0), *(depth for _, depth in parts)]
    return torch.cat(counts).cumsum(0), torch.cat(depths)


def _march(lattice: Lattice, occupied: Tensor, num_steps: int) -> tuple[Int64[Tensor, " rays"], Tensor]:
    # In float64, so that all back ends agree on the cell of a sample unless it lies on a face.
    near, far, jitter = lattice.near.double(), lattice.far.double(), lattice.jitter.double()
    k = torch.arange(num_steps, device=near.device)
    t = near[:, None] + (k + jitter[:, None]) * lattice.step
    points = lattice.origins.double()[:, None] + t[..., None] * lattice.directions.double()[:, None]
    size = len(occupied)
    x, y, z = (points * size).nan_to_num(0.0).floor().clamp(0, size - 1).long().unbind(-1)
    kept = (t < far[:, None]) & (occupied[x, y, z] != 0)
    return kept.sum(dim=1), t[kept].to(lattice.near.dtype)
