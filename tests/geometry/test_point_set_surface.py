import pytest
import torch

from shapewright.geometry.point_set_surface import PointSetSurface


def sphere(count=4000, radius=0.6):
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return radius * normals, normals


def test_offsets_near_a_sphere_are_signed_distances():
    points, normals = sphere()
    generator = torch.Generator().manual_seed(1)
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=generator), dim=-1)
    height = 0.04 * torch.rand(500, generator=generator) - 0.02
    query = PointSetSurface(points, normals)((0.6 + height)[:, None] * directions)
    assert (query.offset - height).abs().mean() < 1e-3
    assert (query.offset - height).abs().max() < 5e-3
    assert torch.allclose(query.weights.sum(-1), torch.ones(500), atol=1e-5)


def test_a_plane_is_exact_whatever_the_weights():
    generator = torch.Generator().manual_seed(2)
    points = torch.rand(300, 3, generator=generator)
    points[:, 2] = 0.25
    surface = PointSetSurface(points, torch.tensor([0.0, 0.0, 1.0]).expand(300, 3))
    asked = torch.rand(50, 3, generator=generator)
    assert torch.allclose(surface(asked).offset, asked[:, 2] - 0.25, atol=1e-6)


def test_beside_the_rim_the_distance_along_the_surface_is_told():
    axis = torch.linspace(0, 1, 41)
    points = torch.cat([torch.cartesian_prod(axis, axis), torch.zeros(41 * 41, 1)], dim=1)
    surface = PointSetSurface(points, torch.tensor([0.0, 0.0, 1.0]).expand_as(points))
    query = surface(torch.tensor([[1.2, 0.5, 0.01], [0.5, 0.5, 0.01]]))
    assert query.beside.tolist() == pytest.approx([0.2, 0.0], abs=1e-4)
    assert query.offset.tolist() == pytest.approx([0.01, 0.01], abs=1e-5)


def test_the_spacing_follows_the_density():
    axis = torch.arange(30.0)
    grid = torch.cat([torch.cartesian_prod(axis, axis), torch.zeros(900, 1)], dim=1)
    points = torch.cat([0.01 * grid, 0.02 * grid + torch.tensor([5.0, 0.0, 0.0])])
    spacing = PointSetSurface(points, torch.tensor([0.0, 0.0, 1.0]).expand_as(points)).spacing
    assert spacing[900:].median() == pytest.approx(2 * float(spacing[:900].median()), rel=0.15)


def test_one_point_is_no_surface():
    with pytest.raises(ValueError, match="at least two points"):
        PointSetSurface(torch.zeros(1, 3), torch.zeros(1, 3))
