"""The tracer of the paper: from both ends of a ray, then uniform samples where that did not end."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.rendering.traced_rays import (
    Brackets,
    CountedField,
    Rays,
    TraceResult,
    TracingConfig,
    find_roots,
)


def trace_exact(field: CountedField, rays: Rays, config: TracingConfig) -> TraceResult:
    """Return where rays meet the surface (IDR, arXiv:2003.09852, supplementary B.2).

    Rays are marched from their near end forward and from their far end
    backward. The surface is met where the ends did not pass each other;
    rays whose near end did not arrive are sampled between the ends.
    """
    start, end, unfinished = _march_from_both_ends(field, rays, config)
    hit = rays.is_searched & (start < end)
    closest = torch.full_like(start, torch.nan)
    rows = unfinished.nonzero().squeeze(-1)
    if len(rows):
        sampled = _sample_between(field, rays[rows], start[rows], end[rows], config)
        start[rows], hit[rows], closest[rows] = sampled
    return TraceResult(rays, start, hit, closest, field.num_evaluations)


def _march_from_both_ends(
    field: CountedField, rays: Rays, config: TracingConfig
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"], Bool[Tensor, " rays"]]:
    """Return the near and far ends after the march, and which near ends did not arrive."""
    start = _End(field, rays, rays.near.clone(), 1.0, config)
    end = _End(field, rays, rays.far.clone(), -1.0, config)
    for _ in range(config.march_rounds):
        if not bool((start.is_open | end.is_open).any()):
            break
        start.step()
        end.step()
        # Both ends stop where they passed each other.
        is_apart = start.t < end.t
        start.is_open &= is_apart
        end.is_open &= is_apart
    return start.t, end.t, start.is_open


class _End:
    """One end of every ray on its way to the surface.

    Args:
        field: The signed distance.
        rays: The rays.
        t: Where the march begins.
        sign: +1 to march along the rays, -1 to march against them.
        config: Threshold and line search.
    """

    def __init__(
        self,
        field: CountedField,
        rays: Rays,
        t: Float[Tensor, " rays"],
        sign: float,
        config: TracingConfig,
    ) -> None:
        self._field, self._rays, self._sign, self._config = field, rays, sign, config
        self.t = t
        self._f = torch.zeros_like(t)
        self.is_open = rays.is_searched.clone()
        self._evaluate(self.is_open)
        self.is_open &= self._f > config.threshold

    def step(self) -> None:
        """Step by the signed distance; take back in part the steps that went inside."""
        taken = torch.where(self.is_open, self._f, 0.0)
        self.t = self.t + self._sign * taken
        self._evaluate(self.is_open)
        inside = self.is_open & (self._f < 0)
        for k in range(self._config.line_search_rounds):
            if not bool(inside.any()):
                break
            back = (1.0 - self._config.line_search_step) / 2**k * taken
            self.t = torch.where(inside, self.t - self._sign * back, self.t)
            self._evaluate(inside)
            inside &= self._f < 0
        self.is_open &= self._f > self._config.threshold

    def _evaluate(self, mask: Bool[Tensor, " rays"]) -> None:
        rows = mask.nonzero().squeeze(-1)
        if len(rows):
            self._f[rows] = self._field(self._rays[rows].points(self.t[rows]))


def _sample_between(
    field: CountedField,
    rays: Rays,
    start: Float[Tensor, " rays"],
    end: Float[Tensor, " rays"],
    config: TracingConfig,
) -> tuple[Float[Tensor, " rays"], Bool[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Search uniform samples between ``start`` and ``end`` for the first one inside.

    Returns:
        distances: Distance of the crossing before that sample, or of the least sample.
        hit: Whether a sample lies inside.
        closest: Distance of the sample of least signed distance.
    """
    share = torch.linspace(0.0, 1.0, config.num_samples, device=start.device, dtype=start.dtype)
    t = start[:, None] + share * (end - start)[:, None]
    f = field(rays.points(t))
    closest = t.gather(1, f.argmin(1, keepdim=True)).squeeze(1)
    hit = (f < 0).any(1)
    first = (f < 0).int().argmax(1, keepdim=True)
    # A first sample inside has no predecessor: the near end itself is the surface.
    distances = torch.where(hit, t.gather(1, first).squeeze(1), closest)
    rows = (hit & (first.squeeze(1) > 0)).nonzero().squeeze(-1)
    if len(rows):
        high, low = first[rows], first[rows] - 1
        brackets = Brackets(
            rows,
            t[rows].gather(1, low).squeeze(1),
            f[rows].gather(1, low).squeeze(1),
            t[rows].gather(1, high).squeeze(1),
            f[rows].gather(1, high).squeeze(1),
        )
        # As in the paper, every round is made: no bracket ends early.
        distances[rows] = find_roots(field, rays, brackets, config.secant_rounds, threshold=0.0)
    return distances, hit, closest
