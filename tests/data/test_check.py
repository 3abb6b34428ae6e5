"""The data check passes good scenes and says in words what is wrong with bad ones."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data import check
from shapewright.data.check import check_scene
from shapewright.data.contact_sheet import HULL, MASK, SPHERE, draw_contact_sheet, sphere_outline
from shapewright.data.matching import epipolar_errors, find_features, neighbouring_pairs
from shapewright.data.scene import load_scene
from shapewright.geometry.cameras import Cameras
from tests.data import ball
from tests.data.ball import ball_cameras

VIEWS = range(0, 10)


def part_of_dtu(source, folder, order=VIEWS, with_scale=True):
    """Copy some views of a DTU scene; ``order`` says which picture and mask stands at each camera."""
    files = [sorted((source / name).iterdir()) for name in ("image", "mask")]
    arrays = dict(np.load(source / "cameras_sphere.npz"))
    kept = {}
    for index, (view, shown) in enumerate(zip(VIEWS, order, strict=True)):
        for name, paths in zip(("image", "mask"), files, strict=True):
            (folder / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(paths[shown], folder / name / f"{index:06d}{paths[shown].suffix}")
        kept[f"world_mat_{index}"] = arrays[f"world_mat_{view}"]
        if with_scale:
            kept[f"scale_mat_{index}"] = arrays[f"scale_mat_{view}"]
    np.savez(folder / "cameras.npz", **kept)
    return folder


@pytest.fixture(scope="session")
def skull(shared_data, tmp_path_factory):
    """Return 10 views of DTU scan 65."""
    return part_of_dtu(shared_data / "dtu_scan65", tmp_path_factory.mktemp("skull"))


def test_part_of_scan65_passes_with_good_figures(skull):
    report = check_scene(skull)
    assert report.errors == []
    assert report.lines()[-1].endswith("ready to train")
    assert np.median([row.hull_iou for row in report.rows]) > 0.95
    assert np.median([row.epipolar_px for row in report.rows if row.epipolar_px is not None]) < 0.5


def test_part_of_scan24_passes(shared_data, tmp_path):
    report = check_scene(part_of_dtu(shared_data / "dtu_scan24", tmp_path / "house"))
    assert report.errors == []


def test_part_of_the_chair_passes(shared_data, tmp_path):
    source = shared_data / "nerf_chair"
    content = json.loads((source / "transforms_train.json").read_text())
    for frame in content["frames"]:
        frame["file_path"] = str(source / frame["file_path"])
    content["frames"] = content["frames"][:90:9]
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    report = check_scene(tmp_path)
    assert report.errors == []
    assert report.rows[0].hull_iou > 0.9


def test_the_temple_passes_and_names_the_pictures_that_are_not_there(shared_data):
    report = check_scene(shared_data / "mvs_templeR")
    assert report.errors == []
    assert "lists 28 pictures that do not exist" in report.warnings[0]
    scene = load_scene(shared_data / "mvs_templeR")
    box = np.array([[-0.023121, -0.038009, -0.091940], [0.078626, 0.121636, -0.017395]])
    assert np.linalg.norm((box - scene.translation) / scene.scale, axis=1).max() < 1


def test_shuffled_pictures_are_told(shared_data, tmp_path):
    order = np.random.default_rng(0).permutation(len(VIEWS)).tolist()
    report = check_scene(part_of_dtu(shared_data / "dtu_scan65", tmp_path / "shuffled", order))
    assert not report.passed
    assert any("pictures and cameras do not fit together" in error for error in report.errors)
    assert any("not in the same order" in error for error in report.errors)
    assert report.lines()[-1].endswith("mend the errors before training")


def test_inverted_masks_are_told(skull, tmp_path):
    copy = tmp_path / "inverted"
    shutil.copytree(skull, copy)
    for file in (copy / "mask").iterdir():
        Image.fromarray(255 - np.array(Image.open(file))).save(file)
    report = check_scene(copy)
    assert len(report.errors) == 1
    assert "look inverted" in report.errors[0]


def test_a_missing_scale_mat_is_told_with_its_remedy(shared_data, tmp_path):
    report = check_scene(part_of_dtu(shared_data / "dtu_scan65", tmp_path / "scene", with_scale=False))
    assert len(report.errors) == 1
    assert "no scale_mat_0" in report.errors[0]
    assert "--normalise masks" in report.errors[0]


def test_one_wrong_mask_and_one_shifted_camera_are_named(skull, tmp_path):
    copy = tmp_path / "scene"
    shutil.copytree(skull, copy)
    file = copy / "mask" / "000005.png"
    Image.fromarray(np.roll(np.array(Image.open(file)), 350, axis=1)).save(file)
    arrays = dict(np.load(copy / "cameras.npz"))
    shift = np.eye(4)
    shift[1, 2] = 60.0
    arrays["world_mat_9"] = shift @ arrays["world_mat_9"]
    np.savez(copy / "cameras.npz", **arrays)
    report = check_scene(copy)
    assert report.rows[5].hull_iou == min(row.hull_iou for row in report.rows)
    assert any("000009.png" in sentence and "epipolar" in sentence for sentence in [*report.errors, *report.warnings])


def test_the_contact_sheet_shows_mask_hull_and_sphere(skull):
    scene = load_scene(skull)
    sheet = draw_contact_sheet(scene, check_scene(scene))
    assert sheet.dtype == np.uint8
    for color in (MASK, HULL, SPHERE):
        assert (sheet == np.array(color)).all(axis=2).sum() > 200


def small_scene(tmp_path, count=9):
    return ball.write_idr(ball_cameras(count), tmp_path / "scene")


def test_a_scene_without_features_is_not_judged_by_them(tmp_path):
    report = check_scene(small_scene(tmp_path))
    assert report.passed
    assert any("too few features" in fact for fact in report.facts)
    assert report.rows[0].epipolar_px is None
    assert report.rows[0].mask_share == pytest.approx(np.mean(ball.ball_picture(ball_cameras(9), 0)[1]))
    assert report.rows[0].split == "test"


def test_a_scene_without_masks_is_checked_by_its_cameras(tmp_path):
    path = ball.write_ngp(ball_cameras(9), tmp_path / "scene")
    shutil.rmtree(path / "masks")
    report = check_scene(path)
    assert not any("mask" in error for error in report.errors)
    assert report.hull is None
    assert report.rows[0].mask_share is None
    assert draw_contact_sheet(load_scene(path), report).shape[2] == 3


def test_files_that_nothing_uses_are_named(tmp_path):
    path = small_scene(tmp_path)
    (path / "image" / "notes.txt").write_text("hello")
    assert any("image/notes.txt" in warning for warning in check_scene(path).warnings)


def test_a_damaged_picture_is_an_error_of_the_check(tmp_path):
    path = small_scene(tmp_path)
    file = path / "image" / "003.png"
    content = bytearray(file.read_bytes())
    content[len(content) // 2 :][:40] = bytes(40)
    content[60:100] = bytes(40)
    file.write_bytes(bytes(content))
    report = check_scene(path)
    assert any("003.png" in error for error in report.errors)


def test_masks_beyond_the_unit_sphere_are_warned_of(tmp_path):
    path = small_scene(tmp_path)
    arrays = dict(np.load(path / "cameras.npz"))
    arrays["scale_mat_0"] = ball.SCALE_MAT @ np.diag([0.5, 0.5, 0.5, 1.0])
    np.savez(path / "cameras.npz", **arrays)
    report = check_scene(path)
    assert any("reaches outside the unit sphere in 9 of 9 views" in warning for warning in report.warnings)


@pytest.mark.parametrize(
    ("edit", "kind", "sentence"),
    [
        (lambda pose, K: pose.__setitem__((2, slice(None), 3), torch.zeros(3).double()), "errors", "inside the unit"),
        (lambda pose, K: pose[2, :, [0, 2]].mul_(-1) and pose.__setitem__((2, slice(None), 2), -pose[2, :, 2]), "", ""),
        (lambda pose, K: K.__setitem__((2, 0, 1), 5.0), "warnings", "skew"),
        (lambda pose, K: K.__setitem__((2, 1, 1), 300.0), "warnings", "square"),
        (lambda pose, K: K.__setitem__((2, 0, 2), 200.0), "warnings", "principal point is outside"),
        (lambda pose, K: pose[:, :, :3].mul_(1.01), "errors", "not orthonormal"),
    ],
)
def test_impossible_cameras_are_told(edit, kind, sentence):
    from types import SimpleNamespace

    cameras = ball_cameras(4).transformed(0.7, ball.CENTER)
    pose, K = cameras.world_from_camera.clone(), cameras.intrinsics.clone()
    if not sentence:  # turned by half a turn: looks away
        pose[2, :, 0] *= -1
        pose[2, :, 2] *= -1
        kind, sentence = "errors", "looks away"
    else:
        edit(pose, K)
    report = check.SceneReport(None)
    views = [SimpleNamespace(name=f"view {i}") for i in range(4)]
    scene = SimpleNamespace(cameras=Cameras(pose, K, cameras.sizes), views=views)
    check._check_cameras(scene, report)
    assert any(sentence in found and "view 2" in found for found in getattr(report, kind))


def test_the_outline_of_the_sphere_touches_the_rays_that_graze_it():
    cameras = ball_cameras(2).transformed(0.7, ball.CENTER)
    outline = torch.from_numpy(sphere_outline(cameras, 1))
    origins, directions = cameras.rays(1, outline)
    closest = (origins - (origins * directions).sum(1, keepdim=True) * directions).norm(dim=1)
    assert torch.allclose(closest, torch.ones(1, dtype=torch.float64))
    inside = cameras.transformed(10.0, torch.zeros(3))
    assert len(sphere_outline(inside, 1)) == 0


def test_neighbours_are_the_views_of_nearly_the_same_direction():
    angles = torch.deg2rad(torch.tensor([0.0, 10.0, 25.0, 180.0, 200.0]))
    eyes = torch.stack([angles.cos(), angles.sin(), torch.zeros(5)], dim=1)
    cameras = Cameras.from_look_at(eyes, torch.zeros(3), torch.tensor([0.0, 0, 1]), 40.0, torch.tensor([[8, 8]] * 5))
    assert neighbouring_pairs(cameras, neighbours=1) == [(0, 1), (1, 2), (3, 4)]
    assert len(neighbouring_pairs(cameras[:2], neighbours=2)) == 1


def test_matches_of_a_textured_plane_agree_with_its_cameras_and_not_with_shifted_ones():
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (60, 80), dtype=np.uint8))
    texture = np.array(coarse.resize((800, 600), Image.Resampling.BICUBIC))
    # A plane at distance 10 before two cameras 0.4 apart moves by 0.4 / 10 * 500 = 20 pixels.
    pictures = [np.dstack([texture[:, at : at + 400]] * 3)[:300] for at in (100, 120)]
    pose = torch.eye(4, dtype=torch.float64)[None, :3].repeat(2, 1, 1)
    pose[1, 0, 3] = 0.4
    K = torch.tensor([[500.0, 0, 200], [0, 500, 150], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    cameras = Cameras(pose, K, torch.tensor([[400, 300]] * 2))
    features = [find_features(picture, None) for picture in pictures]
    errors = epipolar_errors(cameras, features)
    assert errors[0].shape == errors[1].shape == (1,)
    assert errors[0][0] < 0.1
    K[1, 1, 2] += 10.0
    shifted = epipolar_errors(Cameras(pose, K, cameras.sizes), features)
    assert shifted[0][0] == pytest.approx(10 / 2**0.5, abs=0.5)


def test_a_picture_without_features_has_none():
    assert len(find_features(np.zeros((60, 80, 3), np.uint8), None).pixels) == 0
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    assert len(find_features(noise, np.zeros((60, 80), dtype=bool)).pixels) == 0
