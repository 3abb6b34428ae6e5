import json
import logging

import numpy as np
import pytest
import torch

from shapewright.data.picture_folders import PictureOptions, concatenated, empty_masks, open_pictures
from shapewright.data.picture_scaling import resize_bytes
from shapewright.errors import UserError
from tests.data.picture_files import disks, write_kato


def test_classes_come_in_the_order_asked_for_by_any_of_their_names(tmp_path):
    write_kato(tmp_path, "02958343", objects=2)
    write_kato(tmp_path, "04530566", objects=1)
    every = open_pictures(tmp_path, "train", PictureOptions())
    assert every.categories == ("02958343", "02958343", "04530566")
    assert every.views.is_shared
    turned = open_pictures(tmp_path, "train", PictureOptions(classes=("vessel", "car")))
    assert turned.categories == ("04530566", "02958343", "02958343")
    assert np.array_equal(turned.images[1:], every.images[:2])
    assert np.array_equal(turned.voxels[1:], every.voxels[:2])
    assert len(open_pictures(tmp_path, "train", PictureOptions(classes=("02958343",)))) == 2


def test_one_picture_of_each_object_stays_the_same_for_the_run(tmp_path):
    images = write_kato(tmp_path, objects=40, images=disks(40))["images"]
    images = disks(40)
    options = PictureOptions(views_per_object=1)
    once, again, other = (open_pictures(tmp_path, "train", options, seed) for seed in (3, 3, 4))
    assert once.images.shape == (40, 1, 4, 64, 64)
    assert once.views.world_from_camera.shape == (40, 1, 3, 4)
    assert torch.equal(once.pose_bins, again.pose_bins)
    assert not torch.equal(once.pose_bins, other.pose_bins)
    assert len(once.pose_bins.unique()) > 12
    assert once.num_bins == 24
    every = open_pictures(tmp_path, "train", PictureOptions())
    for number, view in enumerate(once.pose_bins[:, 0].tolist()):
        assert np.array_equal(once.images[number, 0], images[number, view])
        assert torch.equal(once.views.world_from_camera[number, 0], every.views.world_from_camera[0, view])


def test_the_first_views_can_be_kept(tmp_path):
    write_kato(tmp_path)
    pictures = open_pictures(tmp_path, "train", PictureOptions(views_per_object=2, views="first"))
    assert pictures.pose_bins.tolist() == [[0, 1]] * 3


def test_several_kept_views_differ(tmp_path):
    write_kato(tmp_path)
    bins = open_pictures(tmp_path, "train", PictureOptions(views_per_object=5)).pose_bins
    assert (bins.diff(dim=1) > 0).all()


def test_all_views_are_kept_for_judging(tmp_path):
    write_kato(tmp_path, split="val")
    assert open_pictures(tmp_path, "val", PictureOptions(views_per_object=1)).num_views == 24


@pytest.mark.parametrize("count", [0, 25])
def test_a_number_of_views_that_there_are_not_is_an_error(tmp_path, count):
    write_kato(tmp_path)
    with pytest.raises(UserError, match=f"views_per_object is {count}, but there are 1 to 24"):
        open_pictures(tmp_path, "train", PictureOptions(views_per_object=count))


def test_inverting_twice_gives_the_picture_back_and_leaves_the_background_black(tmp_path):
    images = write_kato(tmp_path)["images"]
    inverted = open_pictures(tmp_path, "train", PictureOptions(invert_colours=True)).images
    inside = images[:, :, 3:] == 255
    assert np.array_equal(inverted[:, :, :3], np.where(inside, 255 - images[:, :, :3], 0))
    assert np.array_equal(inverted[:, :, 3], images[:, :, 3])
    write_kato(tmp_path, images=inverted)
    again = open_pictures(tmp_path, "train", PictureOptions(invert_colours=True)).images
    assert np.array_equal(again, images)


def test_pictures_are_resized_only_when_their_size_differs(tmp_path, caplog):
    images = write_kato(tmp_path)["images"]
    assert np.array_equal(open_pictures(tmp_path, "train", PictureOptions(image_size=64)).images, images)
    small = open_pictures(tmp_path, "train", PictureOptions(image_size=32)).images
    assert not caplog.text
    assert small.shape == (3, 24, 4, 32, 32)
    assert abs(small[:, :, 3].mean() - images[:, :, 3].mean()) < 0.5


def test_pictures_that_are_enlarged_are_told(tmp_path, caplog):
    write_kato(tmp_path)
    assert open_pictures(tmp_path, "train", PictureOptions(image_size=96)).size == 96
    assert "02958343 in train have 64 px and are enlarged to 96" in caplog.text


def test_resizing_keeps_constants_and_the_mean():
    random = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), dtype=np.uint8)
    assert (resize_bytes(np.full((1, 224, 224), 7, np.uint8), 64) == 7).all()
    # A single pixel out of eight by eight would be all or nothing without anti-aliasing.
    assert abs(resize_bytes(random, 8).mean() - random.mean()) < 2
    assert resize_bytes(random, 8).std() < 20


def test_empty_masks_are_listed_and_logged(tmp_path, caplog):
    images = disks(3)
    images[1, 5] = 0
    write_kato(tmp_path, images=images)
    with caplog.at_level(logging.WARNING):
        pictures = open_pictures(tmp_path, "train", PictureOptions())
    assert empty_masks(pictures) == [(1, 5)]
    assert "1 masks of train" in caplog.text
    assert "02958343_train_00001 view 5" in caplog.text


def test_a_missing_class_and_a_missing_split_say_what_is_there(tmp_path):
    write_kato(tmp_path)
    with pytest.raises(UserError, match="no class chair in the set train") as caught:
        open_pictures(tmp_path, "train", PictureOptions(classes=("car", "chair")))
    assert "02958343" in caught.value.hint
    with pytest.raises(UserError, match="no pictures of the set test"):
        open_pictures(tmp_path, "test", PictureOptions())


def test_a_class_whose_file_is_gone_is_missed_unless_others_are_asked_for(tmp_path):
    write_kato(tmp_path)
    sets = {"02958343": {"train": ["a", "b", "x"]}, "03001627": {"train": ["c"], "test": ["d"]}}
    (tmp_path / "dataset.json").write_text(json.dumps({"objects": sets}))
    with pytest.raises(UserError, match=r"03001627_train_images\.npz is missing") as caught:
        open_pictures(tmp_path, "train", PictureOptions())
    assert caught.value.hint.endswith("the classes that are there: 02958343.")
    assert open_pictures(tmp_path, "train", PictureOptions(classes=("car",))).ids == ("a", "b", "x")


def test_folders_without_pictures_are_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_pictures(tmp_path / "none", "train", PictureOptions())
    with pytest.raises(UserError, match="no pictures in a format"):
        open_pictures(tmp_path, "train", PictureOptions())


def test_classes_of_other_cameras_do_not_mix(tmp_path):
    write_kato(tmp_path)
    every = open_pictures(tmp_path, "train", PictureOptions())
    one = open_pictures(tmp_path, "train", PictureOptions(views_per_object=1))
    with pytest.raises(UserError, match="differ in views"):
        concatenated([every, one])
