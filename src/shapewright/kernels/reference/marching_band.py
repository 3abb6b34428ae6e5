"""Samples of rays in the band around a surface that a cached SDF shows, in plain torch: all rays in step.

A ray goes from its entry into the unit cube to its exit. At distance ``t`` it asks the cache for ``f``, and keeps an
estimate ``T`` of its transmittance, which falls by ``min(S(s f) / (S(s f_last) + 1e-5), 1)`` wherever ``f`` does:

    f > outer           go on by clamp(f - outer, base, longest)
    f < inner           stop if T < 0.02, else go on by clamp(inner - f, base, longest)
    otherwise           put a sample on [t, t + length] and go on by length = base min(1 / max(|df/dt|, 1/3), 3)

until ``T < 2e-4``. A wanted ray that found nothing gets samples every ``coarse`` where ``f < coarse_limit``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

_LEAST_LIGHT = 2e-4
_LEAST_LIGHT_INSIDE = 0.02
_LEAST_SLOPE = 1.0 / 3.0
_LONGEST_STRETCH = 3.0
_TINY = 1e-12


class BandRays(NamedTuple):
    """Hold rays in coordinates of the unit cube.

    Attributes:
        origins: Where the rays begin.
        directions: Change of position a unit of distance; distances are those of the world.
        jitter: In [0, 1), offset of the first sample in steps.
        wanted: True where a ray must get samples.
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    jitter: Float[Tensor, " rays"]
    wanted: Bool[Tensor, " rays"]

    def at(self, t: Float[Tensor, "*steps rays"]) -> Float[Tensor, "*steps rays 3"]:
        """Return the positions at distances."""
        return self.origins + t[..., None] * self.directions

    def chosen(self, index: Int64[Tensor, " n"]) -> BandRays:
        """Return some of the rays."""
        return BandRays(*(column[index] for column in self))


class Band(NamedTuple):
    """Hold the numbers of the module's formulas, in world units.

    Attributes:
        sharpness: ``s``, the inverse width of the logistic density.
        outer: Cached SDF above which there are no samples; inner: below which there are none.
        base: Step between samples where the ray meets the surface head-on.
        longest_skip: Longest jump where there are no samples.
        coarse_step: Step between samples of wanted rays that miss the band.
        coarse_limit: Cached SDF above which such rays have none.
    """

    sharpness: float
    outer: float
    inner: float
    base: float
    longest_skip: float
    coarse_step: float
    coarse_limit: float


class BandSamples(NamedTuple):
    """Hold packed samples.

    Attributes:
        starts: Ray ``r`` owns the samples ``starts[r] .. starts[r + 1]``.
        depths: Distance of each sample's middle; steps: length of its interval.
        dropped: Rays that lost their samples because there was no room.
    """

    starts: Int64[Tensor, " rays_1"]
    depths: Float[Tensor, " samples"]
    steps: Float[Tensor, " samples"]
    dropped: int


def march_band(rays: BandRays, grid: Float[Tensor, "size size size"], band: Band, capacity: int) -> BandSamples:
    """Return the samples of rays in the band of a cached SDF.

    Args:
        rays: The rays.
        grid: Cached SDF at the cells' centres, in world units, ``ij`` order.
        band: Where samples lie.
        capacity: Greatest number of samples; rays that do not fit, in order, get none.
    """
    near, far = _cube_interval(rays.origins, rays.directions)
    owner, depths, steps = _fine(rays, near, far, grid, band)
    num_rays = len(near)
    empty = torch.bincount(owner, minlength=num_rays) == 0
    late = (empty & rays.wanted & (near < far)).nonzero().squeeze(1)
    if len(late):
        index, coarse_depths = _coarse(rays.chosen(late), near[late], far[late], grid, band)
        owner = torch.cat([owner, late[index]])
        owner, order = owner.sort(stable=True)
        depths = torch.cat([depths, coarse_depths])[order]
        steps = torch.cat([steps, torch.full_like(coarse_depths, band.coarse_step)])[order]
    counts = torch.bincount(owner, minlength=num_rays)
    fits = _fitting(counts, capacity)
    kept = fits[owner]
    starts = torch.cat([counts.new_zeros(1), (counts * fits).cumsum(0)])
    return BandSamples(starts, depths[kept], steps[kept], int((~fits).sum()))


