"""The template of patch decoders: a sphere made of the six sides of a cube."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.mesh import Mesh


def cube_sphere(grid_size: int = 16, dtype: torch.dtype = torch.float32) -> Mesh:
    """Return the unit sphere as the border of a cubic lattice, mapped to [-1, 1]^3 and normalised.

    Vertices are in the order of the lattice, x fastest and z slowest. 16 points along each side give 1352 vertices and
    2700 faces, which look outwards: the template of view prior learning (arXiv:1811.10719), where half of them look
    inwards.

    Args:
        grid_size: Points along each side of the lattice.
        dtype: Type of the positions.
    """
    vertices = _border(grid_size).double() * (2 / (grid_size - 1)) - 1
    vertices = vertices / vertices.norm(dim=1, keepdim=True)
    faces = cube_patches(grid_size).flatten()[patch_triangles(grid_size)]
    return Mesh(vertices.to(dtype), faces)


def cube_patches(grid_size: int = 16) -> Int64[Tensor, "6 rows columns"]:
    """Return which vertex each point of the six sides is.

    The sides are z = 0, z = 1, y = 0, y = 1, x = 0 and x = 1 (of the lattice scaled to [0, 1]), and their rows and
    columns run along (y, x), (y, x), (x, z), (x, z), (z, y) and (z, y). Points on edges belong to two sides and corners
    to three.

    Args:
        grid_size: Points along each side of the lattice.
    """
    border = _border(grid_size)
    last = grid_size - 1
    number = torch.full((grid_size,) * 3, -1)
    number[tuple(border.unbind(1))] = torch.arange(len(border))
    sides = [
        *(number[:, :, place].T for place in (0, last)),
        *(number[:, place, :] for place in (0, last)),
        *(number[place, :, :].T for place in (0, last)),
    ]
    return torch.stack(sides)


def patch_triangles(grid_size: int = 16) -> Int64[Tensor, "faces 3"]:
    """Return the triangles of the six sides as indices into their points, ``(side * rows + row) * columns + column``.

    ``cube_patches(n).flatten()[patch_triangles(n)]`` are the faces of the cube sphere, in the same order.

    Args:
        grid_size: Points along each side of the lattice.
    """
    check_range("grid_size", grid_size, 2)
    point = torch.arange(6 * grid_size**2).view(6, grid_size, grid_size)
    a, b, c, d = point[:, :-1, :-1], point[:, 1:, :-1], point[:, :-1, 1:], point[:, 1:, 1:]
    faces = torch.stack([torch.stack([a, b, d], dim=-1), torch.stack([a, d, c], dim=-1)], dim=3).view(6, -1, 3)
    # Rows to columns turn about -z, -z, -y, -y, -x, -x: those of the second side of each pair look inwards.
    faces[1::2] = faces[1::2].flip(-1)
    return faces.reshape(-1, 3)


def patch_texture_coordinates(grid_size: int = 16, texels: int = 64) -> Float[Tensor, "points 2"]:
    """Return the UV coordinates of the points of all sides, whose textures lie side by side in one picture.

    Rows of a side run to the right, columns downwards; the first and the last are at the centres of the border's
    texels. ``patch_triangles`` are the corners of the faces.

    Args:
        grid_size: Points along each side of the lattice.
        texels: Along each side of a texture.
    """
    check_range("texels", texels, 1)
    along = (torch.linspace(0, 1, grid_size) * (texels - 1) + 0.5) / texels
    side = torch.arange(6)[:, None, None]
    u = (side + along[:, None]) / 6
    return torch.stack(torch.broadcast_tensors(u, 1 - along), dim=-1).reshape(-1, 2)


def _border(grid_size: int) -> Int64[Tensor, "vertices 3"]:
    """Return x, y, z of the points on the border of the lattice."""
    check_range("grid_size", grid_size, 2)
    steps = torch.arange(grid_size)
    points = torch.cartesian_prod(steps, steps, steps).flip(1)
    return points[((points == 0) | (points == grid_size - 1)).any(1)]
