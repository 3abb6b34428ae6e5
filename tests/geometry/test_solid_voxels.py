"""Solid voxels: the published rules' own counts, their leak and what padding mends, and the axes of stored grids."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.solid_voxels import (
    KATO32,
    KATO32_PADDED,
    PASCAL32,
    VPL32,
    VoxelRule,
    kato_rule,
    stored_axes,
    vpl_rule,
    world_axes,
)
from shapewright.geometry.solid_voxels import solid_voxels as defined_voxels
from shapewright.kernels.backends import backend, load
from shapewright.kernels.voxel_ops import kato_voxels, solid_voxels, vpl_voxels

SIDES = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4]]
LAST_SIDE = [[1, 5, 7], [1, 7, 3]]
# The other test at Kato's scale: published counts agree.
TOUCH31 = VoxelRule("touch31", "touch", 31.0)
RULES = (KATO32, KATO32_PADDED, VPL32, TOUCH31)
DATASETS = ("kato", "lsm", "lsm_original", "vpl", "pascal3d")


def box(low, high, faces=SIDES + LAST_SIDE):
    ends = torch.tensor([low, high])
    corners = torch.cartesian_prod(*ends.T)
    return Mesh(corners, torch.tensor(faces))


def cube(half_side):
    return box([-half_side] * 3, [half_side] * 3)


def ball(radius, subdivisions=3):
    sphere = icosphere(subdivisions)
    return Mesh(radius * sphere.vertices, sphere.faces)


def bumpy(seed):
    """Return a ball with random bumps, inside the cube, not symmetric in anything."""
    sphere = icosphere(3)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(6, 3, generator=generator)
    radius = 0.28 + 0.18 * torch.tanh((sphere.vertices @ directions.T).sin().sum(1) / 2)
    return Mesh(sphere.vertices * radius[:, None], sphere.faces)


def count(mesh, rule):
    return int(solid_voxels(mesh.vertices[None], mesh.faces, rule).sum())


@pytest.mark.parametrize("rule", [KATO32, KATO32_PADDED, TOUCH31], ids=lambda rule: rule.name)
def test_shapes_have_the_published_number_of_cells(rule):
    cubes = {0.25: 4096, 0.26: 5832, 0.3: 8000, 0.5: 32768}
    assert {half: count(cube(half), rule) for half in cubes} == cubes
    balls = {(0.25, 3): 2536, (0.4, 3): 9448, (0.45, 3): 13056, (0.4, 4): 9568, (0.45, 4): 13272}
    assert {key: count(ball(*key), rule) for key in balls} == balls
    assert count(box([-0.3, -0.01, -0.3], [0.3, 0.01, 0.3]), rule) == 800
    assert count(box([-0.3, -0.2, -0.1], [0.4, 0.25, 0.05]), rule) == 2070


@pytest.mark.parametrize(("radius", "cells"), [(0.25, 1112), (0.4, 2936), (0.45, 3608)])
def test_surfaces_have_the_published_number_of_cells(radius, cells):
    mesh, grid = ball(radius), np.zeros((1, 32, 32, 32), np.uint8)
    kernel = load("cpu", "voxels")
    kernel.fill(KATO32.places(mesh.vertices[None]), mesh.faces.int().numpy(), 0, False, grid, 0, 1)
    assert int((grid == kernel.SURFACE).sum()) == cells


def test_a_box_fills_the_cells_that_its_coordinates_say():
    cells = kato_voxels(box([-0.3, -0.2, -0.1], [0.4, 0.25, 0.05]))
    expected = torch.zeros(32, 32, 32, dtype=torch.bool)
    expected[6:29, 9:24, 12:18] = True
    assert torch.equal(cells, expected)


def test_the_touch_rule_counts_cells_that_are_only_touched():
    # Its sides lie on 8 and 24 exactly: both neighbours count.
    assert int(vpl_voxels(cube(0.25)).sum()) == 5832
    assert int(vpl_voxels(cube(0.5), cube="pascal3d").sum()) == 5832
    corner = Mesh(torch.tensor([[8.0, 8, 8], [8.5, 9, 8.5], [8.5, 8.5, 9]]) / 32 - 0.5, torch.tensor([[0, 1, 2]]))
    touched = vpl_voxels(corner).nonzero().tolist()
    assert [7, 7, 7] in touched
    assert [9, 9, 9] not in touched


def test_a_mesh_that_leaves_the_grid_leaks_unless_it_is_padded():
    assert count(ball(0.517), KATO32) == 19544
    assert count(ball(0.520), KATO32) == 4739
    assert count(ball(0.520), KATO32_PADDED) > 19544
    assert count(ball(0.9), KATO32_PADDED) > 32000


def test_a_hole_lets_the_outside_in_if_it_is_larger_than_a_cell():
    whole = ball(0.4)
    assert torch.equal(kato_voxels(Mesh(whole.vertices, whole.faces[1:])), kato_voxels(whole))
    assert int(kato_voxels(box([-0.25] * 3, [0.25] * 3, SIDES)).sum()) == 1156


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_fast_kernel_follows_the_definition(rule):
    meshes = [bumpy(0), cube(0.26), Mesh(*_soup(0)), ball(0.52)]
    for mesh in meshes:
        fast = solid_voxels(mesh.vertices[None], mesh.faces, rule)[0]
        assert np.array_equal(fast.numpy(), defined_voxels(mesh.vertices, mesh.faces, rule))
    with backend("reference"):
        plain = solid_voxels(meshes[0].vertices[None], meshes[0].faces, rule)
    assert torch.equal(plain, solid_voxels(meshes[0].vertices[None], meshes[0].faces, rule))


def _soup(seed):
    """Return triangles without order, slivers and points among them, some outside the grid."""
    generator = torch.Generator().manual_seed(seed)
    vertices = torch.randn(30, 3, generator=generator) / 3
    vertices[:6, 0] = 0.1
    faces = torch.randint(0, 30, (40, 3), generator=generator)
    return vertices, torch.cat([faces, torch.tensor([[0, 1, 2], [3, 3, 3], [4, 5, 4]])])


def test_padding_changes_nothing_where_nothing_leaves():
    for seed in range(8):
        mesh = bumpy(seed)
        assert torch.equal(kato_voxels(mesh, padding=4), kato_voxels(mesh))


def test_many_meshes_are_filled_as_one_by_one_on_any_number_of_threads():
    meshes = [bumpy(seed) for seed in range(5)]
    vertices = torch.stack([mesh.vertices for mesh in meshes])
    together = solid_voxels(vertices, meshes[0].faces)
    assert all(torch.equal(cells, kato_voxels(mesh)) for cells, mesh in zip(together, meshes, strict=True))
    torch.set_num_threads(3)
    assert torch.equal(solid_voxels(vertices, meshes[0].faces), together)


def test_nothing_fills_nothing():
    empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    for rule in RULES:
        assert count(empty, rule) == 0
        assert not defined_voxels(empty.vertices, empty.faces, rule).any()
    assert solid_voxels(torch.zeros(0, 4, 3), torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 32, 32, 32)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
def test_vertices_that_are_no_numbers_cost_their_triangles_only(bad):
    mesh = ball(0.4)
    vertices = torch.cat([mesh.vertices, torch.tensor([[bad, 0.0, 0.0]])])
    faces = torch.cat([mesh.faces, torch.tensor([[642, 642, 642]])])
    assert torch.equal(solid_voxels(vertices[None], faces)[0], kato_voxels(mesh))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="vertices"):
        solid_voxels(torch.zeros(4, 3), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="0 to 3, got 0 to 4"):
        solid_voxels(torch.zeros(1, 4, 3), torch.tensor([[0, 1, 4]]))
    with pytest.raises(ValueError, match="resolution"):
        VoxelRule("none", "lines", 31.0, 0)
    # The checker of types in tests comes before the function's own check.
    with pytest.raises((ValueError, TypeCheckError)):
        world_axes(np.zeros((2, 2, 2)), "mars")


def test_rules_are_called_as_published():
    names = [rule.name for rule in (KATO32, KATO32_PADDED, VPL32, PASCAL32, kato_rule(64), vpl_rule(16))]
    assert names == ["kato32", "kato32_padded", "vpl32", "vpl32_pascal3d", "kato64", "vpl16"]


def test_stored_axes_are_as_published():
    volume = np.arange(32**3).reshape(32, 32, 32)
    a, b, c = 3, 11, 26
    expected = {
        "kato": volume[c, a, 31 - b],
        "lsm": volume[a, b, c],
        "lsm_original": volume[a, b, 31 - c],
        "vpl": volume[a, b, c],
        "pascal3d": volume[31 - a, 31 - c, 31 - b],
    }
    assert {name: stored_axes(volume, name)[a, b, c] for name in DATASETS} == expected


@given(st.sampled_from(DATASETS), st.booleans())
@settings(max_examples=20, deadline=None)
def test_axes_come_back(dataset, is_batch):
    shape = (2, 3, 4, 5) if is_batch else (3, 4, 5)
    volume = np.random.default_rng(0).random(shape)
    assert np.array_equal(world_axes(stored_axes(volume, dataset), dataset), volume)
    one = volume if not is_batch else volume[0]
    stored = stored_axes(volume, dataset)
    assert np.array_equal(stored[0] if is_batch else stored, stored_axes(one, dataset))


def test_voxels_of_the_published_frame_are_ours_in_its_axes():
    # NMR's frame is left-handed, (-z, y, -x); its authors swap the first two axes of the grid and flip the last.
    for seed in range(20):
        mesh = bumpy(seed)
        x, y, z = mesh.vertices.unbind(1)
        theirs = solid_voxels(torch.stack([-z, y, -x], dim=1)[None], mesh.faces.flip(1))[0].numpy()
        assert np.array_equal(theirs.transpose(1, 0, 2)[:, :, ::-1], stored_axes(kato_voxels(mesh).numpy(), "kato"))


def test_voxels_of_the_frames_of_view_prior_learning_are_ours_in_their_axes():
    mesh = bumpy(3)
    x, y, z = mesh.vertices.unbind(1)
    rule = TOUCH31  # of a scale at which no coordinate is a tie
    ours = solid_voxels(mesh.vertices[None], mesh.faces, rule)[0].numpy()
    mirrored = solid_voxels(torch.stack([x, y, -z], dim=1)[None], mesh.faces.flip(1), rule)[0].numpy()
    assert np.array_equal(mirrored[:, :, ::-1], stored_axes(ours, "vpl"))
    swapped = solid_voxels(torch.stack([-z, y, -x], dim=1)[None], mesh.faces.flip(1), rule)[0].numpy()
    # The published reading of LSM: gt[a, b, c] = P[c, b, 31 - a].
    assert np.array_equal(swapped.transpose(2, 1, 0)[::-1], stored_axes(ours, "lsm_original"))
