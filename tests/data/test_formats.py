"""One scene in every format gives the same pictures, masks and rays."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data.capture import find_mask, mask_from_dark_background
from shapewright.data.scene import load_scene
from shapewright.data.scene_writer import write_scene
from shapewright.data.undistort import distort
from shapewright.errors import UserError
from tests.data import ball
from tests.data.ball import WRITERS, ball_cameras, ball_picture


def world_rays(scene, view):
    """Return the rays of one view in world units."""
    origins, directions = scene.cameras.image_rays(view)
    return scene.scale * origins + torch.from_numpy(scene.translation), directions


@pytest.mark.parametrize("format_name", WRITERS)
def test_every_format_gives_the_rays_and_pixels_that_were_written(format_name, tmp_path):
    cameras = ball_cameras(6)
    scene = load_scene(WRITERS[format_name](cameras, tmp_path / "scene"))
    assert len(scene.views) == 6
    for view in range(6):
        for found, expected in zip(world_rays(scene, view), cameras.image_rays(view), strict=True):
            assert torch.allclose(found, expected, atol=1e-9)
        rgb, mask = ball_picture(cameras, view)
        assert np.array_equal(scene.picture(view).rgb, rgb)
        assert np.array_equal(scene.mask(view), mask)


@pytest.mark.parametrize("format_name", sorted(set(WRITERS) - {"idr"}))
def test_formats_without_a_sphere_are_carved_around_the_ball(format_name, tmp_path):
    scene = load_scene(WRITERS[format_name](ball_cameras(12), tmp_path / "scene"))
    assert scene.normalisation.method == "masks"
    assert np.allclose(scene.translation, ball.CENTER, atol=0.05)
    assert 0.5 < scene.scale < 0.75


def test_idr_keeps_the_sphere_of_the_file_unless_told_to_carve(tmp_path):
    path = ball.write_idr(ball_cameras(12), tmp_path / "scene")
    assert load_scene(path).scale == pytest.approx(0.7)
    assert load_scene(path, normalise="masks").scale < 0.65


def test_a_written_scene_is_read_back_with_its_split_and_rays(tmp_path):
    scene = load_scene(ball.write_ngp(ball_cameras(9), tmp_path / "scene"), holdout_every=4)
    write_scene(scene, tmp_path / "copy")
    copy = load_scene(tmp_path / "copy")
    assert (copy.format, copy.test) == ("idr", (0, 4, 8))
    assert copy.scale == pytest.approx(scene.scale)
    assert np.allclose(copy.translation, scene.translation)
    for found, expected in zip(copy.cameras.image_rays(3), scene.cameras.image_rays(3), strict=True):
        assert torch.allclose(found, expected, atol=1e-9)
    entry = json.loads((tmp_path / "copy" / "scene.json").read_text())["views"][4]
    assert entry["source"] == "images/004.png"
    assert (entry["width"], entry["height"], entry["split"]) == (80, 60, "test")


def test_writing_into_a_folder_with_files_is_refused(tmp_path):
    scene = load_scene(ball.write_idr(ball_cameras(4), tmp_path / "scene"))
    with pytest.raises(UserError, match="not empty"):
        write_scene(scene, tmp_path / "scene")


def test_cameras_of_another_file_in_the_folder_can_be_chosen(tmp_path):
    path = ball.write_idr(ball_cameras(4), tmp_path / "scene")
    arrays = dict(np.load(path / "cameras.npz"))
    arrays["scale_mat_0"] = arrays["scale_mat_0"] @ np.diag([2.0, 2.0, 2.0, 1.0])
    np.savez(path / "cameras_large.npz", **arrays)
    assert load_scene(path, cameras_file="cameras_large.npz").scale == pytest.approx(1.4)


def test_extra_keys_of_neus_are_ignored(tmp_path):
    path = ball.write_idr(ball_cameras(4), tmp_path / "scene")
    arrays = dict(np.load(path / "cameras.npz"))
    arrays |= {f"{kind}_{i}": np.eye(4) for i in range(9) for kind in ("camera_mat", "world_mat_inv", "scale_mat_inv")}
    np.savez(path / "cameras.npz", **arrays)
    assert len(load_scene(path).views) == 4


def test_a_negative_factor_of_a_projection_matrix_changes_nothing(tmp_path):
    cameras = ball_cameras(4)
    path = ball.write_idr(cameras, tmp_path / "scene")
    arrays = dict(np.load(path / "cameras.npz"))
    arrays["world_mat_2"][:3] *= -3.0
    np.savez(path / "cameras.npz", **arrays)
    assert torch.allclose(world_rays(load_scene(path), 2)[1], cameras.image_rays(2)[1], atol=1e-9)


def test_every_eighth_view_is_held_out_and_a_split_of_the_format_wins(tmp_path):
    path = ball.write_nerf(ball_cameras(10), tmp_path / "scene")
    assert load_scene(path).test == (0, 8)
    assert load_scene(path, holdout_every=0).test == ()
    content = json.loads((path / "transforms_train.json").read_text())
    frames = content["frames"]
    (path / "transforms_test.json").write_text(json.dumps({**content, "frames": frames[7:]}))
    (path / "transforms_train.json").write_text(json.dumps({**content, "frames": frames[:7]}))
    scene = load_scene(path)
    assert (scene.train, scene.test) == (tuple(range(7)), (7, 8, 9))


def test_frames_without_a_picture_are_skipped_and_named(tmp_path):
    path = ball.write_ngp(ball_cameras(8), tmp_path / "scene")
    (path / "images" / "003.png").unlink()
    (path / "images" / "005.png").unlink()
    scene = load_scene(path)
    assert [view.name for view in scene.views][3:5] == ["images/004.png", "images/006.png"]
    assert "images/003.png, images/005.png" in scene.notes[0]


def test_a_capture_without_masks_loads_and_is_placed_by_its_cameras(tmp_path):
    path = ball.write_ngp(ball_cameras(8), tmp_path / "scene")
    (path / "masks").rename(path / "elsewhere")
    scene = load_scene(path)
    assert not scene.has_masks
    assert scene.picture(0).alpha is None
    assert scene.normalisation.method == "lookat"
    assert np.allclose(scene.translation, ball.CENTER, atol=1e-6)
    assert scene.scale == pytest.approx(0.5 * ball.DISTANCE)
    assert load_scene(path, normalise="camera").normalisation.method == "camera"


def test_sparse_points_place_a_capture_without_masks(tmp_path):
    path = ball.write_colmap_text(ball_cameras(8), tmp_path / "scene")
    (path / "masks").rename(path / "elsewhere")
    with pytest.raises(UserError, match="Only 2 of 2 sparse points"):
        load_scene(path)
    direction = np.random.default_rng(0).normal(size=(300, 3))
    points = ball.CENTER.numpy() + ball.RADIUS * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    points[:5] += 100.0
    rows = "\n".join(f"{i} {x} {y} {z} 0 0 0 0.1" for i, (x, y, z) in enumerate(points))
    (path / "sparse" / "0" / "points3D.txt").write_text(rows)
    scene = load_scene(path)
    assert scene.normalisation.method == "points"
    assert np.allclose(scene.translation, ball.CENTER, atol=0.06)
    assert scene.scale == pytest.approx(ball.RADIUS / 0.9, rel=0.08)


def test_intrinsics_follow_pictures_that_were_resized(tmp_path):
    cameras = ball_cameras(4)
    path = ball.write_ngp(cameras, tmp_path / "scene")
    for name in ("images", "masks"):
        for file in (path / name).iterdir():
            Image.open(file).resize((40, 30)).save(file)
    scene = load_scene(path)
    assert torch.allclose(scene.cameras.intrinsics[0], cameras.scaled(0.5).intrinsics[0])


def test_each_picture_keeps_its_own_size_and_intrinsics(tmp_path):
    cameras = ball_cameras(4)
    sizes = cameras.sizes.clone()
    sizes[1] = torch.tensor([100, 72])
    cameras = replace(cameras, sizes=sizes)
    scene = load_scene(ball.write_idr(cameras, tmp_path / "scene"))
    assert scene.cameras.sizes.tolist() == [[80, 60], [100, 72], [80, 60], [80, 60]]
    assert torch.allclose(world_rays(scene, 1)[1], cameras.image_rays(1)[1], atol=1e-9)


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"])
@pytest.mark.parametrize("write", [ball.write_colmap_text, ball.write_colmap_binary])
def test_every_supported_lens_model_of_colmap_is_read(model, write, tmp_path):
    cameras = ball_cameras(4)
    scene = load_scene(write(cameras, tmp_path / "scene", model))
    assert torch.allclose(scene.cameras.intrinsics, cameras.intrinsics)
    assert all(view.distortion == () for view in scene.views)


def test_pictures_that_colmap_did_not_register_are_named(tmp_path):
    path = ball.write_colmap_text(ball_cameras(5), tmp_path / "scene")
    ball.save(path / "images" / "zebra.png", np.zeros((60, 80, 3), np.uint8))
    (path / "images" / "002.png").unlink()
    scene = load_scene(path)
    assert len(scene.views) == 4
    assert "002.png" in scene.notes[0]
    assert "zebra.png" in scene.notes[1]


def test_distortion_follows_the_formula():
    found = distort(torch.tensor([[0.5, -0.25]], dtype=torch.float64), (0.1, -0.02, 0.001, -0.002))
    assert found[0].tolist() == pytest.approx([0.5127734375, -0.25638671875], abs=1e-12)
    assert distort(torch.tensor([[0.5, 0.0]]), (0.0, 0.0, 0.0, 0.0, 1.0))[0, 0] == pytest.approx(0.5 * (1 + 0.5**6))


def test_pictures_are_undistorted_when_read(tmp_path):
    cameras = ball_cameras(4)
    lens = {"k1": 0.2, "k2": -0.05, "p1": 0.004, "p2": -0.003}
    path = ball.write_ngp(cameras, tmp_path / "scene", lens)
    K, view = cameras.intrinsics[1], 1
    # The lens shows at p what a pinhole shows at q with distort(q) = p: invert it by fixed-point steps.
    v, u = torch.meshgrid(torch.arange(60) + 0.5, torch.arange(80) + 0.5, indexing="ij")
    p = torch.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1]], -1).double()
    q = p.clone()
    for _ in range(50):
        q = q + p - distort(q, tuple(lens.values()))
    straight = (127.5 + 120 * q[..., 0]).round().to(torch.uint8).numpy()
    ball.save(path / "images" / "001.png", np.dstack([straight] * 3))
    ball.save(path / "masks" / "001.png", np.where(q.norm(dim=-1).numpy() < 0.25, 255, 0).astype(np.uint8))
    scene = load_scene(path, normalise="lookat")
    inner = scene.picture(view).rgb[5:-5, 5:-5, 0].astype(int)
    assert np.abs(inner - (127.5 + 120 * p[5:-5, 5:-5, 0].numpy())).max() <= 1.5
    assert np.mean(scene.mask(view) != (p.norm(dim=-1).numpy() < 0.25)) < 0.01
    assert scene.picture(view).alpha is not None


def test_the_exif_orientation_is_applied_once(tmp_path):
    cameras = ball_cameras(4)
    path = ball.write_idr(cameras, tmp_path / "scene")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    rgb, _ = ball_picture(cameras, 0)
    Image.fromarray(np.rot90(rgb)).save(path / "image" / "000.png", exif=exif)
    scene = load_scene(path)
    assert scene.cameras.sizes[0].tolist() == [80, 60]
    assert np.array_equal(scene.picture(0).rgb, rgb)


def test_colmap_works_on_the_pixels_as_stored(tmp_path):
    path = ball.write_colmap_text(ball_cameras(4), tmp_path / "scene")
    exif = Image.Exif()
    exif[0x0112] = 3
    rgb = ball_picture(ball_cameras(4), 0)[0]
    Image.fromarray(rgb).save(path / "images" / "000.png", exif=exif)
    assert np.array_equal(load_scene(path).picture(0).rgb, rgb)


def test_a_dark_background_gives_the_mask_of_the_largest_bright_piece():
    rgb = np.zeros((100, 120, 3), np.uint8)
    rgb[40:60, 50:80] = 200
    rgb[5, 5] = 200
    mask = mask_from_dark_background(rgb) > 127
    assert mask[37:63, 47:83].all()
    assert mask.sum() == 26 * 36
    assert not mask_from_dark_background(np.zeros((10, 10, 3), np.uint8)).any()


def test_a_middlebury_box_in_the_readme_is_the_sphere(tmp_path):
    path = ball.write_middlebury(ball_cameras(6), tmp_path / "scene")
    (path / "README.txt").write_text("The (tight) bounding box is\n(-0.2 -0.7 4.5)\n(0.8 0.3 5.5)\n")
    scene = load_scene(path)
    assert scene.normalisation.method == "file"
    assert scene.scale == pytest.approx(1.05 * 3**0.5 / 2)
    assert scene.translation.tolist() == pytest.approx([0.3, -0.2, 5.0])


def test_masks_are_found_by_the_names_that_programs_give_them(tmp_path):
    ball.save(tmp_path / "masks" / "a.jpg.png", np.zeros((2, 2), np.uint8))
    ball.save(tmp_path / "masks" / "sub" / "b.png", np.zeros((2, 2), np.uint8))
    assert find_mask(tmp_path, "a.jpg") == tmp_path / "masks" / "a.jpg.png"
    assert find_mask(tmp_path, "sub/b.jpg") == tmp_path / "masks" / "sub" / "b.png"
    assert find_mask(tmp_path, "c.jpg") is None


@pytest.mark.parametrize("kind", ["RGB", "grey", "soft"])
def test_grey_and_colour_masks_mean_the_same(kind, tmp_path):
    cameras = ball_cameras(6)
    path = ball.write_idr(cameras, tmp_path / "scene")
    for view, mask in enumerate(ball.masks_of(cameras)):
        high, low = (200, 90) if kind == "soft" else (255, 0)
        grey = np.where(mask, high, low).astype(np.uint8)
        ball.save(path / "mask" / f"{view:03d}.png", np.dstack([grey] * 3) if kind == "RGB" else grey)
    scene = load_scene(path, normalise="masks")
    assert np.array_equal(scene.mask(2), ball_picture(cameras, 2)[1])
