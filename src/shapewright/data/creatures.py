"""A category of made-up objects: as many as wanted, none like another, each with a front, a back, a left and a right.

A body on a keel, a long nose at +x, a tower and a tail at the back, a pod on the side of +z and a horn at the front of
the side of -z, melted together into one closed surface. Twenty-four proportions vary, and every part has a colour of
its own, drawn anew for each object: a picture shows which way an object points, but not which object it is by its
paint alone.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.analytic import box_distance, capsule_distance, round_cone_distance, smooth_union
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import largest_component

CATEGORY = "creature"
# Where the random numbers of the category start.
SEED = 20260
RESOLUTION = 60
MELT = 0.07
MARGIN = 0.1

Part = Callable[[Float[Tensor, "*batch 3"]], Float[Tensor, "*batch"]]


@dataclass(frozen=True, kw_only=True)
class Proportions:
    """Hold the proportions of a creature, each from 0 to 1.

    Args:
        length: Of the body.
        height: Of the body.
        width: Of the body.
        roundness: Of its edges.
        keel: Height of the keel under the body.
        nose_length: How far the nose reaches out.
        nose_radius: At its root.
        nose_taper: How thick its end is.
        nose_rise: From drooping to raised.
        tower_height: Above the body.
        tower_length: From back to front.
        tower_width: From side to side.
        tower_place: From the rear towards the middle.
        tower_lean: From backwards to forwards.
        tail_length: Behind the body.
        tail_rise: From drooping to raised.
        tail_radius: At its root.
        pod_length: From back to front.
        pod_radius: Of the pod.
        pod_place: From the rear to the front.
        pod_height: From the keel to the back.
        pod_gap: Between pod and body.
        horn_length: Of the horn.
        horn_spread: From upright to sideways.
    """

    length: float
    height: float
    width: float
    roundness: float
    keel: float
    nose_length: float
    nose_radius: float
    nose_taper: float
    nose_rise: float
    tower_height: float
    tower_length: float
    tower_width: float
    tower_place: float
    tower_lean: float
    tail_length: float
    tail_rise: float
    tail_radius: float
    pod_length: float
    pod_radius: float
    pod_place: float
    pod_height: float
    pod_gap: float
    horn_length: float
    horn_spread: float

    def __post_init__(self) -> None:
        for field in fields(self):
            check_range(field.name, getattr(self, field.name), 0.0, 1.0)


def creature_name(number: int) -> str:
    """Return what the creature of a number is called."""
    return f"{CATEGORY}_{number:05d}"


def creature_number(name: str) -> int:
    """Return the number in the name of a creature.

    Raises:
        ValueError: if it is no such name.
    """
    stem, _, digits = name.rpartition("_")
    if stem != CATEGORY or not digits.isdecimal():
        raise ValueError(f"{name!r} is no creature: names are {creature_name(0)} and so on.")
    return int(digits)


def make_creature(number: int) -> Mesh:
    """Return a creature with a colour at each vertex; the same number makes the same creature."""
    rng = np.random.default_rng([SEED, number])
    values = rng.random(len(fields(Proportions)))
    proportions = Proportions(**dict(zip((field.name for field in fields(Proportions)), values, strict=True)))
    return build_creature(proportions, _palette(rng, len(creature_parts(proportions))))


def build_creature(proportions: Proportions, colors: Float[Tensor, "parts 3"]) -> Mesh:
    """Return the closed surface of a creature.

    Args:
        proportions: Its shape.
        colors: sRGB of body, keel, nose, tower, tail, pod and horn.

    Raises:
        ValueError: if there are not as many colours as parts.
    """
    parts = creature_parts(proportions)
    if len(colors) != len(parts):
        raise ValueError(f"colors must hold {len(parts)} rows, got {len(colors)}.")

    def distance(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        total = parts[0](points)
        for part in parts[1:]:
            total = smooth_union(total, part(points), MELT)
        return total

    lower, upper = _bounds(proportions)
    surface = extract_isosurface(distance, lower, upper, RESOLUTION, lipschitz=math.inf).mesh
    surface = largest_component(surface)
    nearest = torch.stack([part(surface.vertices) for part in parts]).argmin(0)
    return replace(surface, vertex_colors=colors[nearest].float())


def _mix(share: float, low: float, high: float) -> float:
    return low + (high - low) * share


def _half_sizes(p: Proportions) -> tuple[float, float, float]:
    return _mix(p.length, 0.38, 0.65), _mix(p.height, 0.17, 0.36), _mix(p.width, 0.18, 0.4)


def _bounds(p: Proportions) -> tuple[Float[Tensor, " 3"], Float[Tensor, " 3"]]:
    """Return a box around all parts."""
    length, height, width = _half_sizes(p)
    lower = [-length - _mix(p.tail_length, 0.05, 0.3) - 0.15, -height - 0.25, -width - 0.45]
    upper = [length + _mix(p.nose_length, 0.15, 0.55) + 0.3, height + 0.75, width + 0.6]
    return torch.tensor(lower) - MARGIN, torch.tensor(upper) + MARGIN


def creature_parts(p: Proportions) -> list[Part]:
    """Return the distance to each part: body, keel, nose, tower, tail, pod and horn."""
    return [_body(p), _keel(p), _nose(p), _tower(p), _tail(p), _pod(p), _horn(p)]


def _rounded(
    points: Float[Tensor, "*batch 3"], center: tuple[float, float, float], half: tuple[float, float, float], by: float
) -> Float[Tensor, "*batch"]:
    """Return the distance to a box whose edges are rounded, by a share of its thinnest side."""
    radius = by * min(half)
    x, y, z = half
    return box_distance(points, center, (x - radius, y - radius, z - radius)) - radius


def _body(p: Proportions) -> Part:
    return lambda points: _rounded(points, (0.0, 0.0, 0.0), _half_sizes(p), _mix(p.roundness, 0.35, 0.95))


def _keel(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    depth = _mix(p.keel, 0.04, 0.12)
    half = (0.75 * length, depth, 0.6 * width)
    return lambda points: _rounded(points, (0.0, -height, 0.0), half, 0.6)


def _nose(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    radius = _mix(p.nose_radius, 0.5, 0.9) * min(height, width)
    start = (length - radius, 0.1 * height, 0.0)
    rise = _mix(p.nose_rise, -0.12, 0.3)
    end = (length + _mix(p.nose_length, 0.15, 0.55), start[1] + rise, 0.0)
    return lambda points: round_cone_distance(points, start, end, radius, radius * _mix(p.nose_taper, 0.45, 0.95))


def _tower(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    rise = _mix(p.tower_height, 0.12, 0.6)
    half = (_mix(p.tower_length, 0.13, 0.3), (rise + height) / 2, _mix(p.tower_width, 0.45, 0.95) * width)
    middle = _mix(p.tower_place, -length + half[0], -0.1)
    lean = _mix(p.tower_lean, -0.35, 0.35)
    center = (middle, half[1], 0.0)

    def distance(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        x, y, z = points.unbind(-1)
        upright = torch.stack([x - lean * (y - height).clamp(min=0), y, z], dim=-1)
        return _rounded(upright, center, half, 0.6)

    return distance


def _tail(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    radius = _mix(p.tail_radius, 0.1, 0.18)
    start = (-length + radius, 0.3 * height, -0.3 * width)
    end = (-length - _mix(p.tail_length, 0.05, 0.3), start[1] + _mix(p.tail_rise, -0.15, 0.4), -0.3 * width)
    return lambda points: round_cone_distance(points, start, end, radius, 0.08)


def _pod(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    radius = _mix(p.pod_radius, 0.1, 0.24)
    reach = _mix(p.pod_length, 0.12, 0.4)
    middle = _mix(p.pod_place, -0.6, 0.6) * length
    y, z = _mix(p.pod_height, -0.7, 0.5) * height, width + 0.6 * radius + _mix(p.pod_gap, 0.0, 0.14)
    back, front = (middle - reach, y, z), (middle + reach, y, z)
    root, end = (middle, 0.0, 0.5 * width), (middle, y, z)

    def distance(points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch"]:
        pod, arm = capsule_distance(points, back, front, radius), capsule_distance(points, root, end, 0.1)
        return torch.minimum(pod, arm)

    return distance


def _horn(p: Proportions) -> Part:
    length, height, width = _half_sizes(p)
    reach = _mix(p.horn_length, 0.12, 0.35)
    angle = _mix(p.horn_spread, 0.2, 1.3)
    start = (0.6 * length, 0.4 * height, -0.5 * width)
    end = (start[0] + 0.08, start[1] + reach * math.cos(angle) + 0.1, start[2] - reach * math.sin(angle) - 0.05)
    return lambda points: round_cone_distance(points, start, end, 0.12, 0.08)


def _palette(rng: np.random.Generator, count: int) -> Float[Tensor, "parts 3"]:
    """Return a colour for each part, the hues spread around a random start."""
    hues = (rng.random() + rng.permutation(count) / count + rng.uniform(-0.05, 0.05, count)) % 1
    saturations, values = rng.uniform(0.35, 0.95, count), rng.uniform(0.45, 1.0, count)
    rows = [colorsys.hsv_to_rgb(*hsv) for hsv in zip(hues, saturations, values, strict=True)]
    return torch.tensor(rows, dtype=torch.float32)
