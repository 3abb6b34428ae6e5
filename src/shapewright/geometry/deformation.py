"""Smooth random deformations of a mesh: new members of its family."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.geometry.mesh import Mesh, sample_surface

SYMMETRY_POINTS = 2000
SYMMETRY_TOLERANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class DeformationConfig:
    """Describe how far a deformation goes; lengths are in shares of the box's sides.

    Attributes:
        stretch: Standard deviation of the logarithm of each side's scale.
        spacing: Standard deviation of the logarithm of the spacing of ``knots`` equal parts of each side: some parts of
            the object grow against the others.
        knots: Parts of each side.
        taper: Standard deviation of the change of one side's scale along another.
        bend: Standard deviation of a displacement of the middle against the ends.
        cage: Standard deviation of the displacement of the points of a 4 x 4 x 4 cage.
        longest_edge: Edges longer than this share of the diagonal are split, so that flat parts can bend.
    """

    stretch: float = 0.15
    spacing: float = 0.25
    knots: int = 4
    taper: float = 0.1
    bend: float = 0.04
    cage: float = 0.02
    longest_edge: float = 0.1


def deform(mesh: Mesh, generator: torch.Generator, config: DeformationConfig | None = None) -> Mesh:
    """Return a smoothly deformed copy of a mesh.

    Per axis a stretch and a monotone map of the coordinate (parts grow or shrink against each other), then tapers,
    bends and a smooth displacement by a cage. Where the mesh is its own mirror image the deformed one is too.

    Raises:
        ValueError: if the mesh has no area.
    """
    config = config or DeformationConfig()
    symmetric = mirror_axes(mesh)
    mesh = split_long_edges(mesh, config.longest_edge * mesh.diagonal)
    lower, upper = mesh.bounds.double()
    sides = (upper - lower).clamp(min=1e-9)
    unit = (mesh.vertices.double() - lower) / sides
    unit = torch.stack([_respaced(unit[:, axis], bool(symmetric[axis]), config, generator) for axis in range(3)], dim=1)
    bent = _bent(unit, symmetric, config, generator)
    bent = bent + _cage_displacement(unit, symmetric, config.cage, generator)
    scale = (config.stretch * torch.randn(3, generator=generator, dtype=torch.float64)).exp()
    moved = lower + bent * sides * scale
    return Mesh(moved.to(mesh.vertices), mesh.faces, mesh.vertex_colors)


def mirror_axes(mesh: Mesh) -> Bool[Tensor, " 3"]:
    """Tell for each axis whether the mesh is its own mirror image across the middle of its box."""
    from scipy.spatial import cKDTree

    points = sample_surface(mesh, SYMMETRY_POINTS, torch.Generator().manual_seed(0)).double()
    tree = cKDTree(points.numpy())
    spread = float(torch.as_tensor(tree.query(points.numpy(), k=2)[0][:, 1]).mean())
    found = []
    for axis in range(3):
        mirrored = points.clone()
        mirrored[:, axis] = mesh.bounds[:, axis].double().sum() - points[:, axis]
        distance = float(torch.as_tensor(tree.query(mirrored.numpy())[0]).mean())
        found.append(distance < spread + SYMMETRY_TOLERANCE * mesh.diagonal)
    return torch.tensor(found)


def split_long_edges(mesh: Mesh, longest: float) -> Mesh:
    """Return the mesh with every edge longer than ``longest`` split at its middle, again and again.

    Triangles that share an edge are split alike, so that no crack opens. Colours are interpolated.

    Raises:
        ValueError: if ``longest`` is not positive.
    """
    if not longest > 0:
        raise ValueError(f"longest must be positive, got {longest}.")
    while mesh.num_faces:
        ends = mesh.vertices[mesh.faces]
        is_long = (ends - ends.roll(-1, dims=1)).norm(dim=-1) > longest
        if not is_long.any():
            break
        mesh = _split_edges(mesh, is_long)
    return mesh


def _split_edges(mesh: Mesh, is_long: Bool[Tensor, "faces 3"]) -> Mesh:
    """Split the marked edges (edge ``k`` of a face runs from corner ``k`` to the next)."""
    pairs = torch.stack((mesh.faces, mesh.faces.roll(-1, dims=1)), dim=-1).sort(dim=-1).values
    edges, inverse = pairs[is_long].unique(dim=0, return_inverse=True)
    middle = torch.full(mesh.faces.shape, -1, dtype=torch.int64)
    middle[is_long] = mesh.num_vertices + inverse
    vertices = torch.cat((mesh.vertices, mesh.vertices[edges].mean(dim=1)))
    colors = mesh.vertex_colors
    if colors is not None:
        colors = torch.cat((colors, colors[edges].mean(dim=1)))
    return Mesh(vertices, _split_faces(mesh.faces, middle), colors)


def _split_faces(faces: Int64[Tensor, "faces 3"], middle: Int64[Tensor, "faces 3"]) -> Int64[Tensor, "more 3"]:
    """Return the triangles with the middles of their split edges as corners; -1 stands for an edge left whole."""
    counts = (middle >= 0).sum(dim=1)
    parts = [faces[counts == 0]]
    for count in (1, 2, 3):
        for turn in range(3 if count < 3 else 1):
            rolled = middle.roll(-turn, dims=1)
            pattern = rolled[:, :count].ge(0).all(dim=1) & (counts == count)
            a, b, c = faces.roll(-turn, dims=1)[pattern].unbind(1)
            ab, bc, ca = rolled[pattern].unbind(1)
            triangles = {
                1: ((a, ab, c), (ab, b, c)),
                2: ((a, ab, c), (ab, bc, c), (ab, b, bc)),
                3: ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)),
            }[count]
            parts += [torch.stack(corners, dim=1) for corners in triangles]
    return torch.cat(parts)


def _respaced(
    unit: Float[Tensor, " n"], is_symmetric: bool, config: DeformationConfig, generator: torch.Generator
) -> Float[Tensor, " n"]:
    """Return coordinates in [0, 1] after a random monotone map of [0, 1], linear between its knots."""
    widths = (config.spacing * torch.randn(config.knots, generator=generator, dtype=torch.float64)).exp()
    if is_symmetric:
        widths = widths + widths.flip(0)
    after = torch.cat((widths.new_zeros(1), (widths / widths.sum()).cumsum(0)))
    place = (unit * config.knots).clamp(0.0, config.knots - 1e-9)
    index = place.long()
    return after[index] + (place - index) * (after[index + 1] - after[index])


def _bent(
    unit: Float[Tensor, "n 3"], symmetric: Bool[Tensor, " 3"], config: DeformationConfig, generator: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Return coordinates whose scale and offset along one axis change along another."""
    result = unit.clone()
    for axis in range(3):
        for along in range(3):
            taper, bend = torch.randn(2, generator=generator, dtype=torch.float64)
            if axis == along:
                continue
            place = 2 * unit[:, along] - 1
            slope = 0.0 if symmetric[along] else config.taper * taper
            result[:, axis] += slope * place * (unit[:, axis] - 0.5)
            if not symmetric[axis]:
                result[:, axis] += config.bend * bend * (1 - place**2)
    return result


def _cage_displacement(
    unit: Float[Tensor, "n 3"], symmetric: Bool[Tensor, " 3"], size: float, generator: torch.Generator
) -> Float[Tensor, "n 3"]:
    """Return the displacement that a 4 x 4 x 4 Bezier cage gives (Sederberg and Parry 1986, eq. 2)."""
    cage = size * torch.randn(4, 4, 4, 3, generator=generator, dtype=torch.float64)
    for axis in range(3):
        if symmetric[axis]:
            mirrored = cage.flip(axis)
            mirrored[..., axis] *= -1
            cage = (cage + mirrored) / 2**0.5
    t = unit.clamp(0.0, 1.0)
    weights = torch.stack(((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3), dim=-1)
    return torch.einsum("ijkc,ni,nj,nk->nc", cage, *weights.unbind(1))
