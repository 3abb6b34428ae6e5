"""The cube sphere and its sides, and mirror images among vertices."""

import pytest
import torch

from shapewright.geometry.cube_sphere import cube_patches, cube_sphere, patch_texture_coordinates, patch_triangles
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mirror_pairs import mirror_pairs
from shapewright.geometry.topology import is_watertight


@pytest.mark.parametrize(("grid_size", "vertices", "faces"), [(2, 8, 12), (5, 98, 192), (16, 1352, 2700)])
def test_the_border_of_a_lattice_becomes_a_closed_sphere_that_looks_outwards(grid_size, vertices, faces):
    sphere = cube_sphere(grid_size, torch.float64)
    assert (sphere.num_vertices, sphere.num_faces) == (vertices, faces)
    assert is_watertight(sphere)
    torch.testing.assert_close(sphere.vertices.norm(dim=1), torch.ones(vertices, dtype=torch.float64))
    a, b, c = sphere.vertices[sphere.faces].unbind(1)
    assert bool((torch.linalg.cross(b - a, c - a) * (a + b + c)).sum(1).gt(0).all())
    assert 0 < sphere.volume < 4.18879
    if grid_size == 16:
        assert sphere.volume == pytest.approx(4.1662, abs=1e-4)


def test_the_sides_cover_every_vertex_as_often_as_it_has_sides():
    vertices, patches = cube_sphere(5).vertices, cube_patches(5)
    times = torch.bincount(patches.flatten())
    assert torch.bincount(times).tolist() == [0, 54, 36, 8]
    for side, (axis, sign) in enumerate([(2, -1), (2, 1), (1, -1), (1, 1), (0, -1), (0, 1)]):
        along = vertices[patches[side]]
        assert bool((along[..., axis] * sign > 0).all())
        row, column = [("yx", "yx", "xz", "xz", "zy", "zy")[side][k] for k in (0, 1)]
        assert bool((along.diff(dim=0)[..., "xyz".index(row)] > 0).all())
        assert bool((along.diff(dim=1)[..., "xyz".index(column)] > 0).all())


def test_textures_of_the_sides_lie_side_by_side():
    uv = patch_texture_coordinates(3, 8).view(6, 3, 3, 2)
    assert uv[0, 0, 0].tolist() == pytest.approx([0.5 / 48, 1 - 0.5 / 8])
    assert uv[0, 2, 0].tolist() == pytest.approx([7.5 / 48, 1 - 0.5 / 8])
    assert uv[5, 0, 2].tolist() == pytest.approx([40.5 / 48, 0.5 / 8])
    assert patch_triangles(3).shape == (48, 3)
    assert int(patch_triangles(3).max()) == 53


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_every_vertex_of_the_template_has_an_exact_mirror_image(axis):
    vertices = icosphere(3).vertices
    pairs = mirror_pairs(vertices, axis)
    assert (len(pairs.on_plane), len(pairs.positive), len(pairs.mirrored)) == (32, 305, 305)
    everything = torch.cat([pairs.on_plane, pairs.positive, pairs.mirrored])
    assert torch.equal(everything.sort().values, torch.arange(642))
    mirror = torch.ones(3)
    mirror[axis] = -1
    assert torch.equal(vertices[pairs.positive] * mirror, vertices[pairs.mirrored])
    assert not bool(vertices[pairs.on_plane, axis].any())


def test_mirror_pairs_of_few_vertices():
    flat = mirror_pairs(torch.tensor([[1.0, 2.0, 0.0]]))
    assert (flat.on_plane.tolist(), flat.positive.tolist()) == ([0], [])
    pair = mirror_pairs(torch.tensor([[1.0, 2.0, -3.0], [1.0, 2.0, 3.0]]))
    assert (pair.positive.tolist(), pair.mirrored.tolist()) == ([1], [0])
    for lonely in ([[0.0, 0.0, 1.0]], [[0.0, 0, 1], [0, 1, -1]], [[0.0, 0, 1], [0, 0, 1], [0, 0, -1], [5, 0, -1]]):
        with pytest.raises(ValueError, match="symmetric"):
            mirror_pairs(torch.tensor(lonely))
