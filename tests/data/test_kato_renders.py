import json

import numpy as np
import pytest
import torch

from shapewright.data.kato_renders import read_kato_class
from shapewright.errors import UserError
from shapewright.geometry.orbit import kato_ring
from tests.data.picture_files import disks, write_kato


def test_the_exact_format_is_read(tmp_path):
    arrays = write_kato(tmp_path)
    pictures = read_kato_class(tmp_path, "02958343", "train")
    assert np.array_equal(pictures.images, arrays["images"])
    assert pictures.views.is_shared
    assert pictures.views.world_from_camera.dtype == torch.float32
    assert torch.equal(pictures.views.world_from_camera[0], kato_ring().world_from_camera.float())
    assert pictures.views.half_angle_deg == 15
    assert pictures.num_bins == 24
    assert torch.equal(pictures.pose_bins, torch.arange(24).expand(3, 24))
    assert np.array_equal(pictures.points, arrays["points"])
    assert pictures.categories == ("02958343",) * 3
    assert len(set(pictures.ids)) == 3


def test_voxels_are_turned_from_stored_to_world_axes(tmp_path):
    stored = write_kato(tmp_path, objects=2)["voxels"]
    world = read_kato_class(tmp_path, "02958343", "train").voxels
    for a, b, c in np.random.default_rng(0).integers(0, 32, (200, 3)):
        assert (stored[:, a, b, c] == world[:, c, a, 31 - b]).all()


def test_the_key_of_the_array_does_not_matter(tmp_path):
    write_kato(tmp_path, images=None)
    np.savez(tmp_path / "02958343_train_images.npz", pictures=disks())
    assert len(read_kato_class(tmp_path, "02958343", "train")) == 3


def test_voxels_and_points_need_not_be_there(tmp_path):
    write_kato(tmp_path, voxels=None, points=None)
    pictures = read_kato_class(tmp_path, "02958343", "train")
    assert pictures.voxels is None
    assert pictures.points is None


def test_objects_are_named_by_the_manifest(tmp_path):
    write_kato(tmp_path, objects=2)
    (tmp_path / "dataset.json").write_text(json.dumps({"objects": {"02958343": {"train": ["b", "a"]}}}))
    assert read_kato_class(tmp_path, "02958343", "train").ids == ("b", "a")
    (tmp_path / "dataset.json").write_text(json.dumps({"objects": {"02958343": {"train": ["b"]}}}))
    with pytest.raises(UserError, match="names 1 objects of 02958343 in train, but the arrays hold 2"):
        read_kato_class(tmp_path, "02958343", "train")
    (tmp_path / "dataset.json").write_text(json.dumps({"objects": ["02958343"]}))
    with pytest.raises(UserError, match="does not list objects by class and set"):
        read_kato_class(tmp_path, "02958343", "train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": disks(3, 1)}, "has 1 pictures of each object, and not 24"),
        ({"images": disks(3)[:, :, :3]}, "pictures of 3 channels: the mask is missing"),
        ({"images": disks(0)}, "is empty"),
        ({"images": disks(3)[..., :32]}, "no such pictures"),
        ({"images": disks(3).astype(np.float32)}, "float32"),
        ({"images": disks(3)[:, 0]}, "no such pictures"),
        ({"voxels": np.zeros((2, 32, 32, 32), bool)}, "holds 2 objects, but the pictures beside it show 3"),
        ({"voxels": np.zeros((3, 16, 16, 16), bool)}, "no grids of 32 cells"),
        ({"voxels": np.zeros((3, 32, 32, 32), np.float32)}, "no grids of 32 cells"),
        ({"points": np.zeros((3, 50, 2), np.float32)}, "no clouds"),
        ({"points": np.full((3, 50, 3), np.nan, np.float32)}, "no clouds of finite points"),
    ],
)
def test_what_is_not_of_the_format_is_one_sentence(tmp_path, changes, message):
    write_kato(tmp_path, **changes)
    with pytest.raises(UserError, match=message) as caught:
        read_kato_class(tmp_path, "02958343", "train")
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_an_archive_without_an_array_is_an_error(tmp_path):
    write_kato(tmp_path, images=None)
    np.savez(tmp_path / "02958343_train_images.npz")
    with pytest.raises(UserError, match="holds no array"):
        read_kato_class(tmp_path, "02958343", "train")


def test_a_missing_class_names_the_file_and_what_is_there(tmp_path):
    write_kato(tmp_path, "02958343")
    write_kato(tmp_path, "03001627")
    with pytest.raises(UserError, match=r"02691156_train_images\.npz is missing") as caught:
        read_kato_class(tmp_path, "02691156", "train")
    assert "02958343, 03001627" in caught.value.hint
