import logging
import math
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from shapewright.data.lsm import read_lsm_class, read_picture
from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.picture_sets import project_to
from shapewright.errors import UserError
from tests.data.picture_files import write_lsm


@pytest.mark.parametrize("has_alpha", [True, False])
def test_the_exact_format_is_read(tmp_path, has_alpha):
    made = write_lsm(tmp_path, has_alpha=has_alpha)
    arrays = read_lsm_class(tmp_path, "02958343", "train", 56)
    assert arrays.ids == ("a", "b")
    for number, object_id in enumerate(arrays.ids):
        assert np.array_equal(arrays.images[number], made[object_id]["pictures"])
        assert np.allclose(arrays.angles_deg[number], made[object_id]["angles"], atol=1e-6)
        assert np.array_equal(arrays.voxels[number], made[object_id]["voxels"])
    eye = arrays.cameras[..., 3]
    assert np.allclose(np.linalg.norm(eye, axis=-1), 2.4)
    elevation = np.degrees(np.arcsin(eye[..., 1] / 2.4))
    azimuth = np.degrees(np.arctan2(-eye[..., 2], eye[..., 0]))
    assert np.allclose(np.stack([azimuth, elevation], axis=-1), arrays.angles_deg, atol=1e-3)


def test_the_middle_of_the_world_is_in_the_middle_of_every_picture(tmp_path):
    write_lsm(tmp_path)
    pictures = open_pictures(tmp_path, "train", PictureOptions())
    poses = pictures.views.world_from_camera.flatten(0, 1)
    screen = project_to(torch.zeros(len(poses), 1, 3), poses, pictures.views.half_angle_deg, 64)
    assert torch.allclose(screen, torch.tensor([32.0, 32.0, 2.4]).expand_as(screen), atol=1e-4)
    assert pictures.views.half_angle_deg == pytest.approx(math.degrees(math.atan(16 / 60)))


def test_pictures_are_resized_and_poses_binned_as_asked(tmp_path):
    made = write_lsm(tmp_path)
    pictures = open_pictures(tmp_path, "train", PictureOptions())
    assert pictures.images.shape == (2, 5, 4, 64, 64)
    assert pictures.num_bins == 72
    azimuth, elevation = made["b"]["angles"].T
    expected = np.floor((azimuth + 180) / 15) * 3 + np.floor((elevation + 20) / 20)
    assert pictures.pose_bins[1].tolist() == expected.astype(int).tolist()
    narrow = PictureOptions(elevation_bin_deg=10)
    assert open_pictures(tmp_path, "train", narrow).num_bins == 144


def test_the_truly_single_view_case_is_the_first_picture(tmp_path):
    made = write_lsm(tmp_path)
    pictures = open_pictures(tmp_path, "train", PictureOptions(views_per_object=1, views="first", image_size=56))
    assert np.array_equal(pictures.images[1, 0], made["b"]["pictures"][0])
    assert open_pictures(tmp_path, "test", PictureOptions(views_per_object=1)).num_views == 5


def test_voxels_can_be_read_mirrored_as_the_original_does(tmp_path):
    made = write_lsm(tmp_path)
    voxels = read_lsm_class(tmp_path, "02958343", "train", 56, "original").voxels
    assert np.array_equal(voxels[0], made["a"]["voxels"][:, :, ::-1])


def test_the_mask_is_where_the_depth_of_8_bits_is_below_250(tmp_path):
    depth = np.array([[0, 249], [250, 255]])
    Image.fromarray(np.full((2, 2, 3), 90, np.uint8)).save(tmp_path / "render_0.png")
    for pixels in (depth.astype(np.uint8), (depth * 257).astype(np.uint16)):
        Image.fromarray(pixels).save(tmp_path / "depth_0.png")
        picture = read_picture(tmp_path, 0, 2)
        assert picture[3].tolist() == [[255, 255], [0, 0]]
        assert picture[0].tolist() == [[90, 90], [0, 0]]


def test_objects_without_pictures_are_left_out_with_a_warning(tmp_path, caplog):
    write_lsm(tmp_path, sets={"train": ["a"]})
    splits = tmp_path / "splits.json"
    splits.write_text(splits.read_text().replace('["a"]', '["a", "gone"]'))
    with caplog.at_level(logging.WARNING):
        assert read_lsm_class(tmp_path, "02958343", "train", 56).ids == ("a",)
    assert "1 objects of 02958343 in train have no pictures" in caplog.text


def test_points_of_objects_without_pictures_are_left_out_too(tmp_path):
    write_lsm(tmp_path, sets={"train": ["a", "b"]})
    points = np.arange(18, dtype=np.float32).reshape(2, 3, 3)
    np.savez(tmp_path / "02958343_train_points.npz", points)
    shutil.rmtree(tmp_path / "renders" / "02958343" / "a")
    arrays = read_lsm_class(tmp_path, "02958343", "train", 56)
    assert arrays.ids == ("b",)
    assert arrays.points.tolist() == points[1:].tolist()


def test_without_voxels_there_is_nothing_to_judge_by(tmp_path, caplog):
    write_lsm(tmp_path, has_voxels=False)
    with caplog.at_level(logging.WARNING):
        assert read_lsm_class(tmp_path, "02958343", "train", 56).voxels is None
    assert "have no voxels" in caplog.text


def spoil_views(where):
    (where / "view.txt").write_text("1 2 3\n")


def drop_depth(where):
    (where / "depth_1.png").unlink()


def fewer_views(where):
    lines = (where / "view.txt").read_text().splitlines()
    (where / "view.txt").write_text("\n".join(lines[:3]))


def other_size(where):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(where / "render_0.png")


def not_square(where):
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(where / "render_0.png")
    Image.fromarray(np.zeros((8, 6), np.uint8)).save(where / "depth_0.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_views, "holds no views"),
        (drop_depth, r"depth_1\.png does not exist"),
        (fewer_views, "has 3 views, but a has 5"),
        (other_size, "differ in size"),
        (not_square, r"render_0\.png is 6x8, but must be square"),
    ],
)
def test_what_is_not_of_the_format_is_one_sentence(tmp_path, spoil, message):
    write_lsm(tmp_path)
    spoil(tmp_path / "renders" / "02958343" / "b")
    with pytest.raises(UserError, match=message):
        read_lsm_class(tmp_path, "02958343", "train", 56)


@pytest.mark.parametrize("content", [{"other": np.zeros(3)}, {"Volume": np.zeros((3, 3))}, None])
def test_damaged_voxels_are_errors(tmp_path, content):
    write_lsm(tmp_path)
    path = tmp_path / "voxels" / "modelVoxels32" / "02958343" / "a.mat"
    path.write_bytes(b"nothing")
    if content is not None:
        savemat(path, content)
    with pytest.raises(UserError, match=r"a\.mat"):
        read_lsm_class(tmp_path, "02958343", "train", 56)


def test_a_class_without_a_folder_is_an_error(tmp_path):
    write_lsm(tmp_path)
    with pytest.raises(UserError, match="does not list the objects of 03001627"):
        read_lsm_class(tmp_path, "03001627", "train", 56)
    (tmp_path / "renders" / "02958343").rename(tmp_path / "renders" / "02958344")
    with pytest.raises(UserError, match="None of the objects"):
        read_lsm_class(tmp_path, "02958343", "train", 56)
