"""Intersections of rays with spheres and boxes."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def intersect_sphere(
    origins: Float[Tensor, "*rays 3"],
    directions: Float[Tensor, "*rays 3"],
    radius: float = 1.0,
) -> tuple[Float[Tensor, "*rays"], Float[Tensor, "*rays"], Bool[Tensor, "*rays"]]:
    """Return where rays enter and leave a sphere around the origin.

    With ``b = d . c`` and ``disc = b^2 - (|c|^2 - r^2)`` the distances are
    ``-b -+ sqrt(disc)``, clamped to >= 0 (IDR, arXiv:2003.09852, section 3).

    Args:
        origins: Ray origins ``c``.
        directions: Unit directions ``d``.
        radius: The sphere's radius, positive.

    Returns:
        near: Distance of the entry, 0 inside the sphere; 0 where missed.
        far: Distance of the exit; 0 where missed or behind.
        hits: Whether the ray meets the sphere in front of its origin.
    """
    b = (origins * directions).sum(-1)
    disc = b * b - ((origins * origins).sum(-1) - radius * radius)
    root = disc.clamp(min=0.0).sqrt()
    near, far = (-b - root).clamp(min=0.0), (-b + root).clamp(min=0.0)
    hits = (disc > 0) & (far > 0)
    zero = torch.zeros_like(b)
    return torch.where(hits, near, zero), torch.where(hits, far, zero), hits


def intersect_box(
    origins: Float[Tensor, "*rays 3"],
    directions: Float[Tensor, "*rays 3"],
    lower: Float[Tensor, "3"],
    upper: Float[Tensor, "3"],
) -> tuple[Float[Tensor, "*rays"], Float[Tensor, "*rays"], Bool[Tensor, "*rays"]]:
    """Return where rays enter and leave an axis-aligned box (slab method).

    Returns:
        near: Distance of the entry, 0 inside the box; 0 where missed.
        far: Distance of the exit; 0 where missed or behind.
        hits: Whether the ray meets the box in front of its origin.
    """
    # A component of exactly zero would give 0 / 0 on a face: nudge it instead.
    safe = torch.where(directions == 0, torch.finfo(directions.dtype).tiny, directions)
    first, second = (lower - origins) / safe, (upper - origins) / safe
    near = torch.minimum(first, second).amax(-1).clamp(min=0.0)
    far = torch.maximum(first, second).amin(-1).clamp(min=0.0)
    hits = far > near
    zero = torch.zeros_like(near)
    return torch.where(hits, near, zero), torch.where(hits, far, zero), hits
