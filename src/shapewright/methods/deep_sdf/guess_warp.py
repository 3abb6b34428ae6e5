"""Bend a guessed shape towards a scan, and tell where the guess deserves trust."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.free_space import DepthView, smooth_freeness
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import sample_surface
from shapewright.geometry.point_set_surface import PointSetSurface

Field = Callable[[Float[Tensor, "points 3"]], Float[Tensor, " points"]]

EXTENT = 1.1
WARP_LATTICE = 25
TRUST_LATTICE = 33
WARP_WIDTHS = (0.5, 0.35, 0.25, 0.15, 0.1)
WARP_POINTS = 1000
CHUNK = 4096


@dataclass(frozen=True)
class LatticeField:
    """Interpolate values on a cubic lattice over ``[-EXTENT, EXTENT]^3``; constant beyond.

    Args:
        values: One volume a channel.
    """

    values: Float[Tensor, "channels n n n"]

    def __call__(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, "points channels"]:
        """Return the values at points, trilinear."""
        where = (points / EXTENT).flip(-1).reshape(1, -1, 1, 1, 3).to(self.values)
        found = torch.nn.functional.grid_sample(
            self.values[None], where, align_corners=True, padding_mode="border", mode="bilinear"
        )
        return found.reshape(len(self.values), -1).T


def lattice_points(count: int) -> Float[Tensor, "points 3"]:
    """Return the positions of a lattice field's values, the last axis fastest."""
    axis = torch.linspace(-EXTENT, EXTENT, count)
    return torch.cartesian_prod(axis, axis, axis)


def fit_warp(guess: Field, points: Float[Tensor, "points 3"], normals: Float[Tensor, "points 3"]) -> LatticeField:
    """Return displacements ``u`` for which ``guess(x - u(x))`` has its surface near the points.

    Each round takes Newton's step ``f grad f / |grad f|^2`` at the points, leaves out those that lie far from the
    guess's surface or on one that looks another way, and spreads the rest with a Gaussian; its width shrinks from
    round to round. Far from all points the displacement fades to zero.

    Args:
        guess: Signed distance of the guess.
        points: Where the surface was seen.
        normals: Unit normals there.
    """
    lattice = lattice_points(WARP_LATTICE)
    warp = LatticeField(torch.zeros(3, WARP_LATTICE, WARP_LATTICE, WARP_LATTICE))
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[:WARP_POINTS]
    points, normals = points[order], normals[order]
    for level, width in enumerate(WARP_WIDTHS):
        farthest = 0.15 if level < 2 else 0.09
        step, fits = _newton_steps(guess, warp, points, normals, farthest)
        if int(fits.sum()) < 20:
            break
        fade = 0.002 * len(points) * min(1.0, (width / 0.3) ** 2)
        spread = _spread(lattice, points[fits], step[fits], width, fade)
        inner = lattice - spread
        total = spread + warp(inner)
        warp = LatticeField(total.T.reshape(3, WARP_LATTICE, WARP_LATTICE, WARP_LATTICE))
    return warp


def _newton_steps(
    guess: Field,
    warp: LatticeField,
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    farthest: float,
) -> tuple[Float[Tensor, "points 3"], Tensor]:
    """Return the step from each point to the warped guess's surface (negated), and which of them to believe."""
    reach = 0.01
    shifts = torch.cat([torch.zeros(1, 3), reach * torch.eye(3), -reach * torch.eye(3)]).to(points)
    asked = (points + shifts[:, None]).reshape(-1, 3)
    values = guess(asked - warp(asked).to(asked)).detach().reshape(7, -1)
    slope = ((values[1:4] - values[4:7]) / (2 * reach)).T
    step = (values[0] / (slope**2).sum(-1).clamp(min=0.25))[:, None] * slope
    cosine = (torch.nn.functional.normalize(slope, dim=-1) * normals).sum(-1)
    return step, (values[0].abs() < farthest) & (cosine > 0.3)


def _spread(
    where: Float[Tensor, "n 3"],
    anchors: Float[Tensor, "points 3"],
    values: Float[Tensor, "points channels"],
    width: float,
    fade: float,
) -> Float[Tensor, "n channels"]:
    """Return Gaussian means of values at anchors; ``fade`` is the weight of zero in each of them."""
    parts = []
    for chunk in where.split(CHUNK):
        weights = torch.exp(-(torch.cdist(chunk, anchors) ** 2) / (2 * width**2))
        parts.append(weights @ values / (weights.sum(-1, keepdim=True) + fade))
    return torch.cat(parts)


def _density(where: Float[Tensor, "n 3"], points: Float[Tensor, "points 3"], width: float) -> Float[Tensor, " n"]:
    """Return the sum of Gaussians around points."""
    if not len(points):
        return torch.zeros(len(where))
    parts = [torch.exp(-(torch.cdist(chunk, points) ** 2) / (2 * width**2)).sum(1) for chunk in where.split(CHUNK)]
    return torch.cat(parts)


def fit_trust(guess: Field, seen: PointSetSurface, view: DepthView, width: float = 0.12) -> LatticeField | None:
    """Return how far the guess is to be trusted around every place, in [0, 1]; ``None`` if it has no surface.

    Around a place ``A / (A + F + U)``: ``A`` is the area of the guess's surface that the scan confirms, ``F`` the area
    that lies in seen free space, ``U`` the seen area that the guess does not explain, each weighted with a Gaussian.
    Where the scan says nothing the trust is 1.

    Args:
        guess: Signed distance of the (warped) guess.
        seen: The seen surface.
        view: What the picture knows about space.
        width: Of the Gaussian.
    """
    near = 0.04
    corner = torch.full((3,), EXTENT)
    try:
        mesh = extract_isosurface(guess, -corner, corner, 72).mesh
    except UserError:
        return None
    count = 4000
    surface = sample_surface(mesh, count, torch.Generator().manual_seed(0))
    confirmed = seen.query(surface, 1)[0][:, 0] <= near
    refuted = (smooth_freeness(view, surface, 0.03) > 0.029) & ~confirmed  # free in all pixels around
    order = torch.randperm(len(seen.points), generator=torch.Generator().manual_seed(0))[:3000]
    unexplained = seen.points[order][guess(seen.points[order]).abs() > near]
    where = lattice_points(TRUST_LATTICE)
    guess_share = mesh.area / count
    seen_share = float((seen.spacing**2).sum()) / len(order)
    agree = guess_share * (_density(where, surface[confirmed], width) + 0.02)
    against = guess_share * _density(where, surface[refuted], width) + seen_share * _density(where, unexplained, width)
    trust = agree / (agree + against)
    return LatticeField(trust.reshape(1, TRUST_LATTICE, TRUST_LATTICE, TRUST_LATTICE))
