"""Level sets of signed distance fields, evaluated coarse to fine.

A field whose slope is at most ``s`` keeps its sign within ``|f(x)| / s`` of a point ``x``: every evaluation
settles the signs inside a ball. The lattice is visited at strides 27, 9, 3, 1; each level evaluates only the points
that no ball of the level above covers. Marching cubes needs values only at the corners of cells whose signs differ, so
the result is the dense lattice's, triangle for triangle (for a field that respects ``s``).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import max_pool3d, pad

from shapewright.checks import check_range, check_shape
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh

Field = Callable[[Float[Tensor, "points 3"]], Float[Tensor, " points"]]

CHUNK_POINTS = 1 << 17
PROBES = 4096


@dataclass(frozen=True)
class Isosurface:
    """Hold an extracted surface and what it cost.

    Args:
        mesh: The triangles, looking towards larger values, vertices in the coordinates of the bounds.
        evaluations: How many points the field was asked for.
        dense_evaluations: How many points the whole lattice has.
        lipschitz: The slope that was assumed in the end.
        contradictions: How many points turned out to have another sign than the assumed slope allows; all that were
            found are mended in the mesh.
    """

    mesh: Mesh
    evaluations: int
    dense_evaluations: int
    lipschitz: float
    contradictions: int


@dataclass
class _Sampler:
    """Evaluate a field at lattice indices, in chunks, and count."""

    sdf: Field
    level: float
    origin: Float[Tensor, " 3"]
    spacing: float
    evaluations: int = 0
    lowest: float = math.inf
    highest: float = -math.inf
    contradictions: int = 0

    def __call__(self, indices: Int64[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        parts = [self._chunk(part) for part in indices.split(CHUNK_POINTS) if len(part)]
        self.evaluations += len(indices)
        return torch.cat(parts) if parts else self.origin.new_zeros(0)

    @torch.no_grad()
    def _chunk(self, indices: Int64[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        points = self.origin + self.spacing * indices.to(self.origin.dtype)
        values = self.sdf(points).detach().to(self.origin)
        check_shape("the field's answer", values, (len(points),))
        if not values.isfinite().all():
            worst = points[~values.isfinite()][0].tolist()
            raise UserError(
                f"The field is not finite at {[round(x, 4) for x in worst]}: no surface can be drawn from it.",
                "The training has diverged; extract the mesh from an earlier checkpoint.",
            )
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        return values - self.level


def extract_isosurface(
    sdf: Field,
    lower: Float[Tensor, " 3"],
    upper: Float[Tensor, " 3"],
    resolution: int,
    level: float = 0.0,
    lipschitz: float = 1.5,
) -> Isosurface:
    """Return the surface ``sdf = level`` inside a box, with the triangles of the dense lattice.

    Args:
        sdf: Field to draw, smaller inside; called with float points on the device and of the type of ``lower``.
        lower: Lowest corner of the box, where the lattice starts.
        upper: Highest corner.
        resolution: Lattice points along the longest side; the others get the same spacing.
        level: The value on the surface.
        lipschitz: Largest slope of the field; ``math.inf`` evaluates the whole lattice. Where the field is found
            to be steeper the neighbourhood is evaluated too, and the whole search is repeated with 2 and 4 times the
            slope, in the end on the whole lattice, as long as a random probe contradicts it.

    Returns:
        The mesh and the cost. A surface that leaves the box is open there.

    Raises:
        ValueError: if the box is empty or the resolution below 2.
        UserError: if the field does not cross the level inside the box, or is not finite.
    """
    check_range("resolution", resolution, 2)
    longest = float((upper - lower).max())
    if not float((upper - lower).min()) > 0:
        raise ValueError(f"The box must have three positive sides, got {(upper - lower).tolist()}.")
    spacing = longest / (resolution - 1)
    shape = [int(n) for n in ((upper - lower) / spacing - 1e-4).ceil().long() + 1]
    sampler = _Sampler(sdf, level, lower, spacing)
    for factor in (1.0, 2.0, 4.0, math.inf):
        slope = lipschitz * factor
        values, known = _search(sampler, shape, slope)
        _mend(sampler, values, known)
        if not _probe_contradicts(sampler, values, known):
            break
    mesh = _marching_cubes(sampler, values)
    return Isosurface(mesh, sampler.evaluations, math.prod(shape), slope, sampler.contradictions)


def _search(
    sampler: _Sampler, shape: list[int], lipschitz: float
) -> tuple[Float[Tensor, "x y z"], Bool[Tensor, "x y z"]]:
    """Return signed lower bounds of the field on the lattice, and where they are the field's own values."""
    stride = 1
    while math.isfinite(lipschitz) and stride < 27 and 3 * stride <= max(shape) / 8:
        stride *= 3
    counts = [math.ceil(n / stride) for n in shape]
    indices = torch.cartesian_prod(*(torch.arange(n, device=sampler.origin.device) for n in counts))
    bounds = sampler(stride * indices + stride // 2).reshape(counts)
    known = torch.ones_like(bounds, dtype=torch.bool)
    while stride > 1:
        stride //= 3
        counts = [math.ceil(n / stride) for n in shape]
        bounds, known = _refine(sampler, bounds, counts, stride, lipschitz * sampler.spacing)
    return bounds, known


def _refine(
    sampler: _Sampler, parents: Float[Tensor, "a b c"], counts: list[int], stride: int, slope: float
) -> tuple[Float[Tensor, "x y z"], Bool[Tensor, "x y z"]]:
    """Return the next level: bounds carried over from the parents, and values wherever these do not reach.

    Args:
        sampler: The field.
        parents: Signed lower bounds of ``|f|`` at the centres of blocks of ``3 * stride`` lattice points a side.
        counts: Blocks along each axis on the new level.
        stride: Side of the new blocks, in lattice points.
        slope: Largest change of the field from one lattice point to the next.
    """
    reach = max(slope * math.sqrt(3) * (stride - 1) / 2, torch.finfo(parents.dtype).tiny)
    bounds = _spread(parents, counts, slope * stride)
    known = torch.zeros_like(bounds, dtype=torch.bool)
    open_children = (bounds.abs() <= reach).nonzero()
    best = _best_bounds(parents, open_children, slope * stride)
    bounds[tuple(open_children.T)] = best
    asked = open_children[best.abs() <= reach]
    bounds[tuple(asked.T)] = sampler(stride * asked + stride // 2)
    known[tuple(asked.T)] = True
    return bounds, known


def _reduced(bounds: Tensor, loss: Tensor | float) -> Tensor:
    """Return signed bounds whose magnitude shrank by ``loss``, at least to a hair that keeps the sign."""
    smallest = torch.finfo(bounds.dtype).tiny
    sign = torch.where(bounds < 0, -1.0, 1.0).to(bounds.dtype)
    return sign * (bounds.abs() - loss).clamp(min=smallest)


def _spread(parents: Float[Tensor, "a b c"], counts: list[int], slope: float) -> Float[Tensor, "x y z"]:
    """Return the bound that each child inherits from its own parent alone."""
    children = parents
    offsets = torch.zeros(1, 1, 1, dtype=parents.dtype, device=parents.device)
    for axis, count in enumerate(counts):
        children = children.repeat_interleave(3, dim=axis).narrow(axis, 0, count)
        along = torch.arange(count, device=parents.device) % 3 - 1
        offsets = offsets + (along**2).reshape([-1 if a == axis else 1 for a in range(3)])
    return _reduced(children, slope * offsets.sqrt())


def _best_bounds(parents: Float[Tensor, "a b c"], children: Int64[Tensor, "n 3"], slope: float) -> Float[Tensor, " n"]:
    """Return for each child the largest bound that the eight parents nearest to it give."""
    own, offset = children // 3, children % 3 - 1
    highest = torch.tensor(parents.shape, device=parents.device) - 1
    best = parents.new_zeros(len(children))
    for step in torch.cartesian_prod(*[torch.arange(2, device=parents.device)] * 3):
        neighbour = torch.minimum((own + step * offset).clamp(min=0), highest)
        distance = (children - 3 * neighbour - 1).to(parents.dtype).norm(dim=-1)
        bound = _reduced(parents[tuple(neighbour.T)], slope * distance)
        best = torch.where(bound.abs() > best.abs(), bound, best)
    return best


def _mixed_cells(values: Float[Tensor, "x y z"]) -> Bool[Tensor, "i j k"]:
    """Tell which cells of the lattice have corners of both signs."""
    some = every = values < 0
    for axis in range(3):
        before, after = slice(0, values.shape[axis] - 1), slice(1, values.shape[axis])
        low, high = ((slice(None),) * axis + (part,) for part in (before, after))
        some, every = some[low] | some[high], every[low] & every[high]
    return some & ~every


def _corners(cells: Bool[Tensor, "i j k"]) -> Bool[Tensor, "x y z"]:
    """Tell which lattice points belong to one of the cells."""
    points = cells
    for axis in range(3):
        before = [0, 0] * (2 - axis) + [0, 1]
        after = [0, 0] * (2 - axis) + [1, 0]
        points = pad(points, before) | pad(points, after)
    return points


def _mend(sampler: _Sampler, values: Float[Tensor, "x y z"], known: Bool[Tensor, "x y z"]) -> None:
    """Evaluate every corner of every cell that the surface crosses, in place.

    A corner with another sign than its bound had shows that the field is steeper than assumed: the points around
    it are evaluated as well, and the search goes on from there until no crossed cell has an unknown corner.
    """
    missing = _corners(_mixed_cells(values)) & ~known
    while missing.any():
        flipped = _fill(sampler, values, known, missing)
        if not len(flipped):
            return
        sampler.contradictions += len(flipped)
        missing = _around(flipped, values.shape) & ~known
        missing |= _corners(_mixed_cells(values)) & ~known


def _fill(
    sampler: _Sampler, values: Float[Tensor, "x y z"], known: Bool[Tensor, "x y z"], wanted: Bool[Tensor, "x y z"]
) -> Int64[Tensor, "flipped 3"]:
    """Evaluate the wanted points in place and return those whose sign differs from their bound's."""
    indices = wanted.nonzero()
    where = tuple(indices.T)
    before = values[where]
    values[where] = sampler(indices)
    known[where] = True
    return indices[(values[where] < 0) != (before < 0)]


def _around(points: Int64[Tensor, "n 3"], shape: torch.Size) -> Bool[Tensor, "x y z"]:
    """Tell which lattice points are at most four steps away from one of the points."""
    marks = torch.zeros(shape, device=points.device)
    marks[tuple(points.T)] = 1.0
    for kernel, padding in (((9, 1, 1), (4, 0, 0)), ((1, 9, 1), (0, 4, 0)), ((1, 1, 9), (0, 0, 4))):
        marks = max_pool3d(marks[None, None], kernel, stride=1, padding=padding)[0, 0]
    return marks > 0


def _probe_contradicts(sampler: _Sampler, values: Float[Tensor, "x y z"], known: Bool[Tensor, "x y z"]) -> bool:
    """Evaluate random points that were left out; tell if one has another sign than its bound."""
    generator = torch.Generator().manual_seed(0)
    flat = torch.randint(values.numel(), (PROBES,), generator=generator).to(values.device)
    chosen = torch.zeros_like(known)
    chosen.view(-1)[flat] = True
    flipped = _fill(sampler, values, known, chosen & ~known)
    sampler.contradictions += len(flipped)
    return len(flipped) > 0


def _marching_cubes(sampler: _Sampler, values: Float[Tensor, "x y z"]) -> Mesh:
    """Return the triangles of the zero level (Lewiner et al., 2003), computed on the box of the crossed cells."""
    from skimage.measure import marching_cubes

    cells = _mixed_cells(values).nonzero()
    if not len(cells):
        raise UserError(
            f"There is no surface: inside the box the field runs from {sampler.lowest:.4g} to {sampler.highest:.4g} "
            f"and never crosses {sampler.level:.4g}.",
            "Train longer, or check that the box holds the object.",
        )
    first, last = cells.amin(0), cells.amax(0) + 2
    crop = values[tuple(slice(int(a), int(b)) for a, b in zip(first, last, strict=True))]
    vertices, faces, _, _ = marching_cubes(crop.cpu().numpy(), 0.0, gradient_direction="descent")
    positions = torch.from_numpy(vertices.copy()).to(sampler.origin) + first.to(sampler.origin.dtype)
    triangles = torch.from_numpy(np.ascontiguousarray(faces, dtype=np.int64)).to(sampler.origin.device)
    return Mesh(sampler.origin + sampler.spacing * positions, triangles)
