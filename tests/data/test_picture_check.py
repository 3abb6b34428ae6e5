import json

import numpy as np
import pytest
import torch

from shapewright.cli.main import main
from shapewright.data.hull_axes import AxesScores, cell_centers, score_axes
from shapewright.data.kato_renders import kato_views
from shapewright.data.picture_check import check_picture_folder, is_picture_folder
from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.errors import UserError
from shapewright.geometry.solid_voxels import KATO32, KATO32_PADDED, PASCAL32, VPL32, stored_axes
from tests.data.picture_files import disks, write_kato, write_lsm, write_pascal


def solid(seed, is_mirrored=False):
    """Return the cells of three boxes: long in x, high where x is small, and a stump on one side in z."""
    grid = np.zeros((32, 32, 32), bool)
    length, height = 10 + seed % 3, 7 + seed // 3
    grid[16 - length : 16 + length, 12:16, 12:20] = True
    grid[16 - length : 12, 12 : 12 + height, 12:20] = True
    if not is_mirrored:
        grid[6:12, 12:16, 20:25] = True
    return grid


def silhouettes(grid):
    """Return the masks of a solid from Kato's ring: each pixel near which the centre of a cell falls."""
    centers = cell_centers(KATO32)[torch.from_numpy(grid.reshape(-1).copy())]
    objects = torch.zeros(24, dtype=torch.long)
    screen = kato_views().project(centers.expand(24, -1, -1), objects, torch.arange(24), 64)[..., :2].long()
    masks = torch.zeros(24, 64, 64)
    masks[torch.arange(24)[:, None], screen[..., 1], screen[..., 0]] = 1
    return (torch.nn.functional.max_pool2d(masks[:, None], 3, 1, 1)[:, 0] * 255).byte().numpy()


