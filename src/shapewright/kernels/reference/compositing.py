"""Compositing of packed samples in plain torch. Ray ``r`` owns the samples ``starts[r] .. starts[r + 1]``."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

# A larger opacity counts as this one, so that its logarithm is finite.
MOST_OPAQUE = 1 - 1e-7


def composite(
    alpha: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    """Return the weights ``w_i = T_i alpha_i`` and what is left after each ray, ``T_end``.

    ``T_i = prod_{j<i} (1 - alpha_j)`` over the samples of the same ray (NeRF, arXiv:2003.08934, eq. 3), as a sum of
    logarithms in float64. A sample that is not finite makes its own ray NaN and no other.
    """
    return _composite(alpha, (-alpha.double().clamp(max=MOST_OPAQUE)).log1p(), starts)


def composite_thickness(
    thickness: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    """Return the weights and the rest for optical thicknesses, density times length: ``alpha = -expm1(-thickness)``."""
    return _composite(-torch.expm1(-thickness), -thickness.double(), starts)


def ray_sum(
    weights: Float[Tensor, " samples"], values: Float[Tensor, "samples channels"], starts: Int64[Tensor, " rays_1"]
) -> Float[Tensor, "rays channels"]:
    """Return ``sum_i w_i v_i`` over the samples of each ray; 0 for a ray without samples."""
    rays = ray_of_sample(starts)
    return values.new_zeros(len(starts) - 1, values.shape[1]).index_add(0, rays, weights[:, None] * values)


def ray_of_sample(starts: Int64[Tensor, " rays_1"]) -> Int64[Tensor, " samples"]:
    """Return the number of the ray that owns each sample."""
    return torch.repeat_interleave(torch.arange(len(starts) - 1, device=starts.device), starts.diff())


def _composite(
    alpha: Float[Tensor, " samples"], log_kept: Float[Tensor, " samples"], starts: Int64[Tensor, " rays_1"]
) -> tuple[Float[Tensor, " samples"], Float[Tensor, " rays"]]:
    rays, num_rays = ray_of_sample(starts), len(starts) - 1
    bad = alpha.new_zeros(num_rays, dtype=torch.bool).index_put((rays,), ~alpha.isfinite(), accumulate=True)
    # A NaN would spread through the sum, and backwards, to other rays.
    log_kept = log_kept.where(log_kept.isfinite(), torch.zeros_like(log_kept))
    alpha = alpha.where(alpha.isfinite(), torch.zeros_like(alpha))
    total = torch.cat([log_kept.new_zeros(1), log_kept.cumsum(0)])
    before = (total[:-1] - total[starts[:-1]][rays]).exp()
    rest = (total[starts[1:]] - total[starts[:-1]]).exp()
    nan = torch.full((), torch.nan, dtype=alpha.dtype, device=alpha.device)
    weights = before.to(alpha.dtype) * alpha
    return weights.where(~bad[rays], nan), rest.to(alpha.dtype).where(~bad, nan)
