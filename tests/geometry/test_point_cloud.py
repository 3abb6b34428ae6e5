import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.geometry.point_cloud import (
    PointCloud,
    estimate_normals,
    nearest_neighbours,
    point_spacing,
    remove_outliers,
    unique_points,
    voxel_downsample,
)


def sphere(count, seed=0, radius=1.0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1) * radius


def test_neighbours_equal_those_of_all_distances():
    points, queries = sphere(60), sphere(20, seed=1)
    distances, indices = nearest_neighbours(points, queries, 4)
    expected = torch.cdist(queries.double(), points.double()).sort(dim=1)
    assert torch.equal(indices, expected.indices[:, :4])
    torch.testing.assert_close(distances.double(), expected.values[:, :4], atol=1e-6, rtol=1e-5)


def test_neighbours_are_as_many_as_there_are():
    distances, indices = nearest_neighbours(torch.eye(3), torch.zeros(1, 3), 10)
    assert distances.shape == indices.shape == (1, 3)
    assert nearest_neighbours(torch.eye(3), torch.zeros(0, 3), 1)[0].shape == (0, 1)
    with pytest.raises(ValueError, match="no point"):
        nearest_neighbours(torch.zeros(0, 3), torch.zeros(1, 3), 1)


def test_spacing_is_the_side_of_a_point_s_share_of_the_surface():
    points = sphere(20_000)
    area = float(point_spacing(points).square().mean()) * 20_000
    assert area == pytest.approx(4 * math.pi, rel=0.03)
    with pytest.raises(ValueError, match="One point"):
        point_spacing(torch.zeros(1, 3))


def test_normals_of_a_sphere_are_its_radii():
    points = sphere(3000, radius=2.0)
    normals, deviation = estimate_normals(points)
    cosine = (normals * points / 2.0).sum(1).abs()
    assert cosine.min() > 0.95
    assert cosine.mean() > 0.999
    assert deviation.median() < 0.02


def test_the_deviation_from_the_plane_measures_noise():
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(4000, 3, generator=generator) * torch.tensor([1.0, 1.0, 0.0])
    noisy = points + torch.tensor([0.0, 0.0, 0.01]) * torch.randn(4000, 1, generator=generator)
    assert estimate_normals(points)[1].max() < 1e-6
    assert float(estimate_normals(noisy, 32)[1].median()) == pytest.approx(0.01, rel=0.15)


@given(size=st.floats(0.05, 5.0), seed=st.integers(0, 100))
def test_thinning_keeps_one_point_a_cube_and_the_mean_of_all(size, seed):
    cloud = PointCloud(sphere(200, seed), sphere(200, seed), torch.rand(200, 3, generator=torch.Generator()))
    thin = voxel_downsample(cloud, size)
    lowest = cloud.points.amin(0)
    cells = ((cloud.points - lowest).double() / size).floor()
    assert thin.num_points == len(cells.unique(dim=0))
    assert thin.bounds[0].ge(lowest - 1e-6).all()
    if thin.num_points == 1:
        torch.testing.assert_close(thin.points[0], cloud.points.mean(0), atol=1e-5, rtol=0)


def test_thinning_takes_the_mean_of_normals_and_colours():
    normals = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    colors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    thin = voxel_downsample(PointCloud(torch.zeros(2, 3), normals, colors), 1.0)
    torch.testing.assert_close(thin.normals, torch.tensor([[0.5**0.5, 0.5**0.5, 0.0]]))
    torch.testing.assert_close(thin.colors, torch.tensor([[0.5, 0.0, 0.5]]))
    with pytest.raises(ValueError, match="size"):
        voxel_downsample(thin, 0.0)


def test_outliers_go_and_the_surface_stays():
    outliers = sphere(30, seed=3, radius=1.6)
    cloud = PointCloud(torch.cat([sphere(3000), outliers]))
    kept, stays = remove_outliers(cloud)
    assert not stays[3000:].any()
    assert stays[:3000].float().mean() > 0.995
    assert kept.num_points == int(stays.sum())


def test_a_denser_half_is_no_outlier():
    dense, sparse = sphere(9000), sphere(1000, seed=1)
    points = torch.cat([dense[dense[:, 0] > 0], sparse[sparse[:, 0] < 0]])
    assert remove_outliers(PointCloud(points))[1].float().mean() > 0.98


def test_one_of_equal_points_is_kept_in_order():
    points = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    cloud = unique_points(PointCloud(points, colors=torch.eye(3)))
    torch.testing.assert_close(cloud.points, points[:2])
    torch.testing.assert_close(cloud.colors, torch.eye(3)[:2])


def test_a_moved_cloud_keeps_its_normals():
    cloud = PointCloud(torch.eye(3), torch.eye(3))
    moved = cloud.transformed(2.0, torch.tensor([1.0, 0.0, 0.0]))
    torch.testing.assert_close(moved.points[0], torch.tensor([3.0, 0.0, 0.0]))
    torch.testing.assert_close(moved.normals, cloud.normals)
    with pytest.raises(ValueError, match="scale"):
        cloud.transformed(-1.0, torch.zeros(3))


@pytest.mark.parametrize(
    "arguments",
    [(torch.zeros(2, 2),), (torch.tensor([[math.nan, 0, 0]]),), (torch.zeros(2, 3), torch.zeros(1, 3))],
    ids=["two columns", "not a number", "too few normals"],
)
def test_a_wrong_cloud_is_refused(arguments):
    with pytest.raises(Exception, match=r"shape|finite|type"):
        PointCloud(*arguments)


def test_an_empty_cloud_has_no_bounds():
    with pytest.raises(ValueError, match="no bounds"):
        _ = PointCloud(torch.zeros(0, 3)).bounds
