import math

import pytest
import torch
from scipy.spatial.transform import Rotation

from shapewright.geometry.pose_bins import (
    UNSEEN,
    bin_table,
    count_view_bins,
    euler_angles_yzx,
    euler_bins,
    flipped_rotation,
    renumbered,
    view_bins,
)


def random_rotations(count=500, seed=0):
    return torch.from_numpy(Rotation.random(count, random_state=seed).as_matrix())


@pytest.mark.parametrize(
    ("azimuth", "elevation", "wide", "narrow"),
    [(-180, -20, 0, 0), (0, 0, 37, 74), (40, 20, 44, 88), (180, 40, 71, 143)],
)
def test_view_bins_have_the_published_values(azimuth, elevation, wide, narrow):
    angles = torch.tensor(float(azimuth)), torch.tensor(float(elevation))
    assert view_bins(*angles, 15, 20) == wide
    assert view_bins(*angles, 15, 10) == narrow


@pytest.mark.parametrize(("widths", "total"), [((15, 20), 72), ((15, 10), 144), ((20, 15), 72)])
def test_there_are_as_many_view_bins_as_published(widths, total):
    assert math.prod(count_view_bins(*widths)) == total
    azimuth, elevation = torch.rand(20000, 2).mul(torch.tensor([360.0, 60.0])).sub(torch.tensor([180.0, 20.0])).T
    assert view_bins(azimuth, elevation, *widths).unique().tolist() == list(range(total))


def test_azimuths_beyond_the_circle_are_counted_around_it():
    inside = torch.tensor([-170.0, 170.0, 10.0])
    for turn in (-360, 360):
        assert torch.equal(view_bins(inside + turn, torch.zeros(3)), view_bins(inside, torch.zeros(3)))


@pytest.mark.parametrize("widths", [(0, 20), (15, 0), (400, 20), (math.nan, 20)])
def test_bins_without_a_width_are_errors(widths):
    with pytest.raises(ValueError, match="bin_deg"):
        count_view_bins(*widths)


def test_euler_angles_are_those_of_scipy():
    rotations = random_rotations()
    expected = torch.from_numpy(Rotation.from_matrix(rotations.numpy()).as_euler("yzx", degrees=True))
    assert torch.allclose(euler_angles_yzx(rotations), expected, atol=1e-9)


def test_euler_angles_give_the_rotation_back_where_two_axes_meet():
    angles = [[30.0, 90.0, 0.0], [-50.0, -90.0, 20.0]]
    rotations = torch.from_numpy(Rotation.from_euler("yzx", angles, degrees=True).as_matrix())
    found = euler_angles_yzx(rotations)
    again = Rotation.from_euler("yzx", found.numpy(), degrees=True).as_matrix()
    assert torch.allclose(torch.from_numpy(again), rotations, atol=1e-7)
    assert torch.allclose(found[:, 2], torch.zeros(2, dtype=torch.float64))


def test_the_identity_is_in_bin_292():
    assert euler_bins(torch.eye(3)) == 292


def test_at_most_256_euler_bins_occur_and_a_half_turn_is_one_whichever_way():
    assert len(euler_bins(random_rotations(20000)).unique()) == 256
    turns = torch.from_numpy(Rotation.from_euler("y", [[180], [-180], [540]], degrees=True).as_matrix())
    assert euler_bins(turns).tolist() == [36, 36, 36]


def test_a_flipped_picture_shows_a_mirrored_object_turned_the_flipped_way():
    rotations, point = random_rotations(20), torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    mirrored = point * torch.tensor([1.0, 1.0, -1.0])
    flipped = flipped_rotation(rotations)
    assert torch.allclose(torch.linalg.det(flipped), torch.ones(20, dtype=torch.float64))
    assert torch.allclose(flipped @ mirrored, (rotations @ point) * torch.tensor([-1.0, 1.0, 1.0]))
    assert torch.allclose(flipped_rotation(flipped), rotations)


def test_bins_are_renumbered_in_increasing_order_by_the_table_of_training():
    table = bin_table(torch.tensor([[7], [3], [7], [100]]))
    assert table.tolist() == [3, 7, 100]
    assert renumbered(torch.tensor([100, 3, 7]), table).tolist() == [2, 0, 1]
    assert renumbered(torch.tensor([0, 4, 101]), table).tolist() == [UNSEEN] * 3
