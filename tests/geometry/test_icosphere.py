"""The template sphere, its edges, and cameras that orbit it."""

import pytest
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh_edges import edge_table
from shapewright.geometry.orbit import cameras_around, kato_ring, orbit_eyes
from shapewright.geometry.topology import is_watertight


def test_three_splits_give_the_template_of_642_vertices():
    sphere = icosphere(3, torch.float64)
    assert (sphere.num_vertices, sphere.num_faces) == (642, 1280)
    assert sphere.volume == pytest.approx(4.152741, abs=1e-6)
    assert is_watertight(sphere)
    torch.testing.assert_close(sphere.vertices.norm(dim=1), torch.ones(642, dtype=torch.float64))
    degrees = torch.bincount(edge_table(sphere.faces)[:, :2].flatten())
    assert torch.bincount(degrees).tolist() == [0, 0, 0, 0, 0, 12, 630]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_coordinate_planes_mirror_the_template_exactly(axis):
    vertices = icosphere(3).vertices
    mirror = torch.ones(3)
    mirror[axis] = -1
    rows = {tuple(row) for row in (vertices + 0.0).tolist()}
    assert {tuple(row) for row in (vertices * mirror + 0.0).tolist()} == rows
    assert [int((vertices[:, axis] * sign > 0).sum()) for sign in (1, -1)] == [305, 305]


def test_edges_know_both_faces():
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]])
    assert edge_table(faces).tolist() == [[0, 1, 2, -1], [0, 2, 1, -1], [1, 2, 0, 3], [1, 3, 2, -1], [2, 3, 1, -1]]
    assert edge_table(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 4)
    table = edge_table(icosphere(3).faces)
    assert table.shape == (1920, 4)
    assert int(table.min()) >= 0


@pytest.mark.parametrize(
    ("view", "pixel", "depth", "eye"),
    [
        (0, (26.965601, 30.831764), 2.372192, (2.365981, 1.366, 0)),
        (6, (46.075479, 26.219432), 2.545397, (0, 1.366, 2.365981)),
        (2, (35.203150, 31.075330), 2.363699, (2.049, 1.366, 1.182991)),
    ],
)
def test_the_ring_projects_as_published(view, pixel, depth, eye):
    ring = kato_ring(64)
    found, z = ring.project(torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64), view)
    assert found[0].tolist() == pytest.approx(pixel, abs=1e-6)
    assert float(z) == pytest.approx(depth, abs=1e-6)
    assert ring.centers[view].tolist() == pytest.approx(eye, abs=1e-6)


def test_a_camera_of_the_second_set_projects_as_published():
    camera = cameras_around(orbit_eyes(2.0, [20.0], [-40.0]), 64, 14.931417)
    assert float(camera.intrinsics[0, 0, 0]) == pytest.approx(120, abs=1e-4)
    found, z = camera.project(torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64), 0)
    assert found[0].tolist() == pytest.approx((13.795, 23.127089), abs=1e-4)
    assert float(z) == pytest.approx(1.776044, abs=1e-6)


def test_cameras_look_straight_down_and_refuse_the_origin():
    camera = cameras_around(torch.tensor([[0.0, 3.0, 0.0]]), 8, 20.0)
    rotation = camera.world_from_camera[0, :, :3]
    torch.testing.assert_close(rotation @ rotation.T, torch.eye(3))
    assert camera.forward[0].tolist() == [0, -1, 0]
    with pytest.raises(ValueError, match="eyes must not be the origin"):
        cameras_around(torch.zeros(1, 3), 8, 20.0)
