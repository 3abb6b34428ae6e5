import logging
import os

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shapewright.data.pascal3d import (
    MARGIN,
    moved_boxes,
    pascal_table,
    plain_crops,
    read_pascal_class,
    varied,
    wide_crop,
)
from shapewright.data.prepared_pictures import BinWidths
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable, euler_bins, flipped_rotation
from tests.data.picture_files import write_pascal


def test_the_exact_format_is_read(tmp_path):
    train, more = write_pascal(tmp_path), write_pascal(tmp_path, kind="imagenet", count=3, seed=1)
    table = pascal_table(tmp_path, "car")
    arrays = read_pascal_class(tmp_path, "car", "train", 64, table)
    assert arrays.images.shape == (7, 1, 3, 64, 64)
    assert arrays.targets.shape == (7, 1, 64, 64)
    assert arrays.half_angle_deg is None
    assert arrays.ids[0] == "car_train_00000"
    assert arrays.ids[6] == "car_imagenet_00002"
    R = torch.from_numpy(np.concatenate([train["rotation_matrices"], more["rotation_matrices"]]))
    assert arrays.num_bins == len(table) == len(euler_bins(R).unique())
    assert torch.equal(torch.from_numpy(arrays.pose_bins[:, 0]), euler_bins(R))
    assert torch.equal(table[arrays.picture_set("car", BinWidths()).pose_bins[:, 0]], euler_bins(R))
    i, j, k = 3, 20, 9
    assert (arrays.voxels[:4, 31 - i, 31 - k, 31 - j] == train["voxels"][:, i, j, k]).all()
    mask = train["images_ref"][..., 3]
    assert abs(arrays.targets[:4].mean() - mask.mean()) < 1


def test_the_table_of_training_holds_for_validation_and_its_new_poses_have_no_bin(tmp_path):
    turns = Rotation.from_euler("y", [[10], [100], [190], [10]], degrees=True).as_matrix()
    write_pascal(tmp_path, rotation_matrices=turns)
    seen = Rotation.from_euler("y", [[100], [280]], degrees=True).as_matrix()
    write_pascal(tmp_path, kind="val", count=2, rotation_matrices=seen)
    table = pascal_table(tmp_path, "car")
    assert len(table) == 3
    for split in ("val", "test"):
        pictures = read_pascal_class(tmp_path, "car", split, 32, table).picture_set("car", BinWidths())
        assert pictures.pose_bins.ravel().tolist() == [2, -1]
        assert pictures.bin_table == BinTable(euler_bins=tuple(table.tolist()))


def test_flipped_pictures_have_the_bin_of_their_pose(tmp_path):
    pack = write_pascal(tmp_path, count=40)
    table = pascal_table(tmp_path, "car")
    arrays = read_pascal_class(tmp_path, "car", "train", 16, table)
    flipped = euler_bins(flipped_rotation(torch.from_numpy(pack["rotation_matrices"])))
    expected = [int((table == number).nonzero()) if number in table else -1 for number in flipped]
    assert arrays.extras["flipped_bins"].tolist() == expected
    assert -1 in expected


def ramp(width=200, height=100):
    return np.repeat(np.arange(width, dtype=np.uint8)[None, :, None], height, 0).repeat(3, 2)


def test_a_wide_crop_has_room_for_the_farthest_moved_sides():
    box = np.array([80.0, 40.0, 40.0, 20.0])
    crop, share = wide_crop(ramp(), box, 160)
    assert np.allclose(share, [MARGIN / 1.6, MARGIN / 1.6, 1 - MARGIN / 1.6, 1 - MARGIN / 1.6])
    assert abs(int(crop[0, 0, 0]) - 68) <= 1
    assert abs(int(crop[0, 0, -1]) - 131) <= 1
    farthest = moved_boxes(torch.from_numpy(share)[None], torch.full((1, 4), 0.15))
    assert torch.allclose(farthest, torch.tensor([[0.0, 0, 1, 1]]), atol=1e-6)


