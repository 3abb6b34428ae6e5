"""Rendering by tracing: where rays meet the zero set of a signed distance function."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.rendering.exact_tracer import trace_exact
from shapewright.rendering.fast_tracer import trace_fast
from shapewright.rendering.field_cache import FieldCache
from shapewright.rendering.traced_rays import (
    CountedField,
    Rays,
    SignedDistance,
    TraceResult,
    TracingConfig,
)

__all__ = [
    "FieldCache",
    "Rays",
    "TraceResult",
    "TracingConfig",
    "closest_approach",
    "differentiable_distance",
    "trace",
]

LEAST_SLOPE = 1e-2


@torch.no_grad()
def trace(sdf: SignedDistance, rays: Rays, config: TracingConfig, cache: FieldCache | None = None) -> TraceResult:
    """Return where rays meet the surface ``sdf = 0``.

    Args:
        sdf: Any callable on positions; negative inside.
        rays: The rays, and the stretch of each that is searched.
        config: The tracer and its settings.
        cache: The field on a grid that covers the searched stretches; the exact tracer ignores it.
    """
    field = CountedField(sdf, config.chunk_size)
    if config.tracer == "exact":
        return trace_exact(field, rays, config)
    return trace_fast(field, rays, config, cache)


@torch.no_grad()
def closest_approach(
    sdf: SignedDistance,
    traced: TraceResult,
    wanted: Bool[Tensor, " rays"],
    config: TracingConfig,
    cache: FieldCache | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, " rays"]:
    """Return the traced distances, replaced on some rays by that of the least signed distance.

    These points carry the mask loss (IDR, arXiv:2003.09852, eq. 7). Rays
    that miss are searched from their near end, rays that hit from the
    surface on, that is inside the object. What the tracer saw on its way is
    used first, then the cache, then random samples. Rays that miss the
    bounding sphere take the point closest to the origin.

    Args:
        sdf: The function that was traced.
        traced: Where the rays meet its surface.
        wanted: The rays whose distance is replaced.
        config: The settings of the trace.
        cache: The field on a grid.
        generator: Draws the samples where there is no cache; lives on the CPU.
    """
    rays = traced.rays
    to_origin = -(rays.origins * rays.directions).sum(-1)
    closest = torch.where(rays.is_searched, traced.closest, to_origin)
    distances = torch.where(wanted, closest, traced.distances)
    rows = distances.isnan().nonzero().squeeze(-1)
    if not len(rows):
        return distances
    start = torch.where(traced.hit, traced.distances, rays.near)[rows]
    part = Rays(rays.origins[rows], rays.directions[rows], start, rays.far[rows])
    if cache is not None:
        distances[rows] = cache.closest(part)
        return distances
    shape = (len(part), config.num_samples)
    share = torch.rand(shape, generator=generator).to(start)
    t = part.near[:, None] + share * (part.far - part.near)[:, None]
    f = CountedField(sdf, config.chunk_size)(part.points(t))
    distances[rows] = t.gather(1, f.argmin(1, keepdim=True)).squeeze(1)
    return distances


def differentiable_distance(
    distances: Float[Tensor, " rays"],
    sdf: Float[Tensor, " rays"],
    gradients: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
) -> Float[Tensor, " rays"]:
    """Return the distances of the surface with a gradient by whatever ``sdf`` depends on.

    ``t = t_0 - (f(c + t_0 v) - f_0) / (grad f_0 . v)`` equals ``t_0`` and has
    the derivatives of the true intersection (IDR, arXiv:2003.09852, eq. 3).
    The denominator is kept at a magnitude of 0.01 or more.

    Args:
        distances: The traced distances ``t_0``.
        sdf: The signed distance at the traced points, with its graph.
        gradients: The gradient there; taken as constant.
        directions: The rays' unit directions ``v``; taken as constant.
    """
    slope = (gradients.detach() * directions.detach()).sum(-1)
    sign = torch.where(slope > 0, 1.0, -1.0)
    slope = sign * slope.abs().clamp(min=LEAST_SLOPE)
    return distances.detach() - (sdf - sdf.detach()) / slope
