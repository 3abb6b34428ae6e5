"""The mirror plane of a half-seen shape, found where the scan and its mirror image overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.free_space import FREE, HIDDEN, DepthView, observe
from shapewright.geometry.point_set_surface import PointSetSurface

OFFSETS, FINE_OFFSETS = 17, 9
LARGEST_OFFSET = 0.08
NEAR = 0.02
LEAST_AGREEMENT = 0.85
LEAST_SHARE = 0.05
AXIS_SLACK = (1.5, 0.002)


@dataclass(frozen=True)
class MirrorPlane:
    """Hold the plane on which coordinate ``axis`` equals ``offset``.

    Args:
        axis: 0 for x, 1 for y, 2 for z.
        offset: Where the plane crosses the axis.
        agreement: Share of the visible mirrored points that coincide with the seen surface.
    """

    axis: int
    offset: float
    agreement: float

    def reflect(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the mirror images of positions."""
        mirrored = points.clone()
        mirrored[:, self.axis] = 2 * self.offset - mirrored[:, self.axis]
        return mirrored

    def reflect_directions(self, vectors: Float[Tensor, "points 3"]) -> Float[Tensor, "points 3"]:
        """Return the mirror images of directions."""
        mirrored = vectors.clone()
        mirrored[:, self.axis] = -mirrored[:, self.axis]
        return mirrored


def mirror_axes_of(
    guess: Callable[[Float[Tensor, "points 3"]], Float[Tensor, " points"]], axes: Sequence[int] = (0, 2)
) -> tuple[int, ...]:
    """Return the axes across which a guessed shape is its own mirror image best: one, or several that are as good.

    The measure is the mean of ``|f(x) - f(mirrored x)|`` near the surface.

    Args:
        guess: Signed distance of the guess.
        axes: Which ones to compare: 0 for x, 1 for y, 2 for z.
    """
    generator = torch.Generator().manual_seed(0)
    points = 2 * torch.rand(6000, 3, generator=generator) - 1
    values = guess(points)
    near = values.abs() <= values.abs().quantile(0.3)
    errors = [
        float((guess(MirrorPlane(axis, 0.0, 0.0).reflect(points[near])) - values[near]).abs().mean()) for axis in axes
    ]
    factor, slack = AXIS_SLACK
    return tuple(axis for axis, error in zip(axes, errors, strict=True) if error <= factor * min(errors) + slack)


def find_mirror_plane(seen: PointSetSurface, view: DepthView, axes: Sequence[int] = (0, 2)) -> MirrorPlane | None:
    """Return the plane near the origin that maps the scan onto itself best, or ``None`` if none does.

    A mirrored point either lies hidden, which says nothing, or in view: then it coincides with a seen point, or
    contradicts the plane. A plane is accepted if the coinciding points are many, and far more than the others.

    Args:
        seen: The seen surface.
        view: What the picture knows about space.
        axes: Normals of the planes to be tried; by default the vertical planes across x and z.
    """
    order = torch.randperm(len(seen.points), generator=torch.Generator().manual_seed(0))[:1500]
    points = seen.points[order]
    best: tuple[float, MirrorPlane] | None = None
    for axis in axes:
        middle, reach = 0.0, LARGEST_OFFSET
        for steps in (OFFSETS, FINE_OFFSETS):
            found = _best_offset(axis, torch.linspace(middle - reach, middle + reach, steps), points, seen, view)
            if found is None:
                break
            middle, reach = found[1].offset, LARGEST_OFFSET * 2 / (OFFSETS - 1)
            best = found if best is None or found[0] > best[0] else best
    return None if best is None else best[1]


def _best_offset(
    axis: int,
    offsets: Float[Tensor, " offsets"],
    points: Float[Tensor, "points 3"],
    seen: PointSetSurface,
    view: DepthView,
) -> tuple[float, MirrorPlane] | None:
    """Return the accepted plane across one axis with the highest score, and that score."""
    best: tuple[float, MirrorPlane] | None = None
    for offset in offsets.tolist():
        plane = MirrorPlane(axis, offset, 0.0)
        score, agreement, share = _score(plane, points, seen, view)
        accepted = agreement >= LEAST_AGREEMENT and share >= LEAST_SHARE
        if accepted and (best is None or score > best[0]):
            best = score, MirrorPlane(axis, offset, agreement)
    return best


def _score(
    plane: MirrorPlane, points: Float[Tensor, "points 3"], seen: PointSetSurface, view: DepthView
) -> tuple[float, float, float]:
    """Return a score that prefers exact overlap, the agreement, and the share of points that coincide."""
    mirrored = plane.reflect(points)
    query = seen(mirrored)
    nearest = query.nearest
    state, _ = observe(view, mirrored, margin=NEAR)
    coincides = (nearest < NEAR) & (state != HIDDEN)
    against = (state == FREE) & (nearest >= NEAR)
    matches, conflicts = float(coincides.sum()), float(against.sum())
    exactness = float((1 - query.offset[coincides].abs() / NEAR).clamp(min=0).sum())
    return exactness - 2 * conflicts, matches / max(matches + conflicts, 1.0), matches / len(points)
