"""Pictures for people: errors, depths and normals as colours."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

BACKGROUND = 255

# Dark violet over red to pale yellow: lightness rises evenly, so that the order survives a grey print.
HEAT = ((0, 0, 4), (41, 17, 90), (114, 31, 129), (183, 55, 121), (241, 96, 93), (254, 176, 120), (252, 253, 191))
# Deep blue over green to yellow, for distances.
DISTANCE = ((68, 1, 84), (65, 68, 135), (42, 120, 142), (34, 168, 132), (122, 209, 81), (253, 231, 37))

Image = UInt8[np.ndarray, "h w 3"]


def picture(rgb: Float[Tensor, "h w 3"]) -> Image:
    """Return colours in [0, 1] as bytes; what lies outside is clipped."""
    return (rgb.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()


def error_map(prediction: Float[Tensor, "h w 3"], truth: Float[Tensor, "h w 3"], largest: float = 0.2) -> Image:
    """Return the absolute error, mean over the colours: black is none, pale yellow is ``largest`` and more.

    Args:
        prediction: Values in [0, 1].
        truth: Values in [0, 1].
        largest: The error at the bright end; 0.2 is 51 of 255 grey levels.
    """
    return _colored((prediction - truth).abs().mean(-1) / largest, HEAT)


def depth_picture(depth: Float[Tensor, "h w"]) -> Image:
    """Return depths as colours, yellow near and violet far; the range is that of the picture without 1 % at each end.

    Pixels without a finite depth become white.
    """
    known = depth.isfinite()
    if not known.any():
        return np.full((*depth.shape, 3), BACKGROUND, dtype=np.uint8)
    near, far = np.quantile(depth[known].double().cpu().numpy(), [0.01, 0.99])
    share = (far - depth.nan_to_num(far)) / max(far - near, 1e-12)
    return _on_background(_colored(share, DISTANCE), known)


def normal_picture(normal: Float[Tensor, "h w 3"]) -> Image:
    """Return unit normals as colours ``(n + 1) / 2``; pixels without one (zero or not finite) become white."""
    known = normal.isfinite().all(-1) & (normal.nan_to_num().norm(dim=-1) > 1e-3)
    return _on_background(picture((normal.nan_to_num() + 1) / 2), known)


def _colored(share: Float[Tensor, "h w"], stops: tuple[tuple[int, int, int], ...]) -> Image:
    """Return colours interpolated between evenly spaced stops over [0, 1]."""
    positions = share.detach().double().clamp(0, 1).cpu().numpy() * (len(stops) - 1)
    channels = [np.interp(positions, range(len(stops)), [stop[c] for stop in stops]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def _on_background(image: Image, known: Bool[Tensor, "h w"]) -> Image:
    return np.where(known.cpu().numpy()[..., None], image, np.uint8(BACKGROUND))
