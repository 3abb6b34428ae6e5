"""Poisson surfaces: the solid whose boundary has the given normals, solved by one Fourier transform.

The gradient of a solid's indicator is its inward normal on the surface and zero elsewhere. Spread over a lattice, the
oriented points give that gradient ``-v``, and ``laplace(chi) = -div v`` is a division in the frequency domain
(Peng et al., Shape As Points, arXiv:2106.03452, eq. 4-6). Everything but the triangles is differentiable.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.topology import keep_faces

NEIGHBOURS = 8
LOWEST_LEVEL = 0.1


@dataclass(frozen=True)
class Lattice:
    """Hold the points ``lower + spacing * (i, j, k)`` of a periodic box.

    Args:
        lower: Position of the first point.
        spacing: Distance of neighbours, the same along each axis.
        shape: Number of points along each axis.
    """

    lower: Float[Tensor, " 3"]
    spacing: float
    shape: tuple[int, int, int]

    @staticmethod
    def around(points: Float[Tensor, "points 3"], resolution: int, padding: float = 0.25) -> Lattice:
        """Return a lattice around points.

        Args:
            points: What it is to hold.
            resolution: Points along the longest side, padding included.
            padding: Empty border on each side as a share of the longest side of the points' box; it keeps the
                periodic copies of the solid apart.
        """
        lower, upper = points.detach().aminmax(dim=0)
        longest = float((upper - lower).max())
        border = padding * longest
        spacing = (longest + 2 * border) / (resolution - 1)
        shape = [_fast_size(math.ceil((float(side) + 2 * border) / spacing)) for side in upper - lower]
        extent = spacing * (torch.tensor(shape) - 1).to(lower)
        return Lattice((lower + upper - extent) / 2, spacing, (shape[0], shape[1], shape[2]))


def _fast_size(least: int) -> int:
    """Return the smallest even number from ``least`` on without prime factors above 5."""
    from scipy.fft import next_fast_len

    return 2 * int(next_fast_len((least + 1) // 2, real=True))


def poisson_indicator(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    areas: Float[Tensor, " points"],
    lattice: Lattice,
    smoothing: float = 1.0,
) -> Float[Tensor, "x y z"]:
    """Return the smoothed indicator of the solid: 1 inside, 0 outside, about 1/2 on the surface.

    ``chi(u) = g(u) (-2 pi i u . v(u)) / (-4 pi^2 |u|^2)`` with ``g`` a Gaussian (arXiv:2106.03452, eq. 4-6).
    Differentiable in points, normals and areas.

    Args:
        points: Positions on the surface, inside the lattice's box.
        normals: Unit normals that point outwards.
        areas: The piece of surface that each point stands for, in squared world units.
        lattice: Where the indicator is wanted.
        smoothing: Standard deviation of the Gaussian, in cells.

    Raises:
        ValueError: if shapes differ, there is no point, or one lies outside of the lattice.
    """
    check_shape("normals", normals, tuple(points.shape))
    check_shape("areas", areas, (len(points),))
    if not len(points):
        raise ValueError("A Poisson surface needs at least one point.")
    index, weights = _corners(points, lattice)
    dipoles = _splat(areas[:, None] * normals, index, weights, lattice.shape)
    spectrum = torch.fft.rfftn(dipoles, dim=(0, 1, 2))
    frequencies = _frequencies(lattice.shape, dipoles)
    square = (frequencies**2).sum(-1)
    square = torch.where(square > 0, square, 1.0)
    gaussian = torch.exp(-2.0 * (math.pi * smoothing) ** 2 * square)
    divergence = (frequencies * spectrum).sum(-1) * (1j / (2.0 * math.pi))
    chi = torch.fft.irfftn(divergence * (gaussian / square), s=lattice.shape, dim=(0, 1, 2))
    return (chi - _border(chi).mean()) / lattice.spacing**2


def sample_lattice(
    values: Float[Tensor, "x y z"], points: Float[Tensor, "points 3"], lattice: Lattice
) -> Float[Tensor, " points"]:
    """Return values on a lattice at points between, by trilinear interpolation.

    Raises:
        ValueError: if a point lies outside of the lattice.
    """
    index, weights = _corners(points, lattice)
    return (values.reshape(-1)[index] * weights).sum(-1)


def _corners(
    points: Float[Tensor, "points 3"], lattice: Lattice
) -> tuple[Int64[Tensor, "points 8"], Float[Tensor, "points 8"]]:
    """Return the flat indices of the lattice points around each point, and their trilinear weights."""
    cells = (points - lattice.lower.to(points)) / lattice.spacing
    sizes = torch.tensor(lattice.shape, device=points.device)
    base = cells.detach().floor().long()
    if bool((base < 0).any()) or bool((base + 1 >= sizes).any()):
        raise ValueError("Every point must lie inside the lattice.")
    offset = cells - base
    steps = torch.cartesian_prod(*[torch.arange(2, device=points.device)] * 3)
    chosen = torch.where(steps.bool(), offset[:, None], 1 - offset[:, None])
    where = base[:, None] + steps
    flat = (where[..., 0] * lattice.shape[1] + where[..., 1]) * lattice.shape[2] + where[..., 2]
    return flat, chosen.prod(-1)


def _splat(
    values: Float[Tensor, "points 3"],
    index: Int64[Tensor, "points 8"],
    weights: Float[Tensor, "points 8"],
    shape: tuple[int, int, int],
) -> Float[Tensor, "x y z 3"]:
    """Return the sums of weighted values at the lattice points."""
    spread = (weights[..., None] * values[:, None]).reshape(-1, 3)
    grid = values.new_zeros(math.prod(shape), 3).index_add(0, index.reshape(-1), spread)
    return grid.reshape(*shape, 3)


def _frequencies(shape: tuple[int, int, int], like: Tensor) -> Float[Tensor, "x y half 3"]:
    """Return the frequency vectors of a real transform, in cycles a cell.

    The highest frequency of an even axis is set to zero: its derivative has no real counterpart.
    """
    axes = [torch.fft.fftfreq(n, device=like.device, dtype=like.dtype) for n in shape[:2]]
    axes.append(torch.fft.rfftfreq(shape[2], device=like.device, dtype=like.dtype))
    for axis, size in zip(axes, shape, strict=True):
        if size % 2 == 0:
            axis[size // 2] = 0.0
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


def _border(values: Float[Tensor, "x y z"]) -> Float[Tensor, " border"]:
    """Return the values on three faces of the box; the others are their periodic copies."""
    return torch.cat((values[0].reshape(-1), values[:, 0].reshape(-1), values[:, :, 0].reshape(-1)))


def point_areas(points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
    """Return the piece of surface that each point stands for, from the distance to its eighth neighbour.

    For points spread at random the disc with that radius has eight times the area of one point's piece in the mean.
    Without gradient.
    """
    from scipy.spatial import cKDTree

    positions = points.detach().cpu().double().numpy()
    count = min(NEIGHBOURS + 1, len(positions))
    distance = cKDTree(positions).query(positions, k=count)[0].reshape(len(positions), count)
    areas = math.pi * distance[:, -1] ** 2 / max(count - 1, 1)
    return torch.from_numpy(areas).to(points)


def poisson_mesh(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    resolution: int = 128,
    areas: Float[Tensor, " points"] | None = None,
    smoothing: float = 1.0,
) -> Mesh:
    """Return the closed Poisson surface of oriented points.

    The level is the indicator's mean over the points, weighted by area; where they are an open sheet it is held
    above the value far away, so that the surface closes behind the sheet.

    Args:
        points: Positions on the surface.
        normals: Unit normals that point outwards.
        resolution: Lattice points along the longest side, with a border of a quarter of the cloud's size.
        areas: What each point stands for; ``None`` estimates it from the neighbours.
        smoothing: Standard deviation of the Gaussian that joins the points, in cells.

    Raises:
        ValueError: if shapes differ, a number is not finite, or the resolution is below 16.
        UserError: if there are fewer than four points, or they enclose nothing.
    """
    check_range("resolution", resolution, 16)
    check_shape("points", points, (None, 3))
    check_finite("points", points)
    check_finite("normals", normals)
    if len(points) < 4 or not float((points.amax(0) - points.amin(0)).max()) > 0:
        raise UserError(
            f"{len(points)} points do not span a surface.", "Give a scan with some hundreds of points on the object."
        )
    with torch.no_grad():
        lattice = Lattice.around(points, resolution)
        weights = point_areas(points) if areas is None else areas
        indicator = poisson_indicator(points, normals, weights, lattice, smoothing)
        on_surface = sample_lattice(indicator, points, lattice)
        level = float((weights * on_surface).sum() / weights.sum())
        return mesh_from_lattice(max(level, LOWEST_LEVEL) - indicator, lattice)


def mesh_from_lattice(values: Float[Tensor, "x y z"], lattice: Lattice) -> Mesh:
    """Return the zero level of values on a lattice, negative inside, as triangles that look outwards.

    Closed unless the surface leaves the box.

    Raises:
        UserError: if all values have one sign.
    """
    from skimage.measure import marching_cubes

    grid = values.detach().cpu().numpy()
    if not grid.min() < 0 < grid.max():
        raise UserError(
            f"The points enclose nothing: the field runs from {grid.min():.3g} to {grid.max():.3g} without crossing 0.",
            "Check that the normals point outwards; flipped normals turn a solid inside out.",
        )
    tiny = np.float32(1e-6 * max(-grid.min(), grid.max()))
    grid = np.where(np.abs(grid) < tiny, tiny, grid)  # a vertex on a lattice point would make triangles without area
    vertices, faces, _, _ = marching_cubes(grid, 0.0, gradient_direction="descent")
    positions = torch.from_numpy(vertices.astype(np.float64)) * lattice.spacing + lattice.lower.cpu().double()
    return Mesh(positions.to(values), torch.from_numpy(np.ascontiguousarray(faces, dtype=np.int64)).to(values.device))


def trim_mesh(mesh: Mesh, points: Float[Tensor, "points 3"], distance: float = 0.05) -> Mesh:
    """Return the part of a mesh whose vertices all lie within ``distance`` of a point (trimmed Poisson).

    Raises:
        ValueError: if ``distance`` is negative.
    """
    from scipy.spatial import cKDTree

    check_range("distance", distance, 0.0)
    tree = cKDTree(points.detach().cpu().double().numpy())
    nearest = tree.query(mesh.vertices.detach().cpu().double().numpy(), distance_upper_bound=distance)[0]
    near = torch.from_numpy(np.isfinite(nearest)).to(mesh.faces.device)
    return keep_faces(mesh, near[mesh.faces].all(dim=1))
