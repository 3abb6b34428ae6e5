"""Ways from one code to another."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.errors import UserError

# Sines of smaller angles are too inexact to divide by; the arc is a straight line to double precision there.
STRAIGHT = 1e-4


def interpolate_codes(
    first: Float[Tensor, " code"],
    second: Float[Tensor, " code"],
    steps: int,
    kind: Literal["linear", "slerp"] = "linear",
) -> Float[Tensor, "steps code"]:
    """Return codes at even distances from one code to another, both ends included.

    ``linear`` is ``(1 - t) a + t b``. ``slerp`` turns the direction evenly along the great circle,
    ``(sin((1 - t) w) a + sin(t w) b) / sin w`` of the unit vectors with the angle w between them (Shoemake, SIGGRAPH
    1985), while the length goes linearly from one to the other: codes of high dimension lie near a sphere, and the
    middle of a straight line is far from it. A code of zero has no direction: the way from it is straight.

    Raises:
        ValueError: if the codes differ in length or are not finite, ``steps`` is below 2, or ``kind`` is unknown.
        UserError: if ``slerp`` is asked for codes in opposite directions, between which no way is the shortest.
    """
    check_shape("first", first, (None,))
    check_shape("second", second, tuple(first.shape))
    check_finite("first", first)
    check_finite("second", second)
    check_range("steps", steps, 2)
    if kind not in ("linear", "slerp"):
        raise ValueError(f"kind must be 'linear' or 'slerp', got {kind!r}.")
    t = torch.linspace(0, 1, steps, dtype=torch.float64, device=first.device)[:, None]
    a, b = first.double(), second.double()
    straight = (1 - t) * a + t * b
    lengths = a.norm(), b.norm()
    if kind == "linear" or not min(lengths) > 0:
        return straight.to(first)
    angle = _angle(a / lengths[0], b / lengths[1])
    if torch.pi - angle < STRAIGHT:
        raise UserError(
            "The two codes point in opposite directions: many great circles join them.", "Interpolate linearly."
        )
    if angle < STRAIGHT:
        return straight.to(first)
    directions = (torch.sin((1 - t) * angle) * a / lengths[0] + torch.sin(t * angle) * b / lengths[1]) / angle.sin()
    return (((1 - t) * lengths[0] + t * lengths[1]) * directions).to(first)


def _angle(a: Float[Tensor, " code"], b: Float[Tensor, " code"]) -> Float[Tensor, ""]:
    """Return the angle between unit vectors, exact for small and for large ones (Kahan, 2006)."""
    return 2 * torch.atan2((a - b).norm(), (a + b).norm())