def write_solids(folder, split="train", seeds=(0, 1, 2), is_mirrored=False, flip=None):
    """Write Kato's files of solids, whose voxels may be turned over as a wrong reader would have them."""
    grid = np.stack([solid(seed, is_mirrored) for seed in seeds])
    mask = np.stack([silhouettes(one) for one in grid])
    images = np.concatenate([mask[:, :, None] // 2] * 3 + [mask[:, :, None]], axis=2)
    stored = stored_axes(np.flip(grid, flip) if flip else grid, "kato")
    write_kato(folder, split=split, objects=len(seeds), images=images, voxels=stored, points=None)
    return images


def test_a_good_folder_passes_and_declared_axes_win(tmp_path, capsys):
    write_solids(tmp_path)
    write_solids(tmp_path, "val", (3, 4))
    report = check_picture_folder(tmp_path)
    text = "\n".join(report.lines())
    assert report.passed, text
    assert not report.warnings
    assert text.endswith("ready to train")
    assert "train: 02958343 (car); val: 02958343 (car); test: none" in text
    assert "24 of 24 bins of poses" in text
    scores = report.axes["02958343"]
    assert scores.iou.shape == (5, 5)
    assert (scores.iou[:, :1] > scores.iou[:, 1:] + 0.01).all()
    assert scores.verdict() == "as declared"
    assert is_picture_folder(tmp_path)
    assert not is_picture_folder(tmp_path / "none")


def test_without_a_set_to_train_on_a_folder_is_not_ready(tmp_path):
    write_solids(tmp_path, "test")
    assert list(check_picture_folder(tmp_path).errors) == ["there is no set to train on"]


def test_full_grids_are_doubtful_and_empty_ones_are_errors(tmp_path):
    write_solids(tmp_path)
    grid = np.stack([np.ones((32, 32, 32), bool), np.zeros((32, 32, 32), bool), solid(2)])
    np.savez(tmp_path / "02958343_train_voxels.npz", stored_axes(grid, "kato"))
    report = check_picture_folder(tmp_path)
    assert report.warnings["voxels fill the whole grid"] == ["02958343 train 02958343_train_00000"]
    assert report.errors["voxels are empty"] == ["02958343 train 02958343_train_00001"]


def test_voxels_are_named_by_the_rule_that_made_them(tmp_path):
    write_solids(tmp_path / "raw")
    prepare_pictures(PrepareJob(source=tmp_path / "raw", out=tmp_path / "data", source_format="kato"))
    path = tmp_path / "data" / "dataset.json"
    path.write_text(path.read_text().replace(KATO32.name, KATO32_PADDED.name))
    assert f"cells ({KATO32_PADDED.name})" in "\n".join(check_picture_folder(tmp_path / "data").facts)


@pytest.mark.parametrize(("axis", "name"), [(1, "x flipped"), (2, "y flipped"), (3, "z flipped")])
def test_voxels_that_lie_the_wrong_way_are_an_error(tmp_path, axis, name):
    write_solids(tmp_path, flip=axis)
    report = check_picture_folder(tmp_path)
    assert not report.passed
    assert name in report.axes["02958343"].better_than_declared()


def test_a_mirror_image_of_symmetric_objects_is_a_tie(tmp_path):
    write_solids(tmp_path, is_mirrored=True)
    scores = check_picture_folder(tmp_path).axes["02958343"]
    assert scores.verdict() == "as declared (z flipped is a tie)"


def test_the_mirror_image_is_decided_on_the_objects_that_tell():
    iou = np.full((10, 5), 0.5)
    iou[:, 1:3] = iou[:, 4] = 0.2
    iou[0, 3] = 0.45
    assert AxesScores(iou).verdict() == "as declared (z flipped: 1 of 10 objects tell)"
    iou[0, 3] = 0.55
    assert AxesScores(iou).verdict() == "better z flipped"
    assert AxesScores(iou).better_than_declared() == ["z flipped"]


@pytest.mark.parametrize(
    ("rule", "first", "last"), [(KATO32, -0.5, 0.5), (VPL32, -31 / 64, 31 / 64), (PASCAL32, -31 / 32, 31 / 32)]
)
def test_cells_lie_where_their_rule_says(rule, first, last):
    centers = cell_centers(rule)
    assert torch.allclose(centers.amin(0), torch.full((3,), first))
    assert torch.allclose(centers.amax(0), torch.full((3,), last))
    assert centers[1, 2] > centers[0, 2]


def found(folder):
    report = check_picture_folder(folder)
    return report, "\n".join(report.lines())


def test_objects_in_two_sets_are_errors(tmp_path):
    write_solids(tmp_path)
    write_solids(tmp_path, "val", (2, 3))
    report, text = found(tmp_path)
    assert "objects of different sets have the same pictures" in text
    assert "02958343/02958343_train_00002 (train) = 02958343/02958343_val_00000 (val)" in text
    write_solids(tmp_path, "val", (3,))
    names = {"02958343": {"train": ["a", "b", "c"], "val": ["b"]}}
    clusters = {"02958343/a": "1", "02958343/b": "2", "02958343/c": "1"}
    (tmp_path / "dataset.json").write_text(json.dumps({"objects": names, "clusters": clusters}))
    report, text = found(tmp_path)
    assert "objects are in several sets: 02958343/b (train, val)" in text
    assert "near copies are in several sets: 2 (train, val)" in text
    assert "1 (train" not in text
    assert not report.passed


def test_doubtful_pictures_are_named(tmp_path):
    images = write_solids(tmp_path)
    images[0, 3] = 0
    images[1, 4, 3, 0] = 255
    images[2, 5, 0, 0, 0] = 40
    write_kato(tmp_path, images=images, voxels=None, points=None)
    (tmp_path / "02958343_train_voxels.npz").unlink()
    np.savez(tmp_path / "02958343_train_masks.npz", 0 * images[:, :, 3])
    report, text = found(tmp_path)
    assert dict(report.errors) == {
        "masks are empty: make these pictures anew; training skips them": ["02958343 train 02958343_train_00000 view 3"]
    }
    assert "masks touch the border of their pictures: objects are cut off: 02958343 train (1 of 72)" in text
    assert "colours exceed their mask: the background is not black: 02958343 train (1 of 72 pictures)" in text
    assert "masks differ from those in the pictures" in text
    assert "there are no voxels" in text


def test_pictures_and_voxels_of_other_objects_are_errors(tmp_path):
    write_solids(tmp_path)
    grid = np.zeros((3, 32, 32, 32), bool)
    grid[:, 0:3, 0:3, 0:3] = True
    images = np.load(tmp_path / "02958343_train_images.npz")["arr_0"]
    write_kato(tmp_path, images=images, voxels=grid, points=None)
    assert not found(tmp_path)[0].passed
    grid[:] = False
    write_kato(tmp_path, images=images, voxels=grid, points=None)
    assert "voxels are empty" in found(tmp_path)[1]


def test_damaged_files_are_named_and_the_rest_is_looked_at(tmp_path):
    write_solids(tmp_path)
    write_kato(tmp_path, "03001627", images=disks(3)[:, :, :3])
    report, text = found(tmp_path)
    assert "files cannot be read" in text
    assert "the mask is missing" in text
    assert "02958343" in report.axes


def test_files_that_changed_since_they_were_prepared_are_errors(tmp_path):
    write_solids(tmp_path / "src")
    out = tmp_path / "out"
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=out, source_format="kato"))
    assert found(out)[0].passed
    path = out / "02958343_train_images.npy"
    images = np.load(path)
    images[0, 0, 0, 32, 32] ^= 1
    np.save(path, images)
    assert "not as dataset.json says: damaged, or changed since: 02958343_train_images.npy" in found(out)[1]


def test_photographs_are_checked_without_hulls(tmp_path):
    write_pascal(tmp_path / "src")
    write_pascal(tmp_path / "src", kind="val", seed=1)
    out = tmp_path / "out"
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=out, source_format="pascal3d"))
    report, text = found(out)
    assert report.passed, text
    assert not report.axes
    assert "vpl32_pascal3d" in text


def test_poses_that_are_all_alike_are_doubtful(tmp_path):
    write_lsm(tmp_path, views=1, sets={"train": ["a"]})
    text = found(tmp_path)[1]
    assert "all poses are in one bin: there is nothing to confuse: 02958343 train" in text


def test_hulls_are_scored_from_the_pictures_that_are_there(tmp_path):
    write_solids(tmp_path)
    pictures = open_pictures(tmp_path, "train", PictureOptions())
    every = score_axes(pictures, KATO32).iou
    assert (every[:, 0] > 0.35).all()
    own = open_pictures(tmp_path, "train", PictureOptions(views_per_object=24))
    assert np.allclose(score_axes(own, KATO32).iou, every)


def test_a_folder_of_no_format_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="no pictures in a format"):
        check_picture_folder(tmp_path)


def test_the_exit_status_tells_if_a_folder_is_ready(tmp_path, capsys):
    write_solids(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", str(tmp_path)])
    assert ended.value.code == 0
    write_solids(tmp_path, flip=2)
    with pytest.raises(SystemExit) as ended:
        main(["data", "check", str(tmp_path)])
    assert ended.value.code == 1
    assert "hull IoU" in capsys.readouterr().out
