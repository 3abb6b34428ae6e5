"""The tracer that asks the network only where the surface may be."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shapewright.rendering.field_cache import CachedPath, FieldCache
from shapewright.rendering.traced_rays import (
    Brackets,
    CountedField,
    Rays,
    TraceResult,
    TracingConfig,
    find_roots,
)

OPEN, ARRIVED, CROSSED, LOST, MISSED = range(5)
# Rounds between two shrinkings of the list: each one waits for a GPU.
ROUNDS = {"cpu": 1, "cuda": 4}


def trace_fast(field: CountedField, rays: Rays, config: TracingConfig, cache: FieldCache | None) -> TraceResult:
    """Return where rays meet the surface, marching from their near ends.

    Rays skip what the cache knows to be empty, step by the signed distance
    (at least ``min_step``, and up to ``bold_step`` further where the last
    two values foretell the surface), and leave the list when they arrive. A
    step from outside to inside brackets the surface. A ray that an outdated
    cache let land inside is marched again without it.
    """
    distances = rays.near.clone()
    hit = torch.zeros_like(rays.is_searched)
    closest = torch.full_like(distances, torch.nan)
    spacing = cache.cell if cache is not None else 2.0 * config.radius / config.num_samples
    brackets: list[Brackets] = []
    lost: list[Tensor] = []
    for ended in _march(field, rays, config, cache):
        distances[ended.rows] = ended.t
        hit[ended.rows] = ended.status != MISSED
        # The march takes steps of f: only where f is small are its points dense enough.
        is_close = (ended.status == MISSED) & (ended.least_f < spacing)
        closest[ended.rows] = torch.where(is_close, ended.least_t, torch.nan)
        crossed = ended[ended.status == CROSSED]
        brackets.append(Brackets(crossed.rows, crossed.outer_t, crossed.outer_f, crossed.t, crossed.f))
        lost.append(ended.rows[ended.status == LOST])
    if brackets:
        joined = _joined(brackets)
        distances[joined.rows] = find_roots(field, rays, joined, config.fast_secant_rounds, config.threshold)
        rows = torch.cat(lost)
        # Without a cache only rays that start inside are lost: the near end is where they meet the surface.
        if cache is not None and len(rows):
            again = trace_fast(field, rays[rows], config, None)
            distances[rows], hit[rows], closest[rows] = again.distances, again.hit, again.closest
    return TraceResult(rays, distances, hit, closest, field.num_evaluations)


@dataclass(frozen=True)
class _Marching:
    """The state of the rays on the list: their last point, the outer one before it, the least value."""

    rows: Int[Tensor, " n"]
    status: Int[Tensor, " n"]
    t: Float[Tensor, " n"]
    f: Float[Tensor, " n"]
    outer_t: Float[Tensor, " n"]
    outer_f: Float[Tensor, " n"]
    least_t: Float[Tensor, " n"]
    least_f: Float[Tensor, " n"]

    def __getitem__(self, choice: Tensor) -> _Marching:
        return _Marching(*(getattr(self, entry.name)[choice] for entry in fields(self)))


def _march(field: CountedField, rays: Rays, config: TracingConfig, cache: FieldCache | None) -> Iterator[_Marching]:
    """Yield the states of rays as they leave the list."""
    path = cache.path(rays) if cache is not None else None
    state = _start(rays, path)
    rounds = ROUNDS[rays.near.device.type]
    while True:
        is_open = state.status == OPEN
        if not bool(is_open.all()):
            yield state[~is_open]
            state = state[is_open]
        if not len(state.rows):
            return
        active = rays[state.rows]
        for _ in range(rounds):
            state = _round(field, active, state, config, path)


def _start(rays: Rays, path: CachedPath | None) -> _Marching:
    rows = rays.is_searched.nonzero().squeeze(-1)
    t = rays.near[rows]
    nan = torch.full_like(t, torch.nan)
    least_f = torch.full_like(t, torch.inf)
    status = torch.full_like(rows, OPEN)
    if path is not None:
        t, _ = path.skip(rows, t)
        status = torch.where(t < rays.far[rows], status, MISSED)
        t = torch.minimum(t, rays.far[rows])
    return _Marching(rows, status, t, nan, nan, nan, t, least_f)


def _round(
    field: CountedField,
    rays: Rays,
    state: _Marching,
    config: TracingConfig,
    path: CachedPath | None,
) -> _Marching:
    """Ask the field at the points of all rays on the list, and move those that go on."""
    f = field(rays.points(state.t))
    is_open = state.status == OPEN
    is_less = is_open & (f < state.least_f)
    status = torch.where(f > config.threshold, OPEN, ARRIVED)
    status = torch.where(f < 0, torch.where(state.outer_f > 0, CROSSED, LOST), status)
    safe_t, outer_t, outer_f = state.t + f.clamp(min=config.min_step), state.t, f
    if path is not None:
        safe_t, moved = path.skip(state.rows, safe_t)
        # A jump leaves no outer end: the first crossing would not be sure to lie in the bracket.
        outer_f = torch.where(moved, torch.nan, f)
    next_t = torch.where(outer_f.isnan(), safe_t, torch.fmax(safe_t, _bold_t(state, f, config)))
    status = torch.where((status == OPEN) & (next_t >= rays.far), MISSED, status)
    status = torch.where(is_open, status, state.status)
    goes_on = status == OPEN
    return _Marching(
        state.rows,
        status,
        torch.where(goes_on, next_t, state.t),
        torch.where(is_open, f, state.f),
        torch.where(goes_on, outer_t, state.outer_t),
        torch.where(goes_on, outer_f, state.outer_f),
        torch.where(is_less, state.t, state.least_t),
        torch.where(is_less, f, state.least_f),
    )


def _bold_t(state: _Marching, f: Float[Tensor, " n"], config: TracingConfig) -> Float[Tensor, " n"]:
    """Return where the line through the last two values falls a little below 0.

    Where the last value is missing or the values do not fall it is NaN or behind the point.
    """
    slope = (state.outer_f - f) / (state.t - state.outer_t)
    to_root = f / slope + 0.5 * config.min_step
    return state.t + torch.minimum(to_root, f.clamp(min=config.min_step) + config.bold_step)


def _joined(parts: list[Brackets]) -> Brackets:
    return Brackets(*(torch.cat([getattr(part, entry.name) for part in parts]) for entry in fields(Brackets)))
