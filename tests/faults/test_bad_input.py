"""Scenes that cannot be trained on are refused in one clear sentence, before anything is written."""

import errno
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from shapewright.cli.main import main
from tests.data.ball import ball_cameras, write_idr


@pytest.fixture(scope="module")
def good_scene(tmp_path_factory):
    return write_idr(ball_cameras(9), tmp_path_factory.mktemp("ball") / "scene")


@pytest.fixture
def scene(good_scene, tmp_path):
    return shutil.copytree(good_scene, tmp_path / "scene")


def change_cameras(scene, change):
    arrays = dict(np.load(scene / "cameras.npz"))
    np.savez(scene / "cameras.npz", **{k: v for k, v in change(arrays).items() if v is not None})


def no_images(scene):
    shutil.rmtree(scene / "image")
    (scene / "image").mkdir()


def one_image(scene):
    for folder in ("image", "mask"):
        for path in sorted((scene / folder).iterdir())[1:]:
            path.unlink()


def mask_of_another_size(scene):
    Image.fromarray(np.zeros((10, 10), np.uint8)).save(scene / "mask" / "004.png")


def black_mask(scene):
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(scene / "mask" / "004.png")


def cameras_for_fewer_images(scene):
    change_cameras(scene, lambda arrays: {k: v for k, v in arrays.items() if not k.endswith("_8")})


def camera_with_nan(scene):
    change_cameras(scene, lambda arrays: arrays | {"world_mat_4": arrays["world_mat_4"] * np.nan})


def mirrored_camera(scene):
    mirror = np.diag([-1.0, 1.0, 1.0, 1.0])
    change_cameras(scene, lambda arrays: arrays | {"world_mat_4": arrays["world_mat_4"] @ mirror})


def no_scale(scene):
    change_cameras(scene, lambda arrays: {k: v for k, v in arrays.items() if not k.startswith("scale_mat")})


def truncated_picture(scene):
    path = scene / "image" / "004.png"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def object_outside_the_hull(scene):
    def move(arrays):
        shift = np.eye(4)
        shift[:3, 3] = [50.0, 50.0, 50.0]
        return {k: v @ shift if k.startswith("scale") else v for k, v in arrays.items()}

    change_cameras(scene, move)


def damaged_cameras(scene):
    (scene / "cameras.npz").write_bytes(b"PK nonsense")


def no_scene(scene):
    shutil.rmtree(scene)


FAULTS = {
    no_images: "image",
    one_image: "image",
    mask_of_another_size: "004.png",
    black_mask: "004.png",
    cameras_for_fewer_images: "cameras.npz",
    camera_with_nan: "cameras.npz",
    mirrored_camera: "cameras.npz",
    no_scale: "cameras.npz",
    truncated_picture: "004.png",
    object_outside_the_hull: "mask",
    damaged_cameras: "cameras.npz",
    no_scene: "scene",
}


def refuse(capsys, words, name):
    """Run a command that must fail; check the form of its answer."""
    assert main(words) == 2
    answer = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in answer if not line.startswith("warning")] == ["error", "next"]
    assert name in answer[-2]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_bad_scene_is_refused_and_nothing_is_written(scene, tmp_path, capsys, fault):
    fault(scene)
    out = tmp_path / "run"
    refuse(capsys, ["train", "surface", "--data", str(scene), "--out", str(out), "--steps", "1"], FAULTS[fault])
    assert not out.exists()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_check_finds_what_is_wrong(scene, tmp_path, capsys, fault):
    fault(scene)
    assert main(["data", "check", str(scene), "--sheet", str(tmp_path / "sheet.png")]) == 2
    output = capsys.readouterr()
    assert FAULTS[fault] in output.out + output.err


def test_a_good_scene_passes_the_check(scene, tmp_path, capsys):
    assert main(["data", "check", str(scene), "--sheet", str(tmp_path / "sheet.png")]) == 0
    assert "ready to train" in capsys.readouterr().out
    assert (tmp_path / "sheet.png").stat().st_size > 1000


def test_an_output_folder_that_is_not_empty_is_refused(scene, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    words = ["train", "surface", "--data", str(scene), "--out", str(out), "--steps", "1"]
    refuse(capsys, words, "is not empty")
    refuse(capsys, [*words, "--force"], "is not a run folder")
    assert os.listdir(out) == ["mine.txt"]


def test_a_full_disk_is_said_with_the_file_and_the_space(scene, tmp_path, capsys, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    out = tmp_path / "run"
    refuse(capsys, ["train", "surface", "--data", str(scene), "--out", str(out), "--steps", "1"], "MiB free")
    assert not [path for path in out.rglob("*") if path.is_file()]
