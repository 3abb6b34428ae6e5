"""Every mistake in a scene is one sentence that names the file and one that names the next step."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from shapewright.data.scene import load_scene
from shapewright.errors import UserError
from tests.data import ball
from tests.data.ball import ball_cameras


@pytest.fixture
def idr(tmp_path):
    return ball.write_idr(ball_cameras(6), tmp_path / "scene")


@pytest.fixture
def nerf(tmp_path):
    return ball.write_nerf(ball_cameras(6), tmp_path / "scene")


@pytest.fixture
def colmap(tmp_path):
    return ball.write_colmap_text(ball_cameras(6), tmp_path / "scene")


@pytest.fixture
def middlebury(tmp_path):
    return ball.write_middlebury(ball_cameras(6), tmp_path / "scene")


def refuse(path, *words, **options):
    """Assert that loading fails with a message that holds all words, and return its hint."""
    with pytest.raises(UserError) as caught:
        load_scene(path, **options)
    for word in words:
        assert word in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value.hint


def edit_arrays(path, edit):
    """Change the arrays of cameras.npz in place."""
    arrays = dict(np.load(path / "cameras.npz"))
    edit(arrays)
    np.savez(path / "cameras.npz", **arrays)


def edit_json(path, edit):
    """Change transforms_train.json in place."""
    file = path / "transforms_train.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def paint(folder, value, names=None):
    """Fill mask files with one grey value."""
    for file in sorted(folder.iterdir()):
        if names is None or file.name in names:
            Image.fromarray(np.full((60, 80), value, np.uint8)).save(file)


def test_a_folder_that_does_not_exist(tmp_path):
    refuse(tmp_path / "nowhere", "nowhere", "does not exist")


def test_an_empty_folder_has_no_pictures(tmp_path):
    refuse(tmp_path, "There are no pictures in", str(tmp_path))


def test_cameras_without_pictures(idr):
    shutil.rmtree(idr / "image")
    refuse(idr, "There are no pictures in", "image")


def test_pictures_without_cameras(idr):
    (idr / "cameras.npz").unlink()
    assert "transforms.json" in refuse(idr, "6 pictures", "no cameras")


@pytest.mark.parametrize("write", ball.WRITERS.values())
def test_one_picture_is_too_few_in_every_format(write, tmp_path):
    refuse(write(ball_cameras(1), tmp_path / "scene"), "only one picture", "at least 2 views")


def test_a_mask_of_another_size(idr):
    Image.fromarray(np.full((30, 40), 255, np.uint8)).save(idr / "mask" / "002.png")
    refuse(idr, "002.png", "is 40x30", "is 80x60")


def test_fewer_masks_than_pictures(idr):
    (idr / "mask" / "003.png").unlink()
    refuse(idr, "6 pictures", "5 masks")


def test_masks_for_some_pictures_only(colmap):
    (colmap / "masks" / "003.png").unlink()
    refuse(colmap, "1 of 6 pictures", "have no mask: 003.png")


def test_all_masks_black(idr):
    paint(idr / "mask", 0)
    refuse(idr, "All masks are black", "001.png", "highest value in any mask is 0")


def test_masks_of_zeros_and_ones_are_named_by_their_highest_value(idr):
    paint(idr / "mask", 1)
    assert "255" in refuse(idr, "highest value in any mask is 1")


def test_a_single_black_mask(idr):
    paint(idr / "mask", 0, ["004.png"])
    refuse(idr, "1 of 5 masks are black", "004.png")


def test_an_alpha_channel_of_zeros(nerf):
    file = nerf / "train" / "r_2.png"
    rgba = np.array(Image.open(file))
    rgba[..., 3] = 0
    Image.fromarray(rgba).save(file)
    refuse(nerf, "black", "r_2.png")


def test_all_masks_white(idr):
    paint(idr / "mask", 255)
    refuse(idr, "All masks", "white")


def test_inverted_masks(idr):
    for file in (idr / "mask").iterdir():
        Image.fromarray(255 - np.array(Image.open(file))).save(file)
    assert "Invert them" in refuse(idr, "look inverted: 5 of 5")


def test_cameras_for_fewer_images(idr):
    edit_arrays(idr, lambda arrays: arrays.pop("world_mat_5"))
    refuse(idr, "cameras.npz", "5 cameras", "6 pictures")


def test_cameras_for_more_images(idr):
    (idr / "image" / "005.png").unlink()
    refuse(idr, "6 cameras", "5 pictures")


def test_cameras_that_are_not_numbered_from_zero(idr):
    edit_arrays(idr, lambda arrays: arrays.update(world_mat_6=arrays.pop("world_mat_0")))
    refuse(idr, "no world_mat_0")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_camera_that_is_not_finite(idr, value):
    edit_arrays(idr, lambda arrays: arrays["world_mat_3"].__setitem__((0, 1), value))
    refuse(idr, "world_mat_3", "cameras.npz", "not finite")


def test_a_camera_of_another_shape_and_of_zeros(idr):
    edit_arrays(idr, lambda arrays: arrays.update(world_mat_1=np.eye(3)))
    refuse(idr, "world_mat_1", "(3, 3)")
    edit_arrays(idr, lambda arrays: arrays.update(world_mat_1=np.zeros((4, 4))))
    refuse(idr, "impossible", "full rank")


def test_a_mirrored_camera(idr):
    def mirror(arrays):
        arrays["world_mat_2"] = np.diag([-1.0, 1, 1, 1]) @ arrays["world_mat_2"]

    edit_arrays(idr, mirror)
    refuse(idr, "cameras.npz", "mirrored", "i = 2")


def test_all_cameras_mirrored(idr):
    def mirror(arrays):
        for i in range(6):
            arrays[f"world_mat_{i}"] = arrays[f"world_mat_{i}"] @ np.diag([1.0, 1, -1, 1])

    edit_arrays(idr, mirror)
    refuse(idr, "mirrored", "i = 0, 1, 2, 3, 4, 5", normalise="masks")


def test_cameras_without_scale_mat(tmp_path):
    path = ball.write_idr(ball_cameras(6), tmp_path / "scene", with_scale=False)
    assert "--normalise masks" in refuse(path, "cameras.npz", "no scale_mat_0")
    assert load_scene(path, normalise="masks").normalisation.method == "masks"


def test_a_scale_mat_that_turns_or_flattens(idr):
    edit_arrays(idr, lambda arrays: arrays.update(scale_mat_0=np.diag([1.0, 2.0, 1.0, 1.0])))
    assert "--normalise masks" in refuse(idr, "scale_mat_0", "not a positive scale")


def test_a_sphere_that_misses_the_object(idr):
    def move(arrays):
        arrays["scale_mat_0"] = arrays["scale_mat_0"].copy()
        arrays["scale_mat_0"][:3, 3] += [1.5, 0.5, 0.3]

    edit_arrays(idr, move)
    assert "--normalise masks" in refuse(idr, "scale_mat", "holds no part of the object")


def test_a_truncated_picture(idr):
    file = idr / "image" / "001.png"
    file.write_bytes(file.read_bytes()[:-200])
    refuse(idr, "001.png", "truncated")


def test_a_truncated_mask(idr):
    file = idr / "mask" / "001.png"
    file.write_bytes(file.read_bytes()[:60])
    refuse(idr, str(file))


def test_a_file_that_is_no_picture(idr):
    (idr / "image" / "001.png").write_text("hello")
    refuse(idr, "001.png", "cannot be read")


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 broken", b"hello"])
def test_a_damaged_camera_archive(idr, damage):
    (idr / "cameras.npz").write_bytes(damage)
    refuse(idr, "cameras.npz", "cannot be read")


def test_an_archive_of_objects_is_not_unpickled(idr):
    np.savez(idr / "cameras.npz", world_mat_0=np.array([{"a": 1}], dtype=object))
    refuse(idr, "cameras.npz", "cannot be read")


def test_a_cameras_file_that_does_not_exist(idr):
    refuse(idr, "cameras_new.npz", "does not exist", cameras_file="cameras_new.npz")


def test_a_scene_file_that_does_not_list_every_picture(idr):
    (idr / "scene.json").write_text(json.dumps({"views": [{"file": "image/000.png", "split": "train"}]}))
    refuse(idr, "scene.json", "does not list every picture")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda c: c.pop("frames"), ["no list `frames`"]),
        (lambda c: c["frames"][1].pop("transform_matrix"), ["Frame 1", "transform_matrix"]),
        (lambda c: c["frames"][1].update(transform_matrix=[[1, 2], [3]]), ["r_1.png", "4x4"]),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(0, float("nan")), ["r_1.png", "finite"]),
        (
            lambda c: c["frames"][1].update(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()),
            ["r_1.png", "no rotation"],
        ),
        (lambda c: c["frames"][1].update(transform_matrix=np.diag([-1.0, 1, 1, 1]).tolist()), ["r_1.png", "mirrored"]),
        (lambda c: c.pop("camera_angle_x"), ["neither fl_x nor camera_angle_x"]),
        (lambda c: c.update(camera_angle_x="wide"), ["camera_angle_x", "'wide'"]),
        (lambda c: c.update(camera_angle_x=0.0), ["must be positive"]),
        (lambda c: c.update(w=80, h=80), ["80x80", "80x60", "another shape"]),
        (lambda c: c.update(camera_model="OPENCV_FISHEYE"), ["fisheye"]),
        (lambda c: c["frames"].clear(), ["no pictures"]),
    ],
)
def test_mistakes_in_a_transforms_file(nerf, edit, words):
    edit_json(nerf, edit)
    refuse(nerf, *words)


def test_a_transforms_file_that_is_not_json(nerf):
    (nerf / "transforms_train.json").write_text("{")
    refuse(nerf, "transforms_train.json", "not valid JSON")


@pytest.mark.parametrize("kind", ["cameras", "images"])
def test_a_colmap_binary_that_is_cut_short(tmp_path, kind):
    path = ball.write_colmap_binary(ball_cameras(4), tmp_path / "scene")
    file = path / "sparse" / f"{kind}.bin"
    file.write_bytes(file.read_bytes()[:100])
    refuse(path, f"{kind}.bin", "cut short")


@pytest.mark.parametrize("name", ["cameras.txt", "images.txt"])
def test_a_colmap_text_file_of_something_else(colmap, name):
    (colmap / "sparse" / "0" / name).write_text("hello world\n\n")
    refuse(colmap, name, "is not a COLMAP")


def test_a_lens_model_that_is_not_supported(tmp_path):
    path = ball.write_colmap_text(ball_cameras(4), tmp_path / "scene", model="FOV")
    assert "image_undistorter" in refuse(path, "FOV", "not supported")


def test_a_colmap_camera_that_does_not_exist(colmap):
    file = colmap / "sparse" / "0" / "cameras.txt"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("3 ")))
    refuse(colmap, "no camera 3", "002.png")


def test_a_colmap_pose_that_is_not_finite(colmap):
    file = colmap / "sparse" / "0" / "images.txt"
    lines = file.read_text().splitlines()
    fields = lines[1].split()
    fields[2] = "nan"
    file.write_text("\n".join([lines[0], " ".join(fields), *lines[2:]]))
    refuse(colmap, "005.png", "not finite")


def test_a_middlebury_line_with_a_number_too_few_or_a_mirrored_rotation(middlebury):
    file = middlebury / "ball_par.txt"
    text = file.read_text()
    file.write_text(text.replace(" 0 0 1\n", " 0 0\n", 1))
    refuse(middlebury, "absent.png", "21 finite numbers")
    file.write_text(text.replace("1 0 0 0 1 0 0 0 1 0 0 1\n", "1 0 0 0 1 0 0 0 -1 0 0 1\n", 1))
    refuse(middlebury, "absent.png", "no rotation")


def test_methods_of_normalising_that_need_what_is_not_there(nerf):
    refuse(nerf, "does not say where the object is", normalise="file")
    for file in (nerf / "train").iterdir():
        Image.open(file).convert("RGB").save(file)
    refuse(nerf, "no masks", normalise="masks")
    refuse(nerf, "Only 0 of 0 sparse points", normalise="points")
    with pytest.raises(ValueError, match="normalise must be one of"):
        load_scene(nerf, normalise="guess")
