import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometry.cameras import Cameras, intrinsic_matrices, nearest_point_to_axes
from shapewright.geometry.rotations import matrix_from_axis_angle, quaternion_from_matrix

SIZES = torch.tensor([[64, 48]] * 3)


def random_cameras(seed=0, views=3, skew=0.7):
    generator = torch.Generator().manual_seed(seed)
    R = matrix_from_axis_angle(torch.randn(views, 3, generator=generator, dtype=torch.float64))
    C = torch.randn(views, 3, 1, generator=generator, dtype=torch.float64)
    K = intrinsic_matrices(*(torch.full((views,), v, dtype=torch.float64) for v in (70.0, 75.0, 33.0, 22.5)))
    K[:, 0, 1] = skew
    return Cameras(torch.cat([R, C], dim=2), K, torch.tensor([[64, 48]] * views))


def test_the_first_pixel_of_a_centred_camera_is_half_a_pixel_from_its_corner():
    K = intrinsic_matrices(*(torch.tensor([v]) for v in (10.0, 10.0, 2.0, 1.0)))
    pose = torch.eye(4)[None, :3]
    origins, directions = Cameras(pose, K, torch.tensor([[4, 2]])).image_rays(0)
    assert origins.shape == (8, 3)
    first = torch.nn.functional.normalize(torch.tensor([(0.5 - 2) / 10, (0.5 - 1) / 10, 1.0]), dim=0)
    assert torch.allclose(directions[0], first)
    assert torch.allclose(directions[1] / directions[1, 2], torch.tensor([(1.5 - 2) / 10, (0.5 - 1) / 10, 1.0]))


def test_opencv_axes_look_forward_with_y_down():
    camera = random_cameras()
    R, C = camera.world_from_camera[0, :, :3], camera.centers[0]
    ahead, below, aside = C + R[:, 2], C + R[:, 2] + 0.1 * R[:, 1], C + R[:, 2] + 0.1 * R[:, 0]
    (u, v), depth = camera.project(ahead, 0)
    assert (float(u), float(v), float(depth)) == pytest.approx((33.0, 22.5, 1.0))
    assert camera.project(below, 0)[0][1] == pytest.approx(22.5 + 7.5)
    assert camera.project(aside, 0)[0][0] == pytest.approx(33.0 + 7.0)
    assert camera.project(C - R[:, 2], 0)[1] < 0


