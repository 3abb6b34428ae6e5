"""Voxels by the published rule: its own counts, its leak, and what padding mends."""

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.voxels import kato_voxels

SIDES = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
LAST_SIDE = [[1, 5, 7], [1, 7, 3]]


def box(low, high, faces=SIDES + LAST_SIDE):
    ends = torch.tensor([low, high])
    corners = torch.cartesian_prod(*ends.T)
    return Mesh(corners, torch.tensor(faces))


def ball(radius, subdivisions=3):
    sphere = icosphere(subdivisions)
    return Mesh(radius * sphere.vertices, sphere.faces)


@pytest.mark.parametrize(("half_side", "cells"), [(0.25, 4096), (0.26, 5832), (0.3, 8000), (0.5, 32768)])
def test_cubes_have_the_published_number_of_cells(half_side, cells):
    assert int(kato_voxels(box([-half_side] * 3, [half_side] * 3)).sum()) == cells


@pytest.mark.parametrize(("radius", "subdivisions", "cells"), [(0.25, 3, 2536), (0.4, 3, 9448), (0.45, 4, 13272)])
def test_spheres_have_the_published_number_of_cells(radius, subdivisions, cells):
    assert int(kato_voxels(ball(radius, subdivisions)).sum()) == cells
    assert torch.equal(kato_voxels(ball(radius, subdivisions), padding=4), kato_voxels(ball(radius, subdivisions)))


def test_a_box_fills_the_cells_that_its_coordinates_say():
    cells = kato_voxels(box([-0.3, -0.2, -0.1], [0.4, 0.25, 0.05]))
    expected = torch.zeros(32, 32, 32, dtype=torch.bool)
    expected[6:29, 9:24, 12:18] = True
    assert torch.equal(cells, expected)
    assert int(kato_voxels(box([-0.3, -0.01, -0.3], [0.3, 0.01, 0.3])).sum()) == 800


def test_a_mesh_that_leaves_the_grid_leaks_unless_it_is_padded():
    assert int(kato_voxels(ball(0.517)).sum()) == 19544
    assert int(kato_voxels(ball(0.520)).sum()) == 4739
    assert int(kato_voxels(ball(0.520), padding=4).sum()) > 19544


def test_a_box_without_one_side_is_its_shell():
    assert int(kato_voxels(box([-0.25] * 3, [0.25] * 3, SIDES)).sum()) == 1156


def test_nothing_fills_nothing():
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    assert not bool(kato_voxels(empty).any())
