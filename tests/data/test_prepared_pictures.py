import json
import os

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from shapewright.cli.main import main
from shapewright.data.kato_renders import SPLITS, read_kato_class
from shapewright.data.lsm import read_lsm_class
from shapewright.data.pascal3d import read_crops
from shapewright.data.picture_folders import PictureOptions, open_pictures
from shapewright.data.prepare_pictures import PrepareJob, prepare_pictures
from shapewright.data.prepared_pictures import changed_files, read_prepared_class
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable
from tests.data.picture_files import write_kato, write_lsm, write_pascal, write_vpl


def prepared(tmp_path, source_format, **options):
    out = tmp_path / "out"
    prepare_pictures(PrepareJob(source=tmp_path / "src", out=out, source_format=source_format, **options))
    return out


def manifest(folder):
    return json.loads((folder / "dataset.json").read_text())


def same(one, other):
    assert np.array_equal(one.images, other.images)
    assert np.array_equal(one.voxels, other.voxels)
    assert torch.equal(one.pose_bins, other.pose_bins)
    assert torch.equal(one.views.world_from_camera, other.views.world_from_camera)
    assert (one.ids, one.categories, one.num_bins) == (other.ids, other.categories, other.num_bins)
    assert one.views.half_angle_deg == other.views.half_angle_deg


def test_kato_is_the_same_after_preparing_and_is_mapped(tmp_path):
    for name in ("02958343", "03001627"):
        for split in SPLITS:
            write_kato(tmp_path / "src", name, split, objects=2)
    out = prepared(tmp_path, "kato")
    for split in SPLITS:
        options = PictureOptions()
        same(open_pictures(out, split, options), open_pictures(tmp_path / "src", split, options))
    one = open_pictures(out, "train", PictureOptions(classes=("car",)))
    assert not one.images.flags.writeable
    assert np.array_equal(one.points, read_kato_class(tmp_path / "src", "02958343", "train").points)
    facts = manifest(out)
    assert facts["classes"] == ["02958343", "03001627"]
    assert facts["voxel_rule"] == "kato32"
    assert facts["distances"] == [2.732, 2.732]
    assert changed_files(out) == []
    pictures = open_pictures(out, "train", PictureOptions(views_per_object=1))
    assert pictures.images.shape == (4, 1, 4, 64, 64)


def test_chosen_classes_and_another_size_are_prepared(tmp_path):
    write_kato(tmp_path / "src", "02958343")
    write_kato(tmp_path / "src", "03001627")
    out = prepared(tmp_path, "kato", classes=("chair",), size=32)
    assert manifest(out)["classes"] == ["03001627"]
    assert read_prepared_class(out, "03001627", "train").images.shape[-1] == 32


def test_lsm_is_the_same_after_preparing_whatever_the_bins(tmp_path):
    write_lsm(tmp_path / "src")
    out = prepared(tmp_path, "lsm")
    for options in (PictureOptions(), PictureOptions(azimuth_bin_deg=20, elevation_bin_deg=15)):
        same(open_pictures(out, "train", options), open_pictures(tmp_path / "src", "train", options))
    original = read_lsm_class(tmp_path / "src", "02958343", "val", 64, "original")
    (tmp_path / "out").rename(tmp_path / "first")
    out = prepared(tmp_path, "lsm", lsm_axes="original", size=32)
    assert np.array_equal(open_pictures(out, "val", PictureOptions()).voxels, original.voxels)
    assert manifest(out)["lsm_axes"] == "original"


def test_packed_pictures_are_prepared_without_a_pickle_left(tmp_path):
    for split in SPLITS:
        write_vpl(tmp_path / "src", split=split)
    out = prepared(tmp_path, "vpl")
    pictures = open_pictures(out, "test", PictureOptions(image_size=224))
    assert pictures.images.shape == (2, 3, 4, 224, 224)
    assert pictures.num_bins == 72
    assert manifest(out)["voxel_rule"] == "vpl32"
    for path in out.glob("*.npy"):
        np.load(path, allow_pickle=False)


