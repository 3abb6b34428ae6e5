import pytest
import torch

from shapewright.data.partial_views import ScanView, front_view_scan
from shapewright.errors import UserError
from shapewright.geometry.free_space import FREE, HIDDEN, observe
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.poisson import poisson_mesh


def ball(radius=0.6):
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(4000, 3, generator=generator), dim=-1)
    return poisson_mesh(radius * normals, normals, 48)


@pytest.mark.parametrize(("azimuth_deg", "towards"), [(0.0, (0.0, 1.0)), (90.0, (1.0, 0.0)), (180.0, (0.0, -1.0))])
def test_the_camera_sees_the_half_that_faces_it(azimuth_deg, towards):
    scan = front_view_scan(ball(), ScanView(azimuth_deg=azimuth_deg, elevation_deg=0.0), 2000)
    x, z = scan.points[:, 0], scan.points[:, 2]
    side = towards[0] * x + towards[1] * z
    assert scan.num_points == 2000
    assert side.min() > 0.09  # a ball of radius r at distance d is seen down to r^2 / d = .12
    assert torch.allclose(scan.points.norm(dim=-1), torch.tensor(0.6), atol=0.01)
    assert ((scan.normals * scan.points).sum(-1) > 0).all()
    assert (scan.normals * (scan.camera_center - scan.points)).sum(-1).min() >= 0


def test_normals_face_the_camera_even_if_triangles_do_not():
    mesh = ball()
    turned = Mesh(mesh.vertices, mesh.faces.flip(1))
    scan = front_view_scan(turned, ScanView(), 500)
    assert ((scan.normals * (scan.camera_center - scan.points)).sum(-1) > 0).all()
    assert torch.allclose(scan.points, front_view_scan(mesh, ScanView(), 500).points, atol=1e-5)


def test_an_elevated_camera_looks_from_above():
    center = front_view_scan(ball(), ScanView(elevation_deg=30.0), 10).camera_center
    assert center.norm() == pytest.approx(3.0)
    assert center[1] == pytest.approx(1.5)


def test_the_picture_holds_the_unit_sphere_and_its_rays():
    scan = front_view_scan(ball(), ScanView(size_px=64), 100)
    edge = torch.tensor([[0.99, 0.0, 0.0], [-0.99, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert observe(scan.view, edge)[0].tolist() == [FREE, FREE, HIDDEN]
    rays = scan.free_rays
    assert rays.hits.sum() == scan.view.lengths.isfinite().sum()
    assert (~rays.hits).sum() > 1000


def test_fewer_hits_than_points_give_them_all():
    scan = front_view_scan(ball(), ScanView(size_px=32), 5000)
    assert scan.num_points == int(scan.view.lengths.isfinite().sum())


def test_noise_moves_points_along_their_rays():
    exact = front_view_scan(ball(), ScanView(), 4000, torch.Generator().manual_seed(1))
    noisy = front_view_scan(ball(), ScanView(depth_noise=0.01), 4000, torch.Generator().manual_seed(1))
    error = noisy.hit_distances - exact.hit_distances
    assert error.std() == pytest.approx(0.01, rel=0.1)
    direction = torch.nn.functional.normalize(exact.points - exact.camera_center, dim=-1)
    assert torch.allclose(noisy.points - exact.points, error[:, None] * direction, atol=1e-5)


def test_a_camera_that_sees_nothing_is_named():
    far = Mesh(ball().vertices + 20.0, ball().faces)
    with pytest.raises(UserError, match="sees nothing"):
        front_view_scan(far, ScanView())
    with pytest.raises(ValueError, match="distance must exceed 1"):
        ScanView(distance=0.5).camera()
