"""From part of a shape to what its code must explain: points with normals, free space, and a pose that may be off.

DeepSDF (arXiv:1901.05103, section 6.3) describes completion from a depth map and never released it: points a little
before and behind the seen surface with their distances, and free space where the distance must not be negative.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.geometry.free_space import PartialScan, sample_free_space
from shapewright.geometry.rotations import matrix_from_axis_angle
from shapewright.methods.deep_sdf.config import FitConfig
from shapewright.methods.deep_sdf.fitting import Fit, FitContext, fit_codes
from shapewright.methods.deep_sdf.model import conditions, evaluate
from shapewright.methods.deep_sdf.observations import UNBOUNDED, Bounds, Drawn, draw, exact

PoseFit = Literal["none", "scale", "similarity"]

SCALE_GUESSES = (0.6, 0.75, 0.9, 1.1, 1.35, 1.65)
SCALE_SPREAD, TURN_SPREAD, SHIFT_SPREAD = 0.5, 0.5, 0.3
POSE_PRIOR, POSE_RATE = 1e-4, 5e-3
GUESS_STARTS, GUESS_ITERATIONS = 4, 60


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """Describe how a partial scan is turned into bounds of the signed distance.

    Attributes:
        eta: Distances before and behind the surface at which it is taken to be known, in units of the unit sphere.
        free_space_share: Points of free space for each point of the surface.
        free_space_weight: Their weight in the loss.
        free_points: Points of free space drawn once.
        prior: Weight of the codes' prior; it stands for what the scan does not show.
    """

    eta: tuple[float, ...] = (0.005, 0.01, 0.03)
    free_space_share: float = 1.0
    free_space_weight: float = 1.0
    free_points: int = 50_000
    prior: float = 2e-4


def scan_bounds(scan: PartialScan, config: CompletionConfig, generator: torch.Generator) -> list[Bounds]:
    """Return what a scan says about signed distances.

    At ``p + e n`` the distance is ``e`` before the surface, as long as no other part is nearer: there it is at most
    ``e``; behind, at least ``-e``. The smallest ``e`` is taken as exact on both sides. Points of free space have a
    distance of at least 0 and at most that to the nearest seen point.

    Args:
        scan: Points with normals; the camera where it is known.
        config: Distances and shares.
        generator: Source of randomness.
    """
    from scipy.spatial import cKDTree

    smallest = min(config.eta)
    groups = [exact(scan.points, torch.zeros(scan.num_points), share=0.5)]
    for eta in config.eta:
        offset = torch.full((scan.num_points,), eta)
        outside, inside = scan.points + eta * scan.normals, scan.points - eta * scan.normals
        groups.append(Bounds(outside, offset if eta == smallest else 0 * offset, offset))
        groups.append(Bounds(inside, -offset, -offset if eta == smallest else torch.full_like(offset, UNBOUNDED)))
    rays = scan.free_rays
    if len(rays.origins) and config.free_space_share > 0:
        free = sample_free_space(scan, config.free_points, generator, margin=2 * smallest)
        nearest = torch.from_numpy(cKDTree(scan.points.numpy()).query(free.numpy())[0]).to(free)
        share = config.free_space_share * sum(group.share for group in groups)
        groups.append(Bounds(free, torch.zeros(len(free)), nearest, share, config.free_space_weight))
    return groups


@dataclass(frozen=True)
class PosedFit:
    """Hold a fit and where the scan lies in the space of the codes.

    Args:
        fit: Codes and losses.
        scale: ``x_unit = scale * rotation x + translation``.
        rotation: See ``scale``.
        translation: See ``scale``.
    """

    fit: Fit
    scale: float = 1.0
    rotation: Float[Tensor, "3 3"] | None = None
    translation: Float[Tensor, " 3"] | None = None

    def to_unit(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return positions of the scan in the space of the codes."""
        turned = points if self.rotation is None else points @ self.rotation.T
        moved = self.scale * turned
        return moved if self.translation is None else moved + self.translation

    def to_scan(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n 3"]:
        """Return positions of the space of the codes in that of the scan."""
        moved = (points if self.translation is None else points - self.translation) / self.scale
        return moved if self.rotation is None else moved @ self.rotation


def complete(
    context: FitContext,
    scan: PartialScan,
    completion: CompletionConfig,
    fit: FitConfig,
    pose: PoseFit = "none",
    num_hypotheses: int = 1,
) -> PosedFit:
    """Return the codes that explain a scan, and its pose.

    Args:
        context: The shape space.
        scan: Points with normals, roughly in the unit sphere.
        completion: What the scan is taken to say.
        fit: Iterations and starts.
        pose: What else is fitted: nothing, the scale, or scale, rotation and translation.
        num_hypotheses: How many distinct completions to return.
    """
    generator = torch.Generator().manual_seed(context.seed)
    fit = replace(fit, prior=completion.prior)
    bounds = scan_bounds(scan, completion, generator)
    if pose == "none":
        return PosedFit(fit_codes(context, [bounds], fit, num_hypotheses))
    quick = replace(fit, starts=GUESS_STARTS, start_iterations=GUESS_ITERATIONS // 2, iterations=GUESS_ITERATIONS)
    guesses = [fit_codes(context, [_scaled(bounds, scale)], quick) for scale in SCALE_GUESSES]
    losses = torch.stack([guess.losses[0, 0] / scale for guess, scale in zip(guesses, SCALE_GUESSES, strict=True)])
    found = [
        _fit_posed(context, bounds, fit, pose, (guesses[place].codes[0, 0], SCALE_GUESSES[place]))
        for place in losses.argsort()[: max(2, num_hypotheses)].tolist()
    ]
    return min(found, key=lambda posed: float(posed.fit.losses[0, 0]) / posed.scale)


def _scaled(bounds: Sequence[Bounds], scale: float) -> list[Bounds]:
    """Return what is known of a shape after it has been scaled."""
    return [
        replace(group, points=scale * group.points, low=scale * group.low, high=scale * group.high) for group in bounds
    ]


def _fit_posed(
    context: FitContext, bounds: Sequence[Bounds], fit: FitConfig, pose: PoseFit, start: tuple[Tensor, float]
) -> PosedFit:
    """Fit a code together with the pose, by Adam on the data loss in units of the scan."""
    generator = torch.Generator().manual_seed(context.seed)
    code = start[0][None].clone().requires_grad_()
    log_scale = torch.tensor(math.log(start[1]), requires_grad=True)
    turn, shift = torch.zeros(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    moved = [log_scale] if pose == "scale" else [log_scale, turn, shift]
    groups = [{"params": [code], "lr": fit.rate}, {"params": moved, "lr": POSE_RATE}]
    optimizer = torch.optim.Adam(groups)
    for iteration in range(fit.iterations):
        for group, rate in zip(optimizer.param_groups, (fit.rate, POSE_RATE), strict=True):
            group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * iteration / fit.iterations))
        loss = _posed_loss(context, draw([bounds], fit.samples, generator), code, (log_scale, turn, shift))
        far = (
            (log_scale / SCALE_SPREAD) ** 2
            + (turn / TURN_SPREAD).square().sum()
            + (shift / SHIFT_SPREAD).square().sum()
        )
        optimizer.zero_grad(set_to_none=True)
        (loss + fit.prior * context.prior.energy(code).sum() + POSE_PRIOR * far).backward()
        optimizer.step()
    with torch.no_grad():
        drawn = draw([bounds], 4 * fit.samples, torch.Generator().manual_seed(context.seed + 1))
        loss = _posed_loss(context, drawn, code, (log_scale, turn, shift)) * log_scale.exp()
    one = loss.reshape(1, 1).detach()
    result = Fit(code.detach()[None], one, one, fit.iterations, torch.full((1,), torch.nan))
    return PosedFit(result, float(log_scale.detach().exp()), matrix_from_axis_angle(turn.detach()), shift.detach())


def _posed_loss(
    context: FitContext, drawn: Drawn, code: Float[Tensor, "1 code"], pose: tuple[Tensor, Tensor, Tensor]
) -> Float[Tensor, ""]:
    """Return the data loss of a moved scan, divided by the scale: shrinking the scan must not pay."""
    log_scale, turn, shift = pose
    scale = log_scale.exp()
    points = scale * drawn.points @ matrix_from_axis_angle(turn).T + shift
    predicted = evaluate(
        context.decoder.config, context.decoder.layers, points, conditions(context.decoder.layers, code)
    )
    scaled = Drawn(points, scale * drawn.low, scale * drawn.high, drawn.weight)
    return scaled.loss(predicted, context.clamp).sum() / scale