def test_crops_are_clipped_to_the_photograph():
    crop, share = wide_crop(ramp(), np.array([-10.0, 0.0, 40.0, 100.0]), 64)
    assert crop.shape == (3, 64, 64)
    assert share[0] < 0
    picture = plain_crops(torch.from_numpy(crop)[None], torch.from_numpy(share)[None], 32)[0, 0, 0]
    # The padded box ends at 36; it begins where the photograph does.
    assert abs(float(picture[0]) - 0.1) < 1
    assert abs(float(picture[-1]) - 35) < 1.5


def test_the_plain_crop_is_the_box_padded_by_15_percent():
    crop, share = wide_crop(ramp(), np.array([80.0, 40.0, 40.0, 20.0]), 160)
    picture = plain_crops(torch.from_numpy(crop)[None], torch.from_numpy(share)[None], 52)[0, 0, 0].float()
    expected = 74 + torch.arange(52) + 0.5 - 0.5
    assert (picture - expected).abs().max() < 1.01


def test_varied_pictures_move_their_sides_and_flip_with_their_bins():
    count = 200
    crop, share = wide_crop(ramp(), np.array([80.0, 40.0, 40.0, 20.0]), 160)
    crops, boxes = torch.from_numpy(crop).expand(count, -1, -1, -1), torch.from_numpy(share).expand(count, 4)
    bins = torch.tensor([[5, 7], [5, -1]]).repeat(count // 2, 1)
    pictures, found = varied(crops, boxes, bins, 32, torch.Generator().manual_seed(0))
    again, _ = varied(crops, boxes, bins, 32, torch.Generator().manual_seed(0))
    assert torch.equal(pictures, again)
    left, right = 255 * pictures[:, 0, 0, 0], 255 * pictures[:, 0, 0, -1]
    is_flipped = left > right
    assert torch.equal(found, torch.where(is_flipped, 7, 5))
    assert not is_flipped[1::2].any()
    assert 30 < int(is_flipped.sum()) < 70
    low, high = torch.minimum(left, right), torch.maximum(left, right)
    # The sides move by up to 6 pixels around 74 and 126.
    assert low.min() > 67.5
    assert low.max() < 82
    assert low.std() > 2
    assert high.min() > 118
    assert high.max() < 133


def test_pictures_without_a_box_are_left_out_with_a_warning(tmp_path, caplog):
    boxes = np.array([[20.0, 15, 25, 30], [20, 15, 0, 30], [500, 500, 10, 10], [np.nan, 0, 10, 10]])
    write_pascal(tmp_path, bounding_boxes=boxes)
    with caplog.at_level(logging.WARNING):
        arrays = read_pascal_class(tmp_path, "car", "train", 32, pascal_table(tmp_path, "car"))
    assert arrays.ids == ("car_train_00000",)
    assert "3 of 4 pictures" in caplog.text


class Attack:
    def __reduce__(self):
        return os.system, ("true",)


def attacked():
    photographs = np.empty(4, dtype=object)
    photographs[:] = [Attack()] * 4
    return photographs


def badly_sized():
    photographs = np.empty(4, dtype=object)
    photographs[:] = [np.zeros((5, 5, 2), np.uint8)] * 4
    return photographs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": attacked()}, "system"),
        ({"images": badly_sized(), "bounding_boxes": np.tile([0.0, 0, 5, 5], (4, 1))}, r"photograph uint8 \[5, 5, 2\]"),
        ({"rotation_matrices": -np.tile(np.eye(3), (4, 1, 1))}, "4 of 4 rotation_matrices"),
        ({"rotation_matrices": np.zeros((3, 3, 3))}, "rotation_matrices in .* is"),
        ({"images_ref": np.zeros((4, 224, 224, 3), np.uint8)}, "images_ref in"),
        ({"voxels": np.zeros((4, 16, 16, 16), bool)}, "voxels in"),
        ({"bounding_boxes": np.zeros((4, 4))}, "no object of car with a box"),
    ],
)
def test_what_is_not_of_the_format_is_one_sentence(tmp_path, changes, message):
    write_pascal(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read_pascal_class(tmp_path, "car", "train", 32, pascal_table(tmp_path, "car"))


def test_a_missing_class_says_what_is_there(tmp_path):
    write_pascal(tmp_path)
    with pytest.raises(UserError, match=r"chair_train\.npz does not exist") as caught:
        pascal_table(tmp_path, "chair")
    assert "car" in caught.value.hint
