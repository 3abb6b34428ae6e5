"""The object of the demo capture: a painted bird on a stand, given by formulas alone.

It has what makes reconstruction interesting: three holes (handle, ring, legs),
concavities (open beak, nest, carved stand), thin parts, fine paint, and no symmetry.
It lies in the unit ball; the formulas use the painter's own lengths, see ``_drawn``.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.analytic import (
    Point,
    capsule_distance,
    cylinder_distance,
    ellipsoid_distance,
    round_cone_distance,
    smooth_difference,
    smooth_union,
    sphere_distance,
    torus_distance,
)

# Lengths of the drawing become ``SIZE`` as large, around the middle of its height.
SIZE = 0.92
MIDDLE: Point = (-0.02, -0.09, 0.06)

# The rows of ``_parts``.
BODY, HEAD, BEAK, EYES, WINGS, TAIL, CREST, HANDLE, LEGS, STAND, NEST, EGGS, RING = range(13)

CREAM = (0.93, 0.86, 0.72)
TEAL = (0.10, 0.47, 0.52)
NAVY = (0.09, 0.14, 0.30)
CORAL = (0.85, 0.31, 0.20)
MUSTARD = (0.92, 0.66, 0.18)
LEAF = (0.40, 0.60, 0.36)
PLUM = (0.46, 0.20, 0.40)
BROWN = (0.42, 0.27, 0.16)

_WING_ROOTS: tuple[Point, Point] = ((0.13, 0.06, -0.25), (0.13, 0.08, 0.25))
_WING_TIPS: tuple[tuple[Point, ...], tuple[Point, ...]] = (
    ((-0.42, 0.13, -0.26), (-0.45, 0.02, -0.29), (-0.38, -0.09, -0.29), (-0.26, -0.18, -0.27)),
    ((-0.30, 0.42, 0.52), (-0.40, 0.28, 0.60), (-0.42, 0.12, 0.60), (-0.34, -0.03, 0.53)),
)
_TAIL_ROOT: Point = (-0.30, 0.02, 0.0)
_TAIL_TIPS: tuple[Point, ...] = ((-0.74, 0.24, -0.26), (-0.80, 0.36, -0.08), (-0.80, 0.36, 0.10), (-0.72, 0.20, 0.26))
_CREST_TIPS: tuple[Point, ...] = ((0.30, 0.74, 0.06), (0.20, 0.69, 0.0), (0.13, 0.60, -0.05))
_EYES: tuple[Point, Point] = ((0.47, 0.45, 0.155), (0.48, 0.45, -0.115))
_EGGS: tuple[Point, ...] = ((-0.245, -0.605, 0.20), (-0.135, -0.605, 0.25), (-0.175, -0.595, 0.135))


def figurine_distance(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
    """Return the signed field whose zero set is the figurine; its slope stays below 1.5."""
    parts = _parts(_drawn(points))
    bird = smooth_union(parts[BODY], parts[HEAD], 0.16)
    for part, width in ((WINGS, 0.03), (TAIL, 0.06), (CREST, 0.04), (BEAK, 0.02), (EYES, 0.01), (HANDLE, 0.03)):
        bird = smooth_union(bird, parts[part], width)
    bird = smooth_union(bird, parts[LEGS], 0.05)
    for part, width in ((STAND, 0.03), (RING, 0.01)):
        bird = smooth_union(bird, parts[part], width)
    return smooth_union(bird, smooth_union(parts[NEST], parts[EGGS], 0.01), 0.02) * SIZE


def figurine_color(points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
    """Return the paint at points near the surface, as linear reflectance in [0, 1]."""
    points = _drawn(points)
    part = _parts(points).argmin(0)
    painters = (
        _paint_body,
        _paint_head,
        _paint_beak,
        _paint_eyes,
        _paint_wings,
        _paint_tail,
        _paint_crest,
        _paint_handle,
        _paint_legs,
        _paint_stand,
        _paint_nest,
        _paint_eggs,
        _paint_ring,
    )
    color = torch.zeros_like(points)
    for index, paint in enumerate(painters):
        chosen = part == index
        if bool(chosen.any()):
            color[chosen] = paint(points[chosen])
    glaze = 1 + 0.05 * torch.sin(41 * points + 5 * torch.sin(23 * points.roll(1, -1))).mean(-1, keepdim=True)
    return (color * glaze).clamp(0, 1) ** 2.2


# ---- shapes


def _drawn(points: Tensor) -> Tensor:
    """Return the points in the lengths of the drawing."""
    return points / SIZE + torch.tensor(MIDDLE, dtype=points.dtype)


def _parts(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, " parts *batch"]:
    """Return the distance to each part, in the order of ``BODY, HEAD, ... RING``."""
    head = round_cone_distance(points, (0.20, 0.14, 0.0), (0.40, 0.40, 0.02), 0.19, 0.175)
    eyes = torch.minimum(*(sphere_distance(points, eye, 0.05) for eye in _EYES))
    ring = torus_distance(points, (0.70, 0.155, 0.05), 0.10, 0.024, axis=0)
    wings = torch.minimum(*(_fan(points, *wing, 0.085, 0.048) for wing in zip(_WING_ROOTS, _WING_TIPS, strict=True)))
    tail = _fan(points, _TAIL_ROOT, _TAIL_TIPS, 0.07, 0.095)
    parts = [_body(points), head, _beak(points), eyes, wings, tail, _crest(points), _handle(points), _legs(points)]
    return torch.stack([*parts, _stand(points), _nest(points), _eggs(points), ring])


def _fan(
    points: Tensor, root: Point, tips: tuple[Point, ...], root_radius: float, tip_radius: float
) -> Float[Tensor, "*batch"]:
    """Return the distance to feathers that spread from a root."""
    total = round_cone_distance(points, root, tips[0], root_radius, tip_radius)
    for tip in tips[1:]:
        total = smooth_union(total, round_cone_distance(points, root, tip, root_radius, tip_radius), 0.02)
    return total


def _body(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    cosine, sine = math.cos(math.radians(14)), math.sin(math.radians(14))
    level = torch.stack([cosine * x + sine * y, cosine * y - sine * x, z], -1)
    return ellipsoid_distance(level, (0.0, 0.0, 0.0), (0.42, 0.33, 0.31))


def _beak(points: Tensor) -> Tensor:
    upper = round_cone_distance(points, (0.53, 0.40, 0.03), (0.80, 0.31, 0.06), 0.085, 0.018)
    lower = round_cone_distance(points, (0.52, 0.33, 0.03), (0.72, 0.22, 0.05), 0.06, 0.016)
    return smooth_union(upper, lower, 0.02)


def _crest(points: Tensor) -> Tensor:
    total = None
    for tip in _CREST_TIPS:
        feather = smooth_union(
            round_cone_distance(points, (0.36, 0.52, 0.01), tip, 0.045, 0.02), sphere_distance(points, tip, 0.042), 0.02
        )
        total = feather if total is None else smooth_union(total, feather, 0.02)
    assert total is not None
    return total


def _handle(points: Tensor) -> Tensor:
    """Return the distance to a rope of three strands bent into a circle over the back."""
    across, around, turn = _handle_angles(points)
    strands = 0.044 + 0.010 * torch.cos(3 * turn + 18 * around)
    return (across - strands) * 0.85


def _handle_angles(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distance from the rope's axis, the angle along the circle and the angle around the rope."""
    x, y, z = points.unbind(-1)
    x, y = x + 0.07, y - 0.33
    outwards = (x * x + y * y).sqrt() - 0.28
    return (outwards * outwards + z * z).sqrt(), torch.atan2(y, x), torch.atan2(z, outwards)


