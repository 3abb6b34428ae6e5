"""The loss of one shape: points on the surface, their normals, bounds around it, and a slope of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.methods.deep_sdf.single_config import SingleLossConfig

_TINY = 1e-6
_RELATIVE_OFFSET = 0.01


@dataclass
class ShapeBatch:
    """Hold the points of a step, those of the surface first.

    Args:
        points: Positions in normalised units.
        normals: Of the surface's points; zero where not known.
        lower: Least signed distance at each of the other points.
        upper: Greatest signed distance there.
    """

    points: Float[Tensor, "3 surface+space"]
    normals: Float[Tensor, "3 surface"]
    lower: Float[Tensor, " space"]
    upper: Float[Tensor, " space"]


def shape_loss(
    values: Float[Tensor, " n"], gradients: Float[Tensor, "3 n"], batch: ShapeBatch, config: SingleLossConfig
) -> tuple[dict[str, float], Float[Tensor, " n"], Float[Tensor, "3 n"]]:
    """Return the losses and the derivatives of their sum by the field's values and gradients.

    Args:
        values: The field at the batch's points.
        gradients: Its gradient there.
        batch: What is known.
        config: Weights.
    """
    surface = batch.normals.shape[1]
    by_value, by_gradient = torch.zeros_like(values), torch.zeros_like(gradients)
    losses: dict[str, float] = {}
    if surface:
        on, slope = values[:surface], gradients[:, :surface]
        losses["point"] = config.point * float(on.abs().mean())
        by_value[:surface] = on.sign() * (config.point / surface)
        losses["normal"] = config.normal * _normals(slope, batch.normals, config.normal, by_gradient[:, :surface])
    if values.shape[0] > surface:
        off = values[surface:]
        losses["distance"] = _bounds(off, batch, config, by_value[surface:])
        if config.off_surface > 0:
            fall = config.off_surface * (-config.sharpness * off.abs()).exp() / len(off)
            losses["off_surface"] = float(fall.sum())
            by_value[surface:] -= config.sharpness * off.sign() * fall
    if config.eikonal > 0:
        length = gradients.norm(dim=0).clamp(min=_TINY)
        excess = length - 1.0
        losses["eikonal"] = config.eikonal * float(excess.square().mean())
        by_gradient += gradients * (2.0 * config.eikonal / len(excess) * excess / length)
    return {"loss": sum(losses.values()), **losses}, by_value, by_gradient


def _normals(
    gradients: Float[Tensor, "3 n"], normals: Float[Tensor, "3 n"], weight: float, to: Float[Tensor, "3 n"]
) -> float:
    """Return the mean of ``|grad f - n|`` where the normal is known, and write its weighted derivative."""
    is_known = normals.square().sum(0) > 0.25
    share = 1.0 / max(int(is_known.sum()), 1)
    difference = (gradients - normals) * is_known
    length = difference.norm(dim=0)
    torch.mul(difference, weight * share / length.clamp(min=_TINY), out=to)
    return float(length.sum()) * share


def _bounds(values: Float[Tensor, " n"], batch: ShapeBatch, config: SingleLossConfig, to: Float[Tensor, " n"]) -> float:
    """Return the weighted mean of how far values lie outside their bounds, and write its derivative."""
    below = (batch.lower - values).clamp(min=0.0)
    above = (values - batch.upper).clamp(min=0.0)
    weight = torch.full_like(values, config.distance / max(len(values), 1))
    if config.relative:
        weight /= torch.minimum(batch.lower.abs(), batch.upper.abs()) + _RELATIVE_OFFSET
    torch.mul(weight, above.sign() - below.sign(), out=to)
    return float((weight * (below + above)).sum())