def test_photographs_are_prepared_with_the_bins_of_training(tmp_path):
    write_pascal(tmp_path / "src")
    write_pascal(tmp_path / "src", kind="imagenet", count=3, seed=1)
    write_pascal(tmp_path / "src", kind="val", count=2, seed=2)
    out = prepared(tmp_path, "pascal3d", size=32)
    train = open_pictures(out, "train", PictureOptions(image_size=32))
    assert train.images.shape == (7, 1, 3, 32, 32)
    assert train.targets.shape == (7, 1, 32, 32)
    assert train.views.half_angle_deg is None
    assert sorted(train.pose_bins.unique().tolist()) == list(range(train.num_bins))
    val, test = (open_pictures(out, split, PictureOptions(image_size=32)) for split in ("val", "test"))
    same(val, test)
    assert len(val) == 2
    assert val.num_bins == train.num_bins
    every = torch.arange(7), torch.zeros(7, dtype=torch.long)
    assert train.masks(*every).shape == (7, 32, 32)
    assert torch.allclose(train.directions(*every).norm(dim=1), torch.ones(7))
    crops = read_crops(out, "car")
    assert crops.pictures.shape == (7, 3, 51, 51)
    assert crops.boxes.shape == (7, 4)
    assert read_crops(out, "car", "test").flipped_bins.shape == (2,)
    small = open_pictures(out, "train", PictureOptions(image_size=16))
    assert small.images.shape[-1] == small.targets.shape[-1] == 16


def about_y(degrees):
    """Return a rotation a picture, each in another bin if they are 45 degrees apart."""
    return Rotation.from_euler("y", np.array(degrees)[:, None] + 10.0, degrees=True).as_matrix()


def test_photographs_are_numbered_by_the_table_that_is_given(tmp_path):
    write_pascal(tmp_path / "src", rotation_matrices=about_y([0, 45, 90, 135]))
    write_pascal(tmp_path / "src", kind="val", count=3, rotation_matrices=about_y([-90, 90, 0]))
    options = PictureOptions(image_size=32)
    own = open_pictures(prepared(tmp_path, "pascal3d", size=32), "val", options)
    # Training has the bins of 0, 45, 90 and 135 degrees: a turn of 90 is the third of these.
    assert own.pose_bins.ravel().tolist() == [-1, 2, 0]
    first = own.bin_table.euler_bins
    given = BinTable(euler_bins=(first[0] - 2 * 64, first[0], first[2]))
    other = open_pictures(tmp_path / "out", "val", options, 0, given)
    assert other.pose_bins.ravel().tolist() == [0, 2, 1]
    assert (other.num_bins, other.bin_table) == (3, given)
    # What a table says of other data does not change these.
    assert open_pictures(tmp_path / "out", "val", options, 0, BinTable(elevations_deg=(0.0, 9.0))).num_bins == 4


def test_classes_whose_bins_stand_for_other_poses_are_not_mixed(tmp_path):
    write_pascal(tmp_path / "src", rotation_matrices=about_y([0, 0, 45, 45]))
    write_pascal(tmp_path / "src", name="chair", rotation_matrices=about_y([0, 0, 90, 90]))
    out = prepared(tmp_path, "pascal3d", size=32)
    with pytest.raises(UserError, match="car and chair differ in views, bins or field of view"):
        open_pictures(out, "train", PictureOptions(image_size=32))


def test_a_folder_without_a_table_keeps_its_numbers(tmp_path):
    write_pascal(tmp_path / "src", rotation_matrices=about_y([0, 45, 90, 135]))
    out = prepared(tmp_path, "pascal3d", size=32)
    facts = manifest(out)
    assert facts["pose_bins"]["car"]["count"] == len(facts["pose_bins"]["car"].pop("euler_bins")) == 4
    (out / "dataset.json").write_text(json.dumps(facts))
    np.save(out / "car_train_pose_bins.npy", np.array([[0], [1], [2], [3]]))
    pictures = open_pictures(out, "train", PictureOptions(image_size=32), 0, BinTable(euler_bins=(7, 8)))
    assert pictures.pose_bins.ravel().tolist() == [0, 1, 2, 3]
    assert (pictures.num_bins, pictures.bin_table) == (4, None)