def _legs(points: Tensor) -> Tensor:
    total = None
    for side, step in ((-0.12, 0.04), (0.11, -0.03)):
        ankle = (0.06 + step, -0.63, side)
        leg = round_cone_distance(points, (0.02, -0.22, side), ankle, 0.075, 0.042)
        for reach, spread in ((0.16, -0.07), (0.18, 0.0), (0.16, 0.07), (-0.09, 0.0)):
            toe = capsule_distance(points, ankle, (ankle[0] + reach, -0.665, side + spread), 0.03)
            leg = smooth_union(leg, toe, 0.02)
        total = leg if total is None else torch.minimum(total, leg)
    assert total is not None
    return total


def _stand(points: Tensor) -> Tensor:
    """Return the distance to two discs: the upper rim has dimples, the top a carved ring."""
    upper = cylinder_distance(points, (0.0, -0.75, 0.0), 0.47, 0.075, 0.02)
    lower = cylinder_distance(points, (0.0, -0.85, 0.0), 0.54, 0.05, 0.02)
    dimples = sphere_distance(_folded(points, 18), (0.50, -0.755, 0.0), 0.062)
    upper = smooth_difference(upper, dimples, 0.012)
    upper = smooth_difference(upper, torus_distance(points, (0.0, -0.665, 0.0), 0.415, 0.02), 0.01)
    return smooth_union(upper, lower, 0.02)