@given(seed=st.integers(0, 1000), skew=st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_points_along_a_ray_project_to_its_pixel(seed, skew):
    cameras = random_cameras(seed, skew=skew)
    pixels = torch.rand(20, 2, dtype=torch.float64) * 60
    origins, directions = cameras.rays(1, pixels)
    assert torch.allclose(directions.norm(dim=1), torch.ones(1, dtype=torch.float64))
    uv, depth = cameras.project(origins + 2.5 * directions, 1)
    assert torch.allclose(uv, pixels, atol=1e-9)
    assert (depth > 0).all()


def test_rays_of_many_views_at_once_are_those_of_each_view():
    cameras = random_cameras()
    pixels = torch.rand(6, 2, dtype=torch.float64) * 40
    views = torch.tensor([0, 2, 1, 1, 0, 2])
    origins, directions = cameras.rays(views, pixels)
    for i, view in enumerate(views.tolist()):
        origin, direction = cameras.rays(view, pixels[i : i + 1])
        assert torch.allclose(origins[i], origin[0])
        assert torch.allclose(directions[i], direction[0])


@pytest.mark.parametrize("factor", [1.0, 3.7, -2.0])
def test_projection_matrices_are_split_and_put_together_again(factor):
    cameras = random_cameras()
    scale_mat = torch.diag(torch.tensor([2.0, 2.0, 2.0, 1.0], dtype=torch.float64))
    scale_mat[:3, 3] = torch.tensor([1.0, -3.0, 0.5])
    shift = torch.tensor([[1.0, 0, -0.5], [0, 1, -0.5], [0, 0, 1]], dtype=torch.float64)
    P = factor * shift @ cameras.projections()
    again = Cameras.from_projection(P, None, cameras.sizes)
    assert torch.allclose(again.intrinsics, cameras.intrinsics, atol=1e-9)
    assert torch.allclose(again.world_from_camera, cameras.world_from_camera, atol=1e-9)
    normalised = Cameras.from_projection(P, scale_mat, cameras.sizes)
    expected = cameras.transformed(2.0, scale_mat[:3, 3])
    assert torch.allclose(normalised.world_from_camera, expected.world_from_camera, atol=1e-9)
    assert torch.allclose(normalised.intrinsics, cameras.intrinsics, atol=1e-5)


def test_integer_pixel_centres_of_projection_matrices_move_by_half_a_pixel():
    P = torch.tensor([[[100.0, 0, 31.5, 0], [0, 100, 23.5, 0], [0, 0, 1, 0]]])
    K = Cameras.from_projection(P, None, torch.tensor([[64, 48]])).intrinsics[0]
    assert (K[0, 2].item(), K[1, 2].item()) == (32.0, 24.0)


@pytest.mark.parametrize("bad", [torch.zeros(1, 3, 4), torch.full((1, 3, 4), math.nan)])
def test_singular_projections_are_refused(bad):
    with pytest.raises(ValueError, match="full rank"):
        Cameras.from_projection(bad, None, torch.tensor([[4, 4]]))


def test_all_constructors_build_the_same_camera():
    cameras = random_cameras(skew=0.0)
    R = cameras.world_from_camera[:, :, :3].transpose(1, 2)
    t = -(R @ cameras.centers[:, :, None])[..., 0]
    gl = torch.cat([cameras.world_from_camera, torch.zeros(3, 1, 4, dtype=torch.float64)], dim=1)
    gl[:, :3, 1:3] *= -1
    for other in (
        Cameras.from_krt(cameras.intrinsics, R, t, SIZES),
        Cameras.from_colmap(quaternion_from_matrix(R), t, cameras.intrinsics, SIZES),
        Cameras.from_opengl(gl, cameras.intrinsics, SIZES),
    ):
        assert torch.allclose(other.world_from_camera, cameras.world_from_camera, atol=1e-9)


def test_look_at_puts_the_target_in_the_middle_and_up_on_top():
    eyes = torch.tensor([[0.0, -3.0, 1.0], [4.0, 0.0, 0.0]])
    cameras = Cameras.from_look_at(eyes, torch.zeros(3), torch.tensor([0.0, 0, 1]), 60.0, SIZES[:2])
    for view in range(2):
        uv, depth = cameras.project(torch.zeros(3), view)
        assert uv.tolist() == pytest.approx([32.0, 24.0], abs=1e-4)
        assert depth.item() == pytest.approx(eyes[view].norm().item())
        assert cameras.project(torch.tensor([0.0, 0.0, 0.1]), view)[0][1] < 24.0
    edge = torch.tensor([[64.0, 24.0], [0.0, 24.0]])
    directions = cameras.rays(0, edge)[1]
    assert torch.rad2deg(torch.arccos(directions[0] @ directions[1])).item() == pytest.approx(60.0, abs=1e-3)
    with pytest.raises(ValueError, match="parallel"):
        Cameras.from_look_at(eyes, torch.zeros(3), torch.tensor([0.0, -3.0, 1.0]), 60.0, SIZES[:2])


def test_resizing_keeps_the_rays_of_the_corners():
    cameras = random_cameras()
    half = cameras.scaled(0.5)
    assert half.sizes.tolist() == [[32, 24]] * 3
    corners = torch.tensor([[0.0, 0.0], [64.0, 48.0]], dtype=torch.float64)
    assert torch.allclose(half.rays(0, corners / 2)[1], cameras.rays(0, corners)[1])


def test_moving_the_world_and_the_cameras_keeps_the_pixels():
    cameras = random_cameras()
    translation = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)
    moved = cameras.transformed(2.5, translation)
    point = torch.tensor([0.3, 0.2, 9.0], dtype=torch.float64)
    assert torch.allclose(moved.project((point - translation) / 2.5, 1)[0], cameras.project(point, 1)[0])


def test_views_are_chosen_by_number_slice_and_list():
    cameras = random_cameras()
    assert len(cameras[1]) == 1
    assert len(cameras[1:]) == 2
    assert torch.equal(cameras[[2, 0]].centers, cameras.centers[[2, 0]])
    assert len(cameras[[]]) == 0
    assert cameras.to(dtype=torch.float32).intrinsics.dtype == torch.float32


def test_strides_take_every_second_pixel_of_rows_and_columns():
    cameras = random_cameras()
    full = cameras.image_rays(0)[1].reshape(48, 64, 3)
    assert torch.allclose(cameras.image_rays(0, step=2)[1].reshape(24, 32, 3), full[::2, ::2])


def test_optical_axes_meet_at_the_point_looked_at():
    target = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    eyes = target + torch.tensor([[3.0, 0, 0], [0, 2.0, 0.5], [-1.0, 1.0, 4.0]], dtype=torch.float64)
    up = torch.tensor([0.1, 0.2, 1.0], dtype=torch.float64)
    assert torch.allclose(nearest_point_to_axes(Cameras.from_look_at(eyes, target, up, 40.0, SIZES)), target)


def test_parallel_axes_do_not_crash():
    cameras = Cameras(torch.eye(4)[None, :3].repeat(3, 1, 1), torch.eye(3).repeat(3, 1, 1), SIZES)
    assert nearest_point_to_axes(cameras).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"world_from_camera": torch.full((3, 3, 4), math.nan)}, "world_from_camera must be finite"),
        ({"intrinsics": torch.eye(3).repeat(2, 1, 1)}, "intrinsics must have shape"),
        ({"sizes": torch.ones(2, 2, dtype=torch.long)}, "sizes must have shape"),
    ],
)
def test_wrong_shapes_and_numbers_are_refused(change, message):
    cameras = random_cameras()
    fields = {name: getattr(cameras, name) for name in ("world_from_camera", "intrinsics", "sizes")} | change
    # The shape checker of the tests would speak first: call what it wraps around.
    broken = object.__new__(Cameras)
    for name, value in fields.items():
        object.__setattr__(broken, name, value)
    with pytest.raises(ValueError, match=message):
        Cameras.__post_init__(broken)
