import math

import pytest
import torch

from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.poisson import (
    Lattice,
    mesh_from_lattice,
    point_areas,
    poisson_indicator,
    poisson_mesh,
    sample_lattice,
    trim_mesh,
)
from shapewright.geometry.topology import count_components, is_watertight

RADIUS = 0.7


def sphere(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return RADIUS * normals, normals


def ball_volume(radius):
    return 4 / 3 * math.pi * radius**3


@pytest.mark.parametrize(("count", "resolution"), [(2000, 64), (5000, 128)])
def test_a_sphere_is_closed_looks_outwards_and_has_its_volume(count, resolution):
    mesh = poisson_mesh(*sphere(count), resolution)
    assert is_watertight(mesh)
    assert count_components(mesh) == 1
    assert mesh.volume == pytest.approx(ball_volume(RADIUS), rel=0.002)
    assert (mesh.vertices.norm(dim=-1) - RADIUS).abs().mean() < 0.003


def test_the_volume_does_not_depend_on_where_points_are_dense():
    points, normals = sphere(12_000)
    kept = (points[:, 0] < 0) | (torch.arange(len(points)) % 6 == 0)
    mesh = poisson_mesh(points[kept], normals[kept], 64)
    assert mesh.volume == pytest.approx(ball_volume(RADIUS), rel=0.01)


def test_a_moved_and_scaled_cloud_gives_the_moved_and_scaled_mesh():
    points, normals = sphere(1500)
    points, normals = points.double(), normals.double()
    shift = torch.tensor([0.31, -2.0, 5.0], dtype=torch.float64)
    mesh = poisson_mesh(points, normals, 48)
    moved = poisson_mesh(3.0 * points + shift, normals, 48)
    assert torch.equal(moved.faces, mesh.faces)
    assert torch.allclose(moved.vertices, 3.0 * mesh.vertices + shift, atol=1e-6)


def test_a_shift_below_the_lattice_keeps_the_volume():
    points, normals = sphere(5000)
    lattice = Lattice(torch.full((3,), -1.0), 2 / 63, (64, 64, 64))
    areas = point_areas(points)
    volumes = []
    for shift in (0.0, 0.3, 0.5, 0.8):
        moved = points + shift * lattice.spacing
        volumes.append(mesh_from_lattice(0.5 - poisson_indicator(moved, normals, areas, lattice), lattice).volume)
    assert max(volumes) / min(volumes) < 1.001


def test_the_indicator_is_one_inside_and_zero_outside():
    points, normals = sphere(20_000)
    lattice = Lattice.around(points, 64)
    areas = torch.full((len(points),), 4 * math.pi * RADIUS**2 / len(points))
    chi = poisson_indicator(points, normals, areas, lattice)
    asked = torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.2, -0.3], [0.0, 0.9, 0.0], [-0.6, 0.6, 0.6]])
    assert torch.allclose(sample_lattice(chi, asked, lattice), torch.tensor([1.0, 1.0, 0.0, 0.0]), atol=0.03)
    assert sample_lattice(chi, points, lattice).mean() == pytest.approx(0.5, abs=0.03)


def test_it_is_differentiable_in_points_normals_and_areas():
    generator = torch.Generator().manual_seed(3)
    points = (torch.rand(5, 3, generator=generator, dtype=torch.float64) + 0.5).requires_grad_()
    normals = torch.randn(5, 3, generator=generator, dtype=torch.float64).requires_grad_()
    areas = (torch.rand(5, generator=generator, dtype=torch.float64) + 0.1).requires_grad_()
    lattice = Lattice(torch.zeros(3, dtype=torch.float64), 0.3, (8, 6, 10))

    def indicator(p, n, a):
        return poisson_indicator(p, n, a, lattice)

    assert torch.autograd.gradcheck(indicator, (points, normals, areas))


def test_areas_of_neighbours_add_up_to_the_surface():
    points, _ = sphere(4000)
    assert float(point_areas(points).sum()) == pytest.approx(4 * math.pi * RADIUS**2, rel=0.03)


def test_an_open_sheet_is_closed_behind():
    grid = torch.linspace(-0.5, 0.5, 60)
    points = torch.cat([torch.cartesian_prod(grid, grid), torch.zeros(3600, 1)], dim=1)
    normals = torch.tensor([0.0, 0.0, 1.0]).expand(3600, 3)
    mesh = poisson_mesh(points, normals, 96)
    assert is_watertight(mesh)
    assert mesh.volume > 0


def test_normals_that_point_inwards_are_named():
    points, normals = sphere(2000)
    with pytest.raises(UserError, match="enclose nothing"):
        poisson_mesh(points, -normals, 48)


def test_too_few_points_are_named():
    points, normals = sphere(3)
    with pytest.raises(UserError, match="3 points do not span"):
        poisson_mesh(points, normals)


def test_points_outside_of_the_lattice_are_refused():
    lattice = Lattice(torch.zeros(3), 0.1, (8, 8, 8))
    with pytest.raises(ValueError, match="inside the lattice"):
        poisson_indicator(torch.ones(1, 3), torch.ones(1, 3), torch.ones(1), lattice)


def test_trimming_keeps_what_is_near_a_point():
    mesh = poisson_mesh(*sphere(2000), 48)
    points, _ = sphere(20_000)
    half = trim_mesh(mesh, points[points[:, 2] > 0], distance=0.05)
    assert half.vertices[:, 2].min() > -0.06
    assert half.area == pytest.approx(mesh.area / 2, rel=0.1)
    assert trim_mesh(mesh, points, distance=0.05).num_faces == mesh.num_faces
    assert isinstance(trim_mesh(mesh, points + 5.0), Mesh)
    assert trim_mesh(mesh, points + 5.0).num_faces == 0
