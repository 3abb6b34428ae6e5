"""How near a rendered picture is to the photo: PSNR in its several forms, SSIM, silhouettes, depth.

A prediction is ``rgb`` premultiplied by ``opacity`` (the render on black), a photo is straight ``rgb`` with ``alpha``
(a mask is an alpha of 0 and 1). Both are laid on the same background before they are compared. The object's pixels
are those whose alpha exceeds one half.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.checks import check_shape

HIGHEST_PSNR_DB = 100.0
SSIM_WINDOW_PX = 11

Picture = Float[Tensor, "h w 3"]
Plane = Float[Tensor, "h w"]


def psnr(prediction: Picture, truth: Picture, where: Bool[Tensor, "h w"] | None = None) -> float:
    """Return ``-10 log10(sum error^2 / (3 pixels))`` over some pixels, in dB; equal pictures give 100.

    This is IDR's masked PSNR (arXiv:2003.09852, section 4.1) when ``where`` is the mask.

    Args:
        prediction: Values in [0, 1].
        truth: Values in [0, 1].
        where: The pixels that count; all by default.

    Raises:
        ValueError: if shapes differ or no pixel counts.
    """
    check_shape("prediction", prediction, tuple(truth.shape))
    squared = (prediction.double() - truth.double()).square().mean(-1)
    chosen = squared.flatten() if where is None else squared[where]
    if not len(chosen):
        raise ValueError("A PSNR needs at least one pixel.")
    return -10 * math.log10(max(float(chosen.mean()), 10 ** (-HIGHEST_PSNR_DB / 10)))


def constant_color_psnr(truth: Picture, where: Bool[Tensor, "h w"]) -> float:
    """Return the PSNR of the best single colour, in dB: a control that every model must beat."""
    return psnr(truth[where].mean(0).expand_as(truth), truth, where)


def ssim(prediction: Picture, truth: Picture) -> float:
    """Return the structural similarity (Wang et al., 2004) with their Gaussian window, mean over the colours.

    Raises:
        ValueError: if the pictures are smaller than the window of 11 pixels, or shapes differ.
    """
    from skimage.metrics import structural_similarity

    check_shape("prediction", prediction, tuple(truth.shape))
    if min(truth.shape[:2]) < SSIM_WINDOW_PX:
        raise ValueError(f"SSIM needs at least {SSIM_WINDOW_PX} pixels a side, got {list(truth.shape[:2])}.")
    value = structural_similarity(
        prediction.double().cpu().numpy(),
        truth.double().cpu().numpy(),
        data_range=1.0,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
    )
    return float(value)


def silhouette_iou(predicted: Bool[Tensor, "h w"], truth: Bool[Tensor, "h w"]) -> float:
    """Return the intersection over the union of two masks; two empty ones agree."""
    union = int((predicted | truth).sum())
    return int((predicted & truth).sum()) / union if union else 1.0


def object_box(inside: Bool[Tensor, "h w"]) -> tuple[slice, slice]:
    """Return rows and columns of the tightest box around a mask, at least a window of SSIM wide where it fits.

    Raises:
        ValueError: if the mask is empty.
    """
    if not inside.any():
        raise ValueError("An empty mask has no box.")
    return _span(inside.any(1)), _span(inside.any(0))


def _span(marked: Bool[Tensor, " n"]) -> slice:
    """Return the range from the first to the last mark, widened to a window of SSIM."""
    where = marked.nonzero()
    first, last = int(where[0]), int(where[-1]) + 1
    first = max(0, min(first, len(marked) - SSIM_WINDOW_PX))
    return slice(first, min(len(marked), max(last, first + SSIM_WINDOW_PX)))


def view_metrics(rgb: Picture, opacity: Plane, photo: Picture, alpha: Plane) -> dict[str, float]:
    """Return all picture metrics of one view.

    Args:
        rgb: Rendered colours premultiplied by the opacity, in [0, 1].
        opacity: Rendered opacity, in [0, 1].
        photo: Straight colours, in [0, 1].
        alpha: Alpha or mask of the photo, in [0, 1].

    Returns:
        ``psnr_misses_black`` over the object's pixels with both pictures on black (with a real alpha channel this is
        the PSNR inside alpha), ``psnr_misses_white`` the same on white, ``psnr_hit`` over those of them that the render
        covers by at least one half, ``psnr_full_white`` over the whole picture on white, ``ssim`` on black in the tight
        box around the object, ``ssim_full`` on black over the whole picture, ``silhouette_iou`` at one half.

    Raises:
        ValueError: if the object's mask is empty.
    """
    inside, hit = alpha > 0.5, opacity > 0.5
    truth = photo * alpha[..., None]
    white, truth_white = rgb + 1 - opacity[..., None], truth + 1 - alpha[..., None]
    box = object_box(inside)
    covered = inside & hit
    return {
        "psnr_misses_black": psnr(rgb, truth, inside),
        "psnr_misses_white": psnr(white, truth_white, inside),
        "psnr_hit": psnr(rgb, truth, covered) if covered.any() else 0.0,
        "psnr_full_white": psnr(white, truth_white),
        "ssim": ssim(rgb[box], truth[box]),
        "ssim_full": ssim(rgb, truth),
        "silhouette_iou": silhouette_iou(hit, inside),
    }


def depth_error(depth: Plane, truth: Plane, inside: Bool[Tensor, "h w"], object_size: float) -> dict[str, float]:
    """Return how far rendered depths are from the true ones, relative to the size of the object.

    Args:
        depth: Rendered distance along the ray; not finite where the ray missed.
        truth: True distance, same units.
        inside: Pixels where the truth is known.
        object_size: What errors are divided by, in the same units.

    Returns:
        ``depth_error_median``, ``depth_error_mean`` and ``depth_error_p90`` over the pixels that were hit, and
        ``depth_hit_share``, the share of the known pixels that were.

    Raises:
        ValueError: if no pixel is known.
    """
    if not inside.any():
        raise ValueError("A depth error needs at least one known pixel.")
    hit = inside & depth.isfinite()
    errors = (depth[hit] - truth[hit]).abs().double() / object_size
    if not len(errors):
        errors = torch.full((1,), math.inf, dtype=torch.float64)
    return {
        "depth_error_median": float(errors.median()),
        "depth_error_mean": float(errors.mean()),
        "depth_error_p90": float(torch.quantile(errors, 0.9)),
        "depth_hit_share": int(hit.sum()) / int(inside.sum()),
    }
