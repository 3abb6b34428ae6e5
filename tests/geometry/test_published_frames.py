import math

import numpy as np
import pytest
import torch

from shapewright.geometry.orbit import cameras_around, kato_ring
from shapewright.geometry.published_frames import (
    eye_of_view,
    mesh_from_frame,
    orthographic_pose,
    world_from_frame,
)
from shapewright.geometry.solid_voxels import world_axes
from shapewright.rendering.projections import ParallelViews, project_perspective

SIZE = 64


def published_pixels(points, distance, elevation_deg, azimuth_deg, half_angle_deg):
    """Project as the published renderer does: its frame is left-handed, its picture has y up, rows are turned over."""
    e, a = math.radians(elevation_deg), math.radians(azimuth_deg)
    eye = distance * np.array([math.cos(e) * math.sin(a), math.sin(e), -math.cos(e) * math.cos(a)])
    z = -eye / np.linalg.norm(eye)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    y = np.cross(z, x)
    local = (points - eye) @ np.stack([x, y, z], axis=1)
    screen = local[:, :2] / local[:, 2:] / math.tan(math.radians(half_angle_deg))
    return np.stack([SIZE / 2 * (screen[:, 0] + 1), SIZE / 2 * (1 - screen[:, 1])], axis=1)


def our_pixels(points, cameras):
    return project_perspective(torch.from_numpy(points), cameras)[0, :, :2].numpy()


def cloud(seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (50, 3))


@pytest.mark.parametrize("view", range(24))
def test_kato_pictures_are_those_of_the_published_camera(view):
    theirs = cloud(view)
    ours = theirs @ world_from_frame("kato").numpy().T
    expected = published_pixels(theirs, 2.732, 30, -15 * view, 15)
    assert abs(our_pixels(ours, kato_ring(SIZE)[view]) - expected).max() < 1e-9


@pytest.mark.parametrize(("frame", "turn_deg"), [("lsm", 0), ("vpl", 90)])
def test_lsm_pictures_are_those_of_the_published_camera(frame, turn_deg):
    random = np.random.default_rng(5)
    half_angle_deg = math.degrees(math.atan(16 / 60))
    for _ in range(10):
        distance, elevation, azimuth = random.uniform((1.8, -20, -180), (2.6, 40, 180))
        theirs = random.uniform(-0.5, 0.5, (50, 3))
        ours = theirs @ world_from_frame(frame).numpy().T
        eye = eye_of_view(*torch.tensor([[distance], [elevation], [azimuth]], dtype=torch.float64))
        expected = published_pixels(theirs, distance, elevation, azimuth + turn_deg, half_angle_deg)
        assert abs(our_pixels(ours, cameras_around(eye, SIZE, half_angle_deg)) - expected).max() < 1e-9


def test_an_lsm_camera_has_the_values_worked_out_by_hand():
    eye = eye_of_view(*torch.tensor([[2.0], [20.0], [40.0]], dtype=torch.float64))
    camera = cameras_around(eye, SIZE, math.degrees(math.atan(16 / 60)))
    pose = torch.tensor([[-0.642788, 0, -0.766044], [0.262003, -0.939693, -0.219846], [-0.719846, -0.342020, 0.604023]])
    assert torch.allclose(camera.world_from_camera[0, :, :3].T.float(), pose, atol=1e-6)
    assert torch.allclose(eye.float(), torch.tensor([[1.439693, 0.684040, -1.208046]]), atol=1e-6)
    screen = project_perspective(torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64), camera)[0, 0]
    assert torch.allclose(screen.float(), torch.tensor([13.795, 23.127089, 1.776044]), atol=1e-5)
    assert abs(float(camera.intrinsics[0, 0, 0]) - 120) < 1e-9


def random_rotations(count, seed=0):
    q, _ = torch.linalg.qr(torch.randn(count, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    return q * torch.linalg.det(q)[:, None, None]


def test_pascal3d_pictures_are_those_of_the_published_camera():
    rotation, points = random_rotations(5), cloud()
    pose = orthographic_pose(rotation)
    world_from_camera, eye = pose[:, :, :3], pose[:, :, 3]
    assert torch.allclose(torch.linalg.det(world_from_camera), torch.ones(5, dtype=torch.float64))
    ours = ParallelViews.orthographic(world_from_camera.transpose(1, 2)).project(torch.from_numpy(points), SIZE)
    for number, R in enumerate(rotation.numpy()):
        theirs = points @ (np.diag([-1, 1, 1]) @ R).T + [0, 0, 1 + 1e-5]
        expected = np.stack([SIZE / 2 * (theirs[:, 0] + 1), SIZE / 2 * (1 - theirs[:, 1])], axis=1)
        assert abs(ours[number, :, :2].numpy() - expected).max() < 1e-9
        depth = (points - eye[number].numpy()) @ world_from_camera[number, :, 2].numpy()
        assert abs(depth - theirs[:, 2]).max() < 1e-12


@pytest.mark.parametrize(("frame", "handedness"), [("kato", -1), ("lsm", -1), ("vpl", -1), ("pascal3d", 1)])
def test_only_mirrored_frames_turn_faces_over(frame, handedness):
    A = world_from_frame(frame)
    assert torch.allclose(A @ A, torch.eye(3, dtype=torch.float64))
    assert torch.linalg.det(A) == handedness
    corners = torch.eye(4, 3, dtype=torch.float64)
    faces = torch.tensor([[2, 1, 0], [0, 1, 3], [1, 2, 3], [2, 0, 3]])

    def volume(vertices, faces):
        a, b, c = vertices[faces].unbind(1)
        return float((a * torch.linalg.cross(b, c)).sum() / 6)

    vertices, turned = mesh_from_frame(corners, faces, frame)
    assert volume(vertices, turned) == pytest.approx(volume(corners, faces))
    again, back = mesh_from_frame(vertices, turned, frame)
    assert torch.equal(back, faces)
    assert torch.allclose(again, corners)


def test_published_alignments_of_predictions_are_the_same_axes():
    """A grid P of the published frame, aligned as its evaluation does, is what our axes say of the turned object."""
    cells = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), axis=-1)
    P = np.random.default_rng(0).random((32, 32, 32)) < 0.5
    for frame, axes, stored in (
        ("kato", "kato", lambda a, b, c: P[b, a, 31 - c]),
        ("lsm", "lsm_original", lambda a, b, c: P[c, b, 31 - a]),
        ("vpl", "vpl", lambda a, b, c: P[a, b, 31 - c]),
        ("pascal3d", "pascal3d", lambda a, b, c: P[31 - a, 31 - c, 31 - b]),
    ):
        A = world_from_frame(frame).numpy()
        # Cell i is at i - 15.5 from the middle; the world's cell comes from the published one through A.
        world = np.zeros_like(P)
        i, j, k = np.rint((cells - 15.5) @ A.T + 15.5).astype(int).reshape(-1, 3).T
        world[i, j, k] = P.reshape(-1)
        gt = stored(*np.moveaxis(cells, -1, 0))
        assert np.array_equal(world_axes(gt, axes), world), frame
