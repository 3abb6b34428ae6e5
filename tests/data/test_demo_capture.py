"""The capture that ships with the package."""

import numpy as np
import pytest
import torch

from shapewright.data.check import check_scene
from shapewright.data.demo import NUM_VIEWS, SIZE, TRUE_MESH, demo_capture_path
from shapewright.data.scene import load_scene
from shapewright.data.toy import TOYS, WORLD_SCALE, WORLD_TRANSLATION, render_toy, toy_cameras
from shapewright.geometry.mesh import sample_surface
from shapewright.geometry.topology import count_components, is_watertight
from shapewright.io.meshes import read_mesh


@pytest.fixture(scope="module")
def scene():
    return load_scene(demo_capture_path())


@pytest.fixture(scope="module")
def true_mesh():
    return read_mesh(demo_capture_path() / TRUE_MESH)


def test_it_holds_what_the_demo_needs_in_less_than_three_megabytes(scene):
    assert len(scene.views) == NUM_VIEWS
    assert scene.has_masks
    assert scene.cameras.sizes.tolist() == [list(SIZE)] * NUM_VIEWS
    assert sum(file.stat().st_size for file in demo_capture_path().rglob("*")) < 3e6


def test_it_passes_the_check_of_scenes(scene):
    report = check_scene(scene)
    assert report.passed, report.errors
    # The pattern of the stand repeats, and misleads the matches of one picture.
    assert len(report.warnings) <= 1


def test_the_object_is_whole_in_every_picture(scene):
    for view in range(NUM_VIEWS):
        alpha = scene.picture(view).alpha
        edge = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert not edge.any()
        assert 0.2 < (alpha > 127).mean() < 0.6


def test_no_photo_is_clipped(scene):
    for view in range(NUM_VIEWS):
        picture = scene.picture(view)
        assert picture.rgb[picture.alpha > 127].max() < 255


def test_the_formulas_still_make_these_pictures(scene):
    picture = render_toy(TOYS["demo"], toy_cameras(NUM_VIEWS, SIZE), 10, supersample=1)
    photo = scene.picture(10)
    inside = (picture[..., 3] == 255) & (photo.alpha == 255)
    # One ray a pixel against nine: equal on average, in linear light.
    difference = (picture[inside][:, :3] / 255) ** 2.2 - (photo.rgb[inside] / 255) ** 2.2
    assert np.sqrt((difference**2).mean()) < 0.06
    assert np.abs(difference.mean(0)).max() < 0.003


def test_the_true_mesh_is_one_closed_surface_on_the_zero_set(scene, true_mesh):
    assert count_components(true_mesh) == 1
    assert is_watertight(true_mesh)
    points = sample_surface(true_mesh, 50_000, torch.Generator().manual_seed(0)).double()
    normalised = (points - torch.tensor(WORLD_TRANSLATION, dtype=torch.float64)) / WORLD_SCALE
    normalised.requires_grad_()
    values = TOYS["demo"].distance(normalised)
    (slope,) = torch.autograd.grad(values.sum(), normalised)
    distances = values.detach().abs() / slope.norm(dim=-1).clamp_min(0.2) * WORLD_SCALE
    assert distances.mean() < 0.0002 * true_mesh.diagonal
    assert distances.quantile(0.99) < 0.0005 * true_mesh.diagonal


def test_the_true_mesh_lies_inside_the_silhouettes(scene, true_mesh):
    vertices = (true_mesh.vertices.double() - torch.from_numpy(scene.translation)) / scene.scale
    for view in range(0, NUM_VIEWS, 5):
        pixels, _ = scene.cameras.project(vertices, view)
        columns, rows = pixels.floor().long().T
        assert (scene.picture(view).alpha[rows, columns] > 0).mean() > 0.995
