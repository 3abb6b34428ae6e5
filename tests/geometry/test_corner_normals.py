import math

import pytest
import torch

from shapewright.geometry.corner_normals import corner_normals
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh, face_cross_products

SQUARES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]


def cube():
    corners = torch.tensor([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    return Mesh(corners, torch.tensor([[q[0], q[i], q[i + 1]] for q in SQUARES for i in (1, 2)]))


def tube(sides):
    angles = torch.arange(sides) * (2 * math.pi / sides)
    ring = torch.stack([angles.cos(), torch.zeros(sides), angles.sin()], -1)
    vertices = torch.cat([ring, ring + torch.tensor([0.0, 1, 0]), torch.tensor([[0.0, 0, 0], [0, 1, 0]])])
    faces = []
    for i in range(sides):
        j = (i + 1) % sides
        faces += [
            [i, sides + i, j],
            [j, sides + i, sides + j],
            [2 * sides, i, j],
            [2 * sides + 1, sides + j, sides + i],
        ]
    return Mesh(vertices, torch.tensor(faces))


def ball():
    lower, upper = torch.full((3,), -1.0), torch.full((3,), 1.0)
    return extract_isosurface(lambda x: x.norm(dim=-1) - 0.7, lower, upper, 48).mesh


def flat_normals(mesh):
    return torch.nn.functional.normalize(face_cross_products(mesh), dim=-1)[:, None].expand(-1, 3, -1)


def test_a_cube_keeps_its_edges():
    assert torch.allclose(corner_normals(cube()), flat_normals(cube()), atol=1e-6)


def test_without_creases_the_corner_of_a_cube_looks_along_its_diagonal():
    mesh = cube()
    normals = corner_normals(mesh, crease_deg=180.0)
    assert torch.allclose(normals.sign(), mesh.vertices[mesh.faces])
    opposite = torch.einsum("fki,fki->fk", normals, mesh.vertices[mesh.faces]) / math.sqrt(3)
    assert (opposite > 0.9).all()


def test_a_ball_is_smooth():
    mesh = ball()
    radial = torch.nn.functional.normalize(mesh.vertices, dim=-1)[mesh.faces]
    cosines = (corner_normals(mesh) * radial).sum(-1)
    assert cosines.min() > 0.99
    assert (flat_normals(mesh) * radial).sum(-1).min() < cosines.min()


def test_the_side_of_a_tube_is_round_and_its_rim_sharp():
    mesh = tube(24)
    normals = corner_normals(mesh)
    is_cap = flat_normals(mesh)[:, 0, 1].abs() > 0.5
    assert torch.allclose(normals[is_cap], flat_normals(mesh)[is_cap], atol=1e-6)
    radial = mesh.vertices[mesh.faces[~is_cap]] * torch.tensor([1.0, 0, 1])
    assert (normals[~is_cap][..., 1].abs() < 1e-6).all()
    assert ((normals[~is_cap] * radial).sum(-1) > 0.995).all()


def test_no_crease_angle_gives_flat_triangles():
    assert torch.allclose(corner_normals(ball(), crease_deg=0.0), flat_normals(ball()), atol=1e-5)


def test_seams_do_not_show():
    mesh = ball()
    soup = Mesh(mesh.vertices[mesh.faces].reshape(-1, 3), torch.arange(3 * mesh.num_faces).reshape(-1, 3))
    assert torch.allclose(corner_normals(soup), corner_normals(mesh), atol=1e-5)


def test_both_sides_of_a_doubled_surface_are_smooth():
    mesh = ball()
    doubled = Mesh(mesh.vertices, torch.cat([mesh.faces, mesh.faces.flip(1)]))
    normals = corner_normals(doubled)
    assert torch.allclose(normals[: mesh.num_faces], corner_normals(mesh), atol=1e-5)
    assert torch.allclose(normals[mesh.num_faces :], -corner_normals(mesh).flip(1), atol=1e-5)


def test_a_turned_face_keeps_its_own_normal():
    mesh = ball()
    faces = mesh.faces.clone()
    faces[10] = faces[10].flip(0)
    turned = Mesh(mesh.vertices, faces)
    assert torch.allclose(corner_normals(turned)[10], flat_normals(turned)[10], atol=1e-5)
    assert (corner_normals(turned) * flat_normals(turned)).sum(-1).min() > 0.9


def test_faces_without_area_and_meshes_without_faces_have_no_normal():
    mesh = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]), torch.tensor([[0, 1, 2]]))
    assert not corner_normals(mesh).any()
    assert corner_normals(Mesh(mesh.vertices, mesh.faces[:0])).shape == (0, 3, 3)


def test_an_impossible_angle_is_refused():
    with pytest.raises(ValueError, match="crease_deg"):
        corner_normals(cube(), crease_deg=181.0)