def _fine(
    rays: BandRays, near: Tensor, far: Tensor, grid: Tensor, band: Band
) -> tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """Return the ray, the middle and the length of every sample in the band, sorted by ray."""
    t = near + rays.jitter * band.base
    light, slope = torch.ones_like(t), torch.ones_like(t)
    active = (near < far) & (t < far)
    lengths, middles = [torch.zeros_like(t)], [t]
    f_last = t_last = None
    while bool(active.any()):
        f = _interpolate(grid, rays.at(t))
        if f_last is not None and t_last is not None:
            slope = torch.where(active, (f - f_last).abs() / (t - t_last), 1.0)
            kept = torch.sigmoid(f * band.sharpness) / (torch.sigmoid(f_last * band.sharpness) + 1e-5)
            light = light * torch.where(f < f_last, kept.clamp(max=1.0), 1.0)
        f_last, t_last = f, t
        outside, inside = f > band.outer, f < band.inner
        active = active & (light >= _LEAST_LIGHT) & ~(inside & (light < _LEAST_LIGHT_INSIDE))
        skip = torch.where(outside, f - band.outer, band.inner - f).clamp(min=band.base).clamp(max=band.longest_skip)
        length = band.base * (1.0 / slope.clamp(min=_LEAST_SLOPE)).clamp(max=_LONGEST_STRETCH)
        lengths.append(torch.where(active & ~outside & ~inside, length, 0.0))
        middles.append(t + 0.5 * length)
        t = t + torch.where(active, torch.where(outside | inside, skip, length), 0.0)
        active = active & (t < far)
    steps = torch.stack(lengths, dim=1)
    owner, place = steps.nonzero().unbind(1)
    return owner, torch.stack(middles, dim=1)[owner, place], steps[owner, place]


def _coarse(
    rays: BandRays, near: Tensor, far: Tensor, grid: Tensor, band: Band
) -> tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"]]:
    """Return the ray and the middle of every coarse sample, sorted by ray."""
    count = int((far - near).max() / band.coarse_step) + 2
    k = torch.arange(count, device=near.device)[:, None]
    t = near + (rays.jitter + k) * band.coarse_step
    chosen = (t < far) & (_interpolate(grid, rays.at(t)) < band.coarse_limit)
    owner, place = chosen.T.nonzero().unbind(1)
    return owner, t[place, owner] + 0.5 * band.coarse_step


def _fitting(counts: Int64[Tensor, " rays"], capacity: int) -> Bool[Tensor, " rays"]:
    """Return which rays fit if each, in order, takes its room or, where too little is left, gives up its samples."""
    if int(counts.sum()) <= capacity:
        return torch.ones_like(counts, dtype=torch.bool)
    fits, total = [], 0
    for count in counts.tolist():
        fits.append(total + count <= capacity)
        total += count if fits[-1] else 0
    return torch.tensor(fits, device=counts.device)


def _cube_interval(origins: Tensor, directions: Tensor) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Return entry into and exit from the unit cube; entry >= exit means a miss."""
    parallel = directions.abs() < _TINY
    safe = torch.where(parallel, 1.0, directions)
    first, second = -origins / safe, (1.0 - origins) / safe
    lies_outside = (parallel & ((origins < 0.0) | (origins > 1.0))).any(dim=1)
    near = torch.where(parallel, -torch.inf, torch.minimum(first, second)).amax(dim=1).clamp(min=0.0)
    far = torch.where(parallel, torch.inf, torch.maximum(first, second)).amin(dim=1)
    return near, torch.where(lies_outside, -1.0, far)


def _interpolate(grid: Tensor, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
    """Interpolate trilinearly between the centres of cells, with the values of the border beyond them."""
    size = len(grid)
    place = (points * size - 0.5).clamp(0.0, size - 1.0001)
    cell = place.long()
    rx, ry, rz = (place - cell).unbind(-1)
    base = (cell[..., 0] * size + cell[..., 1]) * size + cell[..., 2]
    flat = grid.reshape(-1)
    rows = [flat[base + shift] for shift in (0, size, 1, size + 1)]
    a, b, c, d = (row + rx * (flat[base + shift + size * size] - row)
                  for row, shift in zip(rows, (0, size, 1, size + 1), strict=True))  # fmt: skip
    e, f = a + ry * (b - a), c + ry * (d - c)
    return e + rz * (f - e)
