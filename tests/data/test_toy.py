"""Toy scenes, whose surface is known."""

import math
import time

import numpy as np
import pytest
import torch

from shapewright.data.figurine import figurine_color, figurine_distance
from shapewright.data.scene import load_scene
from shapewright.data.toy import (
    TOYS,
    WORLD_SCALE,
    WORLD_TRANSLATION,
    Toy,
    render_toy,
    shade_toy,
    toy_cameras,
    toy_mesh,
    toy_normals,
    trace_toy,
    write_toy_scene,
)
from shapewright.geometry.rays import intersect_sphere

SIZE = (64, 56)


def sphere_points(count, seed=0):
    directions = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    return 0.6 * torch.nn.functional.normalize(directions, dim=-1)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy") / "scene"
    write_toy_scene(folder, "sphere", num_views=9, size=SIZE)
    return load_scene(folder)


def test_traced_distances_are_the_analytic_ones():
    origins, directions = (rays.float() for rays in toy_cameras(1, (96, 80)).image_rays(0))
    distances, hit = trace_toy(TOYS["sphere"], origins, directions)
    near, _, meets = intersect_sphere(origins, directions, 0.6)
    assert (hit != meets).sum() <= 4  # tangent rays
    both = hit & meets
    slant = -((origins + near[:, None] * directions) * directions).sum(-1) / 0.6
    assert ((distances - near).abs() * slant)[both].max() < 2e-4


@pytest.mark.parametrize("shape", TOYS)
def test_hits_lie_on_the_surface_and_misses_stay_outside(shape):
    origins, directions = (rays.float() for rays in toy_cameras(3, (48, 48)).image_rays(1))
    distances, hit = trace_toy(TOYS[shape], origins, directions)
    assert 0.1 < hit.float().mean() < 0.9
    assert TOYS[shape].distance((origins + distances[:, None] * directions)[hit]).abs().max() < 2e-4
    along = torch.linspace(2.2, 4.2, 30)[:, None, None]
    samples = origins[~hit] + along * directions[~hit]
    assert TOYS[shape].distance(samples.reshape(-1, 3)).min() > -2e-3


def test_a_silhouette_covers_the_disc_of_the_sphere():
    cameras = toy_cameras(1, (128, 128))
    alpha = render_toy(TOYS["sphere"], cameras, 0)[..., 3]
    focal = cameras.intrinsics[0, 0, 0].item()
    radius_px = focal * 0.6 / math.sqrt(3.2**2 - 0.6**2)
    assert alpha.sum() / 255 == pytest.approx(math.pi * radius_px**2, rel=0.005)


def test_normals_of_a_sphere_point_outwards():
    points = sphere_points(100)
    assert torch.allclose(toy_normals(TOYS["sphere"], points), points / 0.6, atol=1e-3)


def test_the_side_of_the_lamp_is_brighter_and_a_roof_throws_a_shadow():
    grey = Toy(TOYS["sphere"].distance, lambda points: torch.full_like(points, 0.5))
    lamp = torch.nn.functional.normalize(torch.tensor([[-0.42, 0.75, 0.51]]), dim=-1)
    lit, dark = (shade_toy(grey, 0.6 * side, side).mean() for side in (lamp, -lamp))
    assert lit > 2 * dark

    def under_a_roof(points):
        return torch.minimum(grey.distance(points), (points - 0.85 * lamp).norm(dim=-1) - 0.1)

    assert shade_toy(Toy(under_a_roof, grey.color), 0.6 * lamp, lamp).mean() < 0.8 * lit


def test_cameras_surround_the_object_and_look_at_it():
    cameras = toy_cameras(28, SIZE)
    assert torch.allclose(cameras.centers.norm(dim=1), torch.full((28,), 3.2, dtype=torch.float64))
    assert torch.allclose(cameras.forward, -cameras.centers / 3.2)
    for views in (range(28), range(0, 28, 8)):
        azimuths = torch.atan2(*cameras.centers[list(views)][:, [2, 0]].T).sort().values
        gaps = torch.cat([azimuths.diff(), azimuths[:1] + 2 * math.pi - azimuths[-1:]])
        assert gaps.max() < 4 * 2 * math.pi / len(views) / 1.5


def test_a_written_scene_loads_with_the_cameras_that_made_it(scene):
    cameras = toy_cameras(9, SIZE)
    assert (scene.format, len(scene.views), scene.has_masks) == ("idr", 9, True)
    assert scene.scale == pytest.approx(WORLD_SCALE)
    assert scene.translation.tolist() == pytest.approx(list(WORLD_TRANSLATION))
    assert torch.allclose(scene.cameras.world_from_camera, cameras.world_from_camera, atol=1e-9)
    assert torch.allclose(scene.cameras.intrinsics, cameras.intrinsics, atol=1e-6)


def test_a_written_scene_loads_with_the_pictures_that_were_rendered(scene):
    picture = render_toy(TOYS["sphere"], toy_cameras(9, SIZE), 4)
    assert np.array_equal(scene.picture(4).rgb, picture[..., :3])
    assert np.array_equal(scene.picture(4).alpha, picture[..., 3])


def test_twelve_small_views_take_less_than_three_seconds(tmp_path):
    started = time.process_time()
    write_toy_scene(tmp_path / "torus", "torus", num_views=12, size=(64, 64))
    assert time.process_time() - started < 3


def test_an_unknown_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="sphere, torus, demo, got 'cube'"):
        write_toy_scene(tmp_path, "cube")


def test_a_simplified_mesh_has_the_area_and_volume_of_the_sphere():
    mesh = toy_mesh(TOYS["sphere"], resolution=64, num_faces=4000)
    assert mesh.num_faces <= 4000
    assert (mesh.vertices.norm(dim=1) - 0.6).abs().max() < 1e-6
    assert mesh.area == pytest.approx(4 * math.pi * 0.36, rel=2e-3)
    assert mesh.volume == pytest.approx(4 / 3 * math.pi * 0.6**3, rel=4e-3)
    assert 0 <= mesh.vertex_colors.min() <= mesh.vertex_colors.max() <= 1


def test_the_figurine_lies_in_the_unit_ball_and_its_field_is_safe_to_march():
    points = torch.nn.functional.normalize(torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert figurine_distance(0.96 * points).min() > 0
    points = points * torch.rand(4000, 1, generator=torch.Generator().manual_seed(1))
    outside = points[figurine_distance(points) > 0].requires_grad_()
    (slope,) = torch.autograd.grad(figurine_distance(outside).sum(), outside)
    assert slope.norm(dim=-1).max() < 1.5


def test_the_paint_of_the_figurine_is_a_reflectance_with_many_colours():
    mesh = toy_mesh(TOYS["demo"], resolution=48)
    paint = figurine_color(mesh.vertices)
    assert 0 <= paint.min() <= paint.max() <= 1
    assert paint.std(0).min() > 0.1
