"""The pictures that every renderer of the surface method returns."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Rendering:
    """Hold what one camera sees.

    Attributes:
        rgb: Colour in [0, 1], multiplied by the opacity (composited on black).
        opacity: Share of the light that the object stops, in [0, 1].
        depth: Distance from the camera along the unit ray in normalised units; NaN where the ray misses.
        normal: Unit outward normal; zero where the ray misses.
    """

    rgb: Float[Tensor, "height width 3"]
    opacity: Float[Tensor, "height width"]
    depth: Float[Tensor, "height width"]
    normal: Float[Tensor, "height width 3"]
