"""What both tracers share: rays, settings, results and the root search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapewright.geometry.rays import intersect_sphere

SignedDistance = Callable[[Float[Tensor, "n 3"]], Float[Tensor, " n"]]
FLAT = 1e-12


@dataclass(frozen=True, kw_only=True)
class TracingConfig:
    """Say how surfaces are found along rays.

    Attributes:
        tracer: ``exact`` follows the paper; ``fast`` finds the same surfaces with far fewer evaluations.
        radius: Radius of the sphere around the origin that holds the object.
        threshold: A point with a smaller signed distance lies on the surface.
        march_rounds: Exact: steps of the march from both ends.
        line_search_step: Exact: share of a step kept when it entered the surface.
        line_search_rounds: Exact: corrections of such a step.
        num_samples: Exact: samples where the march did not end, and for the closest approach.
        secant_rounds: Exact: rounds of the root search.
        min_step: Fast: shortest step of the march, in normalised units.
        bold_step: Fast: most that a step towards a foreseen surface exceeds the signed distance.
        fast_secant_rounds: Fast: rounds of the root search.
        cache_resolution: Fast: cells per axis of the cached field, 16 times a power of two.
        cache_every: Fast: training steps between refreshes of the cache.
        chunk_size: Most points handed to the network at once.
    """

    tracer: Literal["exact", "fast"] = "fast"
    radius: float = 1.0
    threshold: float = 5e-5
    march_rounds: int = 10
    line_search_step: float = 0.5
    line_search_rounds: int = 3
    num_samples: int = 100
    secant_rounds: int = 8
    min_step: float = 2e-3
    bold_step: float = 0.01
    fast_secant_rounds: int = 4
    cache_resolution: int = 64
    cache_every: int = 16
    chunk_size: int = 100_000


@dataclass(frozen=True)
class Rays:
    """Hold rays and the stretch of each that is searched; ``far <= near`` where there is none."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    near: Float[Tensor, " rays"]
    far: Float[Tensor, " rays"]

    @staticmethod
    def through_sphere(origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], radius: float) -> Rays:
        """Return the rays with their stretch inside the sphere around the origin."""
        near, far, _ = intersect_sphere(origins, directions, radius)
        return Rays(origins, directions, near, far)

    def __len__(self) -> int:
        return self.origins.shape[0]

    def __getitem__(self, rows: Tensor) -> Rays:
        """Return the chosen rays."""
        return Rays(self.origins[rows], self.directions[rows], self.near[rows], self.far[rows])

    @property
    def is_searched(self) -> Bool[Tensor, " rays"]:
        """Whether there is anything to search."""
        return self.far > self.near

    def points(self, distances: Float[Tensor, " rays *samples"]) -> Float[Tensor, " rays *samples 3"]:
        """Return the points at the given distances, one or several a ray."""
        shape = (len(self), *[1] * (distances.dim() - 1), 3)
        return self.origins.view(shape) + distances[..., None] * self.directions.view(shape)


@dataclass(frozen=True)
class TraceResult:
    """Hold where rays meet the surface.

    Attributes:
        rays: The rays that were traced.
        distances: Distance of the surface along each ray; where it was missed, of the last point looked at.
        hit: Whether the ray meets the surface.
        closest: Distance of the least signed distance seen on the way; NaN where it was not looked for.
        num_evaluations: Points at which the network was asked.
    """

    rays: Rays
    distances: Float[Tensor, " rays"]
    hit: Bool[Tensor, " rays"]
    closest: Float[Tensor, " rays"]
    num_evaluations: int


class CountedField:
    """Ask a signed distance function in chunks, and count the points.

    Args:
        sdf: Any callable on positions.
        chunk_size: Most points handed to it at once.
    """

    def __init__(self, sdf: SignedDistance, chunk_size: int) -> None:
        self.num_evaluations = 0
        self._sdf = sdf
        self._chunk_size = chunk_size

    def __call__(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Return the signed distances of the points."""
        flat = points.reshape(-1, 3)
        self.num_evaluations += flat.shape[0]
        values = torch.cat([self._sdf(chunk) for chunk in flat.split(self._chunk_size)])
        return values.view(points.shape[:-1])


@dataclass(frozen=True)
class Brackets:
    """Hold stretches of rays that go from outside (f > 0) to inside (f < 0) the surface.

    Attributes:
        rows: The ray of each bracket.
        low: Distance of the outer end.
        f_low: Signed distance there, positive.
        high: Distance of the inner end.
        f_high: Signed distance there, negative.
    """

    rows: Int[Tensor, " n"]
    low: Float[Tensor, " n"]
    f_low: Float[Tensor, " n"]
    high: Float[Tensor, " n"]
    f_high: Float[Tensor, " n"]


def find_roots(
    field: CountedField, rays: Rays, brackets: Brackets, rounds: int, threshold: float
) -> Float[Tensor, " n"]:
    """Return the distances at which the surface is crossed, by regula falsi.

    A bracket whose last value is within ``threshold`` of 0 is finished; one
    with nearly equal end values is halved.
    """
    rays = rays[brackets.rows]
    low, f_low, high, f_high = (
        value.clone() for value in (brackets.low, brackets.f_low, brackets.high, brackets.f_high)
    )
    root = _chord_root(low, f_low, high, f_high)
    open_rows = torch.arange(len(rays), device=low.device)
    for _ in range(rounds):
        if not len(open_rows):
            break
        t = root[open_rows]
        f = field(rays[open_rows].points(t))
        outside = f > 0
        out_rows, in_rows = open_rows[outside], open_rows[~outside]
        low[out_rows], f_low[out_rows] = t[outside], f[outside]
        high[in_rows], f_high[in_rows] = t[~outside], f[~outside]
        open_rows = open_rows[f.abs() > threshold]
        root[open_rows] = _chord_root(low[open_rows], f_low[open_rows], high[open_rows], f_high[open_rows])
    return root


def _chord_root(
    low: Float[Tensor, " n"],
    f_low: Float[Tensor, " n"],
    high: Float[Tensor, " n"],
    f_high: Float[Tensor, " n"],
) -> Float[Tensor, " n"]:
    """Return where the chord through both ends is 0; the middle where it is flat."""
    drop = f_low - f_high
    share = torch.where(drop > FLAT, f_low / drop, 0.5)
    return low + share * (high - low)