def _folded(points: Tensor, count: int) -> Tensor:
    """Return the points turned around the y axis into the first of ``count`` equal sectors."""
    x, y, z = points.unbind(-1)
    radius = (x * x + z * z).sqrt()
    sector = 2 * math.pi / count
    angle = torch.atan2(z, x)
    angle = angle - sector * torch.round(angle / sector)
    return torch.stack([radius * torch.cos(angle), y, radius * torch.sin(angle)], -1)


def _nest(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    x, z = x + 0.19, z - 0.19
    around = torch.atan2(z, x)
    twigs = 0.007 * torch.sin(18 * around + 50 * y) + 0.004 * torch.sin(29 * around - 60 * y)
    bowl = torus_distance(points, (-0.19, -0.635, 0.19), 0.16, 0.062) + twigs
    floor = ellipsoid_distance(points, (-0.19, -0.66, 0.19), (0.17, 0.06, 0.17))
    return smooth_union(bowl * 0.55, floor, 0.02)


def _eggs(points: Tensor) -> Tensor:
    first, second, third = (ellipsoid_distance(points, egg, (0.052, 0.065, 0.052)) for egg in _EGGS)
    return torch.minimum(torch.minimum(first, second), third)


# ---- paint: colours as a screen shows them; figurine_color makes them linear


def _mix(first: Tensor | Point, second: Tensor | Point, share: Tensor) -> Tensor:
    """Return ``first`` where ``share`` is 0 and ``second`` where it is 1."""
    low = torch.as_tensor(first, dtype=share.dtype)
    return low + (torch.as_tensor(second, dtype=share.dtype) - low) * share[:, None]


def _step(value: Tensor, softness: float) -> Tensor:
    """Return 0 for negative and 1 for positive values, with a soft edge."""
    return (value / softness + 0.5).clamp(0, 1)


def _scales(along: Tensor, around: Tensor) -> Tensor:
    """Return, for scales in staggered rows, the distance from the scale's centre (0 to about 1)."""
    row = torch.floor(along)
    column = around + 0.5 * (row % 2)
    return ((along - row - 0.15) ** 2 + (1.6 * (column - torch.round(column))) ** 2).sqrt()


def _dots(points: Tensor) -> Tensor:
    """Return the distance from the nearest point of a cubic lattice of spacing 1."""
    return (points - points.round()).norm(dim=-1)


def _paint_body(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    around = torch.atan2(z, y + 0.02)
    scales = _scales(11 * x, around * 16 / (2 * math.pi) * 1.5)
    back = _mix(_mix(TEAL, LEAF, _step(0.30 - scales, 0.1)), CREAM, _step(scales - 0.62, 0.1))
    belly = _mix(CREAM, CORAL, _step(0.34 - _dots(points * 11), 0.08))
    border = -0.075 + 0.3 * x + 0.025 * torch.cos(40 * x) - y
    color = _mix(back, belly, _step(border, 0.006))
    return _mix(color, MUSTARD, _step(0.022 - border.abs(), 0.006))


def _paint_head(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    scales = _scales(17 * (x + 0.8 * y), 22 * torch.atan2(z, 0.4 + y - 0.6 * x) / 2)
    color = _mix(_mix(NAVY, TEAL, _step(0.45 - scales, 0.1)), CREAM, _step(scales - 0.72, 0.08))
    collar = x + 1.2 * y - 0.32
    color = _mix(color, _mix(CORAL, CREAM, _step(torch.sin(160 * collar), 0.5)), _step(0.06 - collar.abs(), 0.006))
    for eye, radius in zip(_EYES, (0.125, 0.105), strict=True):
        distance = sphere_distance(points, eye, 0.0)
        rings = _mix(CREAM, CORAL, _step(torch.sin(190 * distance), 0.5))
        color = _mix(color, rings, _step(radius - distance, 0.008))
    return color


def _paint_beak(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    color = _mix(MUSTARD, CORAL, ((x - 0.58) / 0.2).clamp(0, 1))
    return _mix(color, BROWN, 0.6 * _step(torch.sin(95 * (x - 0.5 * y + 0.6 * z.abs())) - 0.55, 0.3))


def _paint_eyes(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    towards = (0.30 * (x - 0.475) + 0.95 * (z - 0.02).abs() - 0.13) / 0.05
    color = _mix(CREAM, MUSTARD, _step(towards - 0.35, 0.1))
    color = _mix(color, (0.05, 0.05, 0.07), _step(towards - 0.62, 0.1))
    glint = ((x - 0.49) ** 2 + (y - 0.475) ** 2).sqrt()
    return _mix(color, CREAM, _step(0.014 - glint, 0.004) * _step(towards - 0.5, 0.1))


def _feathers(points: Tensor, root: Point, tips: tuple[Point, ...]) -> tuple[Tensor, Tensor]:
    """Return the index of the nearest feather and the position along it (0 root, 1 tip)."""
    offsets = points - torch.tensor(root, dtype=points.dtype)
    axes = torch.tensor(tips, dtype=points.dtype) - torch.tensor(root, dtype=points.dtype)
    along = (offsets @ axes.T) / (axes * axes).sum(1)
    gaps = (offsets[:, None] - along.clamp(0, 1)[..., None] * axes).norm(dim=-1)
    nearest = gaps.argmin(1)
    return nearest, along.gather(1, nearest[:, None])[:, 0]


def _paint_wings(points: Tensor) -> Tensor:
    left = points[:, 2] > 0
    folded = _feathers(points, _WING_ROOTS[0], _WING_TIPS[0])
    raised = _feathers(points, _WING_ROOTS[1], _WING_TIPS[1])
    feather, along = (torch.where(left, second, first) for first, second in zip(folded, raised, strict=True))
    odd = (feather % 2).to(points)
    color = _mix(_mix(CORAL, PLUM, odd), _mix(MUSTARD, CREAM, odd), _step(torch.sin(26 * along + 1.5 * odd), 0.35))
    color = _mix(color, NAVY, _step(along - 0.92, 0.02))
    shoulder = _mix(TEAL, MUSTARD, _step(0.36 - _dots(points * 16), 0.1))
    return _mix(color, shoulder, _step(0.24 - along, 0.02))


def _paint_tail(points: Tensor) -> Tensor:
    feather, along = _feathers(points, _TAIL_ROOT, _TAIL_TIPS)
    odd = (feather % 2).to(points)
    color = _mix(_mix(TEAL, LEAF, odd), NAVY, _step(torch.sin(44 * along + 2 * odd) - 0.3, 0.35))
    tips = torch.tensor(_TAIL_TIPS, dtype=points.dtype)[feather]
    spot = (points - tips)[:, [0, 2]].norm(dim=1)
    for radius, paint in ((0.085, CREAM), (0.068, CORAL), (0.045, MUSTARD), (0.024, NAVY)):
        color = _mix(color, paint, _step(radius - spot, 0.006))
    return color


def _paint_crest(points: Tensor) -> Tensor:
    _, along = _feathers(points, (0.36, 0.52, 0.01), _CREST_TIPS)
    color = _mix(PLUM, CORAL, _step(torch.sin(30 * along), 0.4))
    return _mix(color, MUSTARD, _step(along - 0.80, 0.03))


def _paint_handle(points: Tensor) -> Tensor:
    _, around, turn = _handle_angles(points)
    phase = torch.remainder((3 * turn + 18 * around) / (2 * math.pi) + 0.5, 1.0)
    color = _mix(BROWN, MUSTARD, (1 - (2 * phase - 1).abs() * 1.2).clamp(0, 1))
    return _mix(color, CREAM, _step(torch.sin(90 * around - 4 * turn) - 0.75, 0.3))


def _paint_legs(points: Tensor) -> Tensor:
    y = points[:, 1]
    color = _mix(MUSTARD, CORAL, _step(torch.sin(75 * y), 0.4) * _step(y + 0.62, 0.01))
    return _mix(color, NAVY, _step(points[:, 0] - 0.215, 0.01))


def _paint_stand(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    angle, radius = torch.atan2(z, x), (x * x + z * z).sqrt()
    turns = angle * 18 / (2 * math.pi)
    grain = radius * 34 + 2.2 * torch.sin(3 * angle + 4) + torch.sin(9 * x + 7 * z)
    top = _mix((0.72, 0.52, 0.32), (0.52, 0.33, 0.18), _step(torch.sin(grain), 1.2))
    top = _mix(top, TEAL, _step(0.030 - (radius - 0.415).abs(), 0.005))
    dimple = ((turns - torch.round(turns)) ** 2 + ((y + 0.755) * 6.5) ** 2).sqrt()
    rim = _mix(NAVY, CREAM, _step(0.45 - dimple, 0.03))
    rim = _mix(rim, CORAL, _step(0.33 - dimple, 0.03))
    wave = 2 * (turns * 2 - torch.round(turns * 2)).abs()
    foot = _mix(MUSTARD, TEAL, _step((y + 0.885) / 0.07 - wave, 0.12))
    checker = torch.sin(angle * 12) * torch.sin(radius * 40)
    bottom = _mix(CREAM, PLUM, _step(checker, 0.3))
    color = _mix(rim, top, _step(torch.minimum(y + 0.69, 0.46 - radius), 0.004))
    color = _mix(color, foot, _step(-y - 0.812, 0.004))
    return _mix(color, bottom, _step(torch.minimum(-y - 0.893, 0.53 - radius), 0.004))


def _paint_nest(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    around = torch.atan2(z - 0.19, x + 0.19)
    straw = torch.sin(44 * around + 120 * y) + torch.sin(62 * around - 150 * y)
    return _mix(BROWN, (0.86, 0.70, 0.40), _step(straw, 2.4))


def _paint_eggs(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    speckles = torch.sin(130 * x + 3 * torch.sin(50 * y)) * torch.sin(120 * y) * torch.sin(125 * z + 2 * x)
    return _mix((0.62, 0.82, 0.84), PLUM, _step(speckles - 0.35, 0.25))


def _paint_ring(points: Tensor) -> Tensor:
    angle = torch.atan2(points[:, 1] - 0.155, points[:, 2] - 0.05)
    return _mix(MUSTARD, CORAL, _step(torch.sin(8 * angle), 0.4))
