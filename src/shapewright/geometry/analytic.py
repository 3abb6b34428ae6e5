"""Signed distances in closed form: shapes whose surface is known exactly.

Distances are negative inside. The formulas are classical solid geometry; the
smooth minimum is the polynomial one of width ``width`` (it never exceeds the
plain minimum, by at most ``width / 4``), so a union of exact distances stays a
lower bound of the true distance: sphere tracing over it is safe.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

Point = tuple[float, float, float]


def sphere_distance(points: Float[Tensor, "*batch 3"], center: Point, radius: float) -> Float[Tensor, "*batch"]:
    """Return ``|p - center| - radius``."""
    return _length(*_offsets(points, center)) - radius


def ellipsoid_distance(points: Float[Tensor, "*batch 3"], center: Point, radii: Point) -> Float[Tensor, "*batch"]:
    """Return the first-order distance to an ellipsoid, exact on its surface.

    With ``g = |p / radii|`` and ``h = |p / radii^2|`` it is ``g (g - 1) / h``
    (the implicit function over the length of its gradient).
    """
    x, y, z = _offsets(points, center)
    scaled = (x / radii[0], y / radii[1], z / radii[2])
    g = _length(*scaled)
    h = _length(scaled[0] / radii[0], scaled[1] / radii[1], scaled[2] / radii[2])
    outside_center = g * (g - 1) / h.clamp_min(1e-12)
    return torch.where(h > 1e-12, outside_center, torch.full_like(g, -min(radii)))


def torus_distance(
    points: Float[Tensor, "*batch 3"], center: Point, major: float, minor: float, axis: int = 1
) -> Float[Tensor, "*batch"]:
    """Return the distance to a torus around a coordinate axis.

    Args:
        points: Where to measure.
        center: Centre of the torus.
        major: Radius of the circle inside the tube.
        minor: Radius of the tube.
        axis: The axis of revolution: 0 for x, 1 for y, 2 for z.
    """
    offsets = list(_offsets(points, center))
    along = offsets.pop(axis)
    return _length(_length(*offsets) - major, along) - minor


def cylinder_distance(
    points: Float[Tensor, "*batch 3"], center: Point, radius: float, half_height: float, rounding: float = 0.0
) -> Float[Tensor, "*batch"]:
    """Return the distance to an upright cylinder (axis y) whose edges are rounded.

    Args:
        points: Where to measure.
        center: Centre of the cylinder.
        radius: Outer radius, rounding included.
        half_height: Half of the height, rounding included.
        rounding: Radius of the rounded edges.
    """
    x, y, z = _offsets(points, center)
    across = _length(x, z) - (radius - rounding)
    along = y.abs() - (half_height - rounding)
    outside = _length(across.clamp_min(0), along.clamp_min(0))
    return outside + torch.maximum(across, along).clamp_max(0) - rounding


def box_distance(points: Float[Tensor, "*batch 3"], center: Point, half_sizes: Point) -> Float[Tensor, "*batch"]:
    """Return the distance to an axis-aligned box."""
    excess = [offset.abs() - half for offset, half in zip(_offsets(points, center), half_sizes, strict=True)]
    outside = _length(*(value.clamp_min(0) for value in excess))
    return outside + torch.maximum(torch.maximum(excess[0], excess[1]), excess[2]).clamp_max(0)


def round_cone_distance(
    points: Float[Tensor, "*batch 3"], start: Point, end: Point, start_radius: float, end_radius: float
) -> Float[Tensor, "*batch"]:
    """Return the distance to the convex hull of two balls.

    In the half-plane through the axis, with ``a`` the coordinate along it, ``r``
    the distance from it and ``s`` the sine of the cone's half-angle, the nearest
    ball of the hull sits at ``a + r s / sqrt(1 - s^2)``, clamped to the axis.

    Raises:
        ValueError: if one ball contains the other.
    """
    direction = [last - first for first, last in zip(start, end, strict=True)]
    length = sum(value * value for value in direction) ** 0.5
    sine = (end_radius - start_radius) / length if length else 1.0
    if abs(sine) >= 1:
        raise ValueError(f"one ball of the round cone from {start} to {end} must not contain the other.")
    x, y, z = _offsets(points, start)
    unit = [value / length for value in direction]
    along = x * unit[0] + y * unit[1] + z * unit[2]
    across = _length(x - along * unit[0], y - along * unit[1], z - along * unit[2])
    nearest = (along + across * (sine / (1 - sine * sine) ** 0.5)).clamp(0, length)
    return _length(along - nearest, across) - (start_radius + nearest * sine)


def capsule_distance(
    points: Float[Tensor, "*batch 3"], start: Point, end: Point, radius: float
) -> Float[Tensor, "*batch"]:
    """Return the distance to a segment thickened by ``radius``."""
    return round_cone_distance(points, start, end, radius, radius)


def smooth_union(
    first: Float[Tensor, "*batch"], second: Float[Tensor, "*batch"], width: float
) -> Float[Tensor, "*batch"]:
    """Return ``min(first, second) - h^2 width / 4`` with ``h = max(0, 1 - |first - second| / width)``.

    Args:
        first: Distance to one shape.
        second: Distance to the other.
        width: Where the distances differ by less than this, the shapes melt together; positive.
    """
    overlap = (1 - (first - second).abs() / width).clamp_min(0)
    return torch.minimum(first, second) - overlap * overlap * (width / 4)


def smooth_difference(
    solid: Float[Tensor, "*batch"], removed: Float[Tensor, "*batch"], width: float
) -> Float[Tensor, "*batch"]:
    """Return the distance to ``solid`` without ``removed``, with rounded edges of size ``width``."""
    return -smooth_union(-solid, removed, width)


def _offsets(points: Float[Tensor, "*batch 3"], center: Point) -> tuple[Tensor, Tensor, Tensor]:
    """Return the three coordinates relative to a centre, each a plain tensor."""
    x, y, z = points.unbind(-1)
    return x - center[0], y - center[1], z - center[2]


def _length(*components: Tensor) -> Tensor:
    """Return the Euclidean length; its gradient at 0 is 0, not NaN."""
    first, *others = components
    total = first * first
    for component in others:
        total = total + component * component
    return total.clamp_min(1e-30).sqrt()
