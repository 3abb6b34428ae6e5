"""Samples of rays in occupied cells in Warp; definition in ``reference/marching.py``. One thread for each ray."""

import torch
import warp as wp
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.kernels.reference.marching import Lattice
from shapewright.kernels.warp.device import launch

wp.set_module_options({"enable_backward": False})


@wp.kernel
def march_kernel(
    origins: wp.array2d(dtype=wp.float64),
    directions: wp.array2d(dtype=wp.float64),
    near: wp.array(dtype=wp.float64),
    far: wp.array(dtype=wp.float64),
    jitter: wp.array(dtype=wp.float64),
    step: wp.float64,
    occupied: wp.array3d(dtype=wp.uint8),
    counts: wp.array(dtype=wp.int64),
    starts: wp.array(dtype=wp.int64),
    depths: wp.array(dtype=wp.float64),
    writing: wp.int32,
) -> None:
    """Count the samples of a ray, or write them; an empty cell is left in one stride."""
    ray = wp.tid()
    size = occupied.shape[0]
    k = wp.float64(0.0)
    found = wp.int64(0)
    t = near[ray] + jitter[ray] * step
    while t < far[ray]:
        leave = wp.float64(1.0e30)
        index = wp.int32(0)
        for axis in range(3):
            o = origins[ray, axis]
            d = directions[ray, axis]
            cell = wp.clamp(wp.int32(wp.floor((o + t * d) * wp.float64(size))), 0, size - 1)
            index = index * size + cell
            if wp.abs(d) >= wp.float64(1.0e-12):
                edge = wp.float64(cell + wp.where(d > wp.float64(0.0), 1, 0)) / wp.float64(size)
                leave = wp.min(leave, (edge - o) / d)
        k += wp.float64(1.0)
        if occupied[index // (size * size), (index // size) % size, index % size] != wp.uint8(0):
            if writing != 0:
                depths[starts[ray] + found] = t
            found += wp.int64(1)
        else:
            k = wp.max(k, wp.ceil((leave - near[ray]) / step - jitter[ray]))
        t = near[ray] + (k + jitter[ray]) * step
    if writing == 0:
        counts[ray] = found


def march(
    lattice: Lattice, occupied: Bool[Tensor, "size size size"]
) -> tuple[Int64[Tensor, " rays_1"], Float[Tensor, " samples"]]:
    """Return the offsets of each ray's samples, and their ``t``."""
    device = lattice.near.device
    columns = [lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter]
    rays = [column.double().contiguous() for column in columns]
    cells = occupied.to(torch.uint8).contiguous()
    counts = torch.zeros(len(lattice.near), dtype=torch.int64, device=device)
    nothing = rays[2].new_zeros(1)
    launch(march_kernel, counts.shape, (*rays, lattice.step, cells, counts, counts, nothing, 0), device)
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    depths = nothing.new_empty(int(starts[-1]))
    launch(march_kernel, counts.shape, (*rays, lattice.step, cells, counts, starts, depths, 1), device)
    return starts, depths.to(lattice.near.dtype)
