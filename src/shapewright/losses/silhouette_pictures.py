"""Losses between rendered silhouettes and masks."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d

from shapewright.checks import check_shape


def coverage_iou(
    rendered: Float[Tensor, "images height width"], masks: Float[Tensor, "images height width"], eps: float = 1e-6
) -> Float[Tensor, " images"]:
    """Return ``(sum S P + eps) / (sum (S + P - S P) + eps)`` of each pair; 1 where both pictures are empty.

    Args:
        rendered: P, coverage in [0, 1].
        masks: S, in [0, 1].
        eps: What makes two empty pictures agree.
    """
    check_shape("masks", masks, tuple(rendered.shape))
    both = (rendered * masks).sum((1, 2))
    either = (rendered + masks).sum((1, 2)) - both
    return (both + eps) / (either + eps)


def iou_loss(
    rendered: Float[Tensor, "images height width"], masks: Float[Tensor, "images height width"], eps: float = 1e-6
) -> Float[Tensor, ""]:
    """Return one minus the mean of :func:`coverage_iou` over the pictures."""
    return 1 - coverage_iou(rendered, masks, eps).mean()


def pyramid_loss(
    rendered: Float[Tensor, "images height width"], masks: Float[Tensor, "images height width"], levels: int = 5
) -> Float[Tensor, ""]:
    """Return the sum over levels of the mean over images of ``sum (S / |S| - P / |P|)^2``.

    Each level halves the pictures by 2x2 means; norms are over a level's pixels, plus 1e-5 (view prior learning,
    arXiv:1811.10719, section 3.1).

    Args:
        rendered: P, coverage in [0, 1].
        masks: S, in [0, 1].
        levels: How many sizes are compared; halving stops earlier at one pixel.
    """
    check_shape("masks", masks, tuple(rendered.shape))
    total = rendered.sum() * 0
    for level in range(levels):
        if level:
            if min(rendered.shape[1:]) < 2:
                break
            rendered, masks = (avg_pool2d(picture[:, None], 2)[:, 0] for picture in (rendered, masks))
        total = total + (_of_unit_length(masks) - _of_unit_length(rendered)).square().sum((1, 2)).mean()
    return total


def _of_unit_length(pictures: Tensor) -> Tensor:
    # The square root's derivative at an empty picture would be infinite.
    square = pictures.square().sum((1, 2), keepdim=True)
    return pictures / ((square + 1e-20).sqrt() + 1e-5)
