"""How well two codes of one object agree, measured by how far the codes of different objects are apart."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_shape

_LEAST_SPREAD = 1e-6


def code_agreement_loss(codes: Float[Tensor, "n code"], others: Float[Tensor, "n code"]) -> Float[Tensor, ""]:
    """Return the mean squared distance of two codes of one object over that of the first ones from their mean.

    Shorter codes, or codes that draw together as a whole, do not lower it; 2 is what independent codes of one law have.

    Args:
        codes: Of different objects.
        others: Of the same objects in the same order.

    Raises:
        ValueError: if the shapes differ.
    """
    check_shape("codes", codes, (None, None))
    check_shape("others", others, tuple(codes.shape))
    spread = (codes - codes.mean(0)).square().sum(1).mean()
    return (others - codes).square().sum(1).mean() / spread.clamp(min=_LEAST_SPREAD)