@pytest.mark.parametrize(
    ("source_format", "write", "size"),
    [("kato", write_kato, 64), ("lsm", write_lsm, 64), ("vpl", write_vpl, 224), ("pascal3d", write_pascal, 224)],
)
def test_pictures_are_stored_as_large_as_the_published_runs_learn_from_them(tmp_path, source_format, write, size):
    write(tmp_path / "src")
    out = prepared(tmp_path, source_format)
    (path,) = out.glob("*_train_images.npy")
    assert np.load(path, mmap_mode="r").shape[-2:] == (size, size)
    assert manifest(out)["size"] == (None if source_format == "kato" else size)


def test_what_is_known_of_near_copies_is_kept(tmp_path):
    write_kato(tmp_path / "src", objects=1)
    facts = {"objects": {"02958343": {"train": ["a"]}}, "clusters": {"02958343/a": "7"}}
    (tmp_path / "src" / "dataset.json").write_text(json.dumps(facts))
    out = prepared(tmp_path, "kato")
    assert manifest(out)["clusters"] == {"02958343/a": "7"}
    assert manifest(out)["objects"] == facts["objects"]


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    write_kato(tmp_path / "src")
    words = ["data", "prepare", str(tmp_path / "src"), "--format", "kato", "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "02958343: 3 objects in train" in capsys.readouterr().out
    assert main(words) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("source_format", ["kato", "lsm", "vpl", "pascal3d"])
def test_a_folder_of_another_format_is_one_sentence_and_nothing_is_left(tmp_path, source_format):
    (tmp_path / "src").mkdir()
    with pytest.raises(UserError, match=f"nothing of the format {source_format}"):
        prepared(tmp_path, source_format)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_what_is_begun_and_fails_leaves_nothing(tmp_path):
    write_vpl(tmp_path / "src")
    write_vpl(tmp_path / "src", split="val", voxels={})
    with pytest.raises(UserError, match="no voxels"):
        prepared(tmp_path, "vpl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]


def test_a_full_disk_is_said_before_pictures_are_written(tmp_path, monkeypatch):
    write_lsm(tmp_path / "src")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(UserError, match="disk is full"):
        prepared(tmp_path, "lsm")


def cut(path):
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("images", os.remove, "is missing"),
        ("images", cut, "cannot be read"),
        ("images", lambda path: np.save(path, np.zeros((3, 24, 3, 64, 64), np.uint8)), "the mask is missing"),
        ("images", lambda path: np.save(path, np.zeros((2, 24, 4, 64, 64), np.uint8)), "does not fit the 3 objects"),
        ("cameras", lambda path: np.save(path, np.zeros((2, 24, 3, 4), np.float32)), "2 rows for 3 objects"),
        ("pose_bins", os.remove, "pose_bins.npy is missing"),
        ("voxels", lambda path: np.save(path, np.zeros((3, 16, 16, 16), bool)), "does not fit the 3 objects"),
        ("cameras", lambda path: np.save(path, np.full((1, 24, 3, 4), np.nan, np.float32)), "not finite"),
        ("pose_bins", lambda path: np.save(path, np.full((3, 24), 99)), "from 99 to 99, but dataset.json counts 24"),
        ("pose_bins", lambda path: np.save(path, np.full((3, 24), -1)), "from -1 to -1, but dataset.json counts 24"),
    ],
)
def test_a_damaged_folder_is_one_sentence(tmp_path, name, spoil, message):
    write_kato(tmp_path / "src")
    out = prepared(tmp_path, "kato")
    spoil(out / f"02958343_train_{name}.npy")
    with pytest.raises(UserError, match=message):
        read_prepared_class(out, "02958343", "train")
    assert changed_files(out) == [f"02958343_train_{name}.npy"]


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"half_angle_deg": "x"}, "half_angle_deg 'x'"),
        ({"half_angle_deg": True}, "half_angle_deg True"),
        ({"half_angle_deg": -3}, "half_angle_deg -3"),
        ({"voxel_rule": "mine"}, "no voxel rule 'mine'; known: kato32,"),
        ({"pose_bins": {}}, "counts 0"),
    ],
)
def test_wrong_facts_of_a_folder_are_one_sentence(tmp_path, facts, message):
    write_kato(tmp_path / "src")
    out = prepared(tmp_path, "kato")
    (out / "dataset.json").write_text(json.dumps(manifest(out) | facts))
    with pytest.raises(UserError, match=message):
        open_pictures(out, "train", PictureOptions())
