import pytest
import torch

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.scan_distance import ScanDistance
from shapewright.geometry.signed_distance import signed_distance
from tests.geometry.messy import box, points_of, ring, turned, unit

NEAR = 0.005**0.5


@pytest.fixture(scope="module")
def scan():
    return ScanDistance(unit(ring()), NEAR, views=30, resolution=150)


def test_a_closed_mesh_is_scanned_about_right(scan):
    points = points_of(unit(ring()), 3000)
    sdf, agreed = scan(points)
    exact = signed_distance(points, unit(ring()), "winding")
    assert float(agreed.double().mean()) > 0.98
    assert bool(((sdf < 0) == (exact < 0))[agreed].all())
    error = (sdf.abs() - exact.abs()).abs()
    assert float(error.median()) < 1e-4
    assert float(error.quantile(0.99)) < 0.03
    assert scan.bad_triangles == scan.wrong_share == 0


def test_what_is_seen_lies_on_the_surface_and_looks_at_a_camera(scan):
    assert float(signed_distance(scan.positions[::97], unit(ring()), "unsigned").max()) < 1e-5
    assert torch.allclose(scan.normals.norm(dim=1), torch.ones(len(scan.normals)), atol=1e-5)


def test_the_direction_of_triangles_does_not_matter(scan):
    other = ScanDistance(turned(unit(ring()), 0.5), NEAR, views=30, resolution=150)
    points = points_of(unit(ring()), 500)
    assert torch.allclose(scan(points)[0], other(points)[0], atol=1e-5)


def test_a_mesh_that_is_seen_from_both_sides_is_noticed():
    open_box = unit(Mesh(box().vertices, box().faces[2:]))
    scan = ScanDistance(open_box, NEAR, views=30, resolution=100)
    assert scan.bad_triangles > 0.5
    assert scan.wrong_share > 0.5
    assert float(scan(points_of(open_box, 1000))[1].double().mean()) < 0.95


def test_far_from_the_surface_the_distance_is_that_to_a_seen_point(scan):
    point = torch.tensor([[0.0, 0.0, 0.9]])
    sdf, agreed = scan(point)
    assert float(sdf) == pytest.approx(float((scan.positions - point).norm(dim=1).min()), rel=1e-6)
    assert bool(agreed)
    assert scan(point[:0])[0].shape == (0,)


def test_a_mesh_that_nobody_sees_is_refused():
    speck = Mesh(box().vertices * 1e-6, box().faces)
    with pytest.raises(ValueError, match="nothing to scan"):
        ScanDistance(speck, NEAR, views=4, resolution=50)
