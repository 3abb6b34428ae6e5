"""The loss between pictures in colour, at several sizes."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from shapewright.checks import check_shape


def colour_pyramid_loss(
    drawn: Float[Tensor, "images channels height width"],
    pictures: Float[Tensor, "images channels height width"],
    levels: int = 5,
) -> Float[Tensor, ""]:
    """Return the mean over sizes of the mean absolute difference; each size halves the one before by 2x2 means.

    Args:
        drawn: In [0, 1].
        pictures: In [0, 1].
        levels: How many sizes are compared; halving stops earlier at one pixel.
    """
    check_shape("pictures", pictures, tuple(drawn.shape))
    difference = drawn - pictures
    terms = [difference.abs().mean()]
    while len(terms) < levels and min(difference.shape[2:]) >= 2:
        difference = avg_pool2d(difference, 2)
        terms.append(difference.abs().mean())
    return sum(terms[1:], terms[0]) / len(terms)
