"""Losses of a discriminator that tells pictures of a mesh from seen sides from those of unseen sides."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus


def detection_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Float[Tensor, ""]:
    """Return ``mean softplus(-real) + mean softplus(fake)``: the sum of the binary cross-entropies to 1 and to 0.

    View prior learning (arXiv:1811.10719) reverses the gradient of both pictures; the form with one-hot views takes
    half of it, on detached pictures.

    Args:
        real: Logits of pictures from seen sides.
        fake: Logits of pictures from unseen sides.
    """
    return softplus(-real).mean() + softplus(fake).mean()


def fooling_loss(fake: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Return ``mean softplus(-fake)``, the binary cross-entropy to 1: what the networks of the mesh are to lower.

    Args:
        fake: Logits of pictures from unseen sides.
    """
    return softplus(-fake).mean()
