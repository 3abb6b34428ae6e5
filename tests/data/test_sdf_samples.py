import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapewright.data.sdf_samples import (
    SAMPLES,
    SURFACES,
    SdfFolder,
    SdfSamples,
    ShapeKey,
    read_normalisation,
    read_samples,
    read_split,
    write_normalisation,
    write_samples,
    write_split,
)
from shapewright.errors import UserError
from shapewright.geometry.point_cloud import PointCloud
from shapewright.geometry.sampling import Normalisation
from shapewright.io.point_clouds import write_point_cloud

KEY = ShapeKey("ShapeNetV2", "03001627", "a1")


def samples(positive=5, negative=3, seed=0):
    random = np.random.default_rng(seed)
    rows = random.random((positive + negative, 4), dtype=np.float32) + 0.01
    rows[positive:, 3] *= -1
    return SdfSamples(rows[:positive], rows[positive:])


def same(one, two):
    return np.array_equal(one.positive, two.positive) and np.array_equal(one.negative, two.negative)


@pytest.mark.parametrize("name", ["a.npz", "a.npy", "a"])
def test_samples_come_back_as_they_were(tmp_path, name):
    write_samples(tmp_path / name, samples())
    assert same(read_samples(tmp_path / name), samples())


def test_npz_files_are_those_of_deep_sdf(tmp_path):
    write_samples(tmp_path / "a.npz", samples())
    with np.load(tmp_path / "a.npz") as archive:
        assert sorted(archive.files) == ["neg", "pos"]
        assert archive["pos"].dtype == np.float32
        assert archive["pos"].shape == (5, 4)
    first = (tmp_path / "a.npz").read_bytes()
    write_samples(tmp_path / "a.npz", samples())
    assert (tmp_path / "a.npz").read_bytes() == first


def test_neorender_folders_have_two_files(tmp_path):
    write_samples(tmp_path / "shape", samples())
    assert sorted(path.name for path in (tmp_path / "shape").iterdir()) == ["neg.npy", "pos.npy"]


def test_rows_are_split_by_their_sign():
    rows = np.array([[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, -1], [0, 0, 0, np.nan]], dtype=np.float32)
    split = SdfSamples.from_rows(rows)
    assert (len(split.positive), len(split.negative)) == (2, 2)
    assert len(split.finite().positive) == 1


def test_double_precision_and_other_arrays_are_read(tmp_path):
    np.savez(tmp_path / "a.npz", pos=np.ones((2, 4)), neg=-np.ones((1, 4)), extra=np.zeros(3))
    assert read_samples(tmp_path / "a.npz").positive.dtype == np.float32


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pos": np.ones((2, 4))}, "no array neg"),
        ({"pos": np.ones((2, 3)), "neg": np.ones((2, 4))}, r"\[2, 3\]"),
        ({"pos": np.ones((2, 4), dtype=int), "neg": np.ones((2, 4))}, "int64"),
    ],
)
def test_what_is_no_sample_file_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        read_samples(tmp_path / "a.npz")


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"a\.npz does not exist"):
        read_samples(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"PK not a zip")
    with pytest.raises(UserError, match=r"a\.npz cannot be read"):
        read_samples(tmp_path / "a.npz")
    (tmp_path / "b.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"b\.npy cannot be read"):
        read_samples(tmp_path / "b.npy")
    (tmp_path / "half").mkdir()
    with pytest.raises(UserError, match=r"pos\.npy does not exist"):
        read_samples(tmp_path / "half")


def test_normalisations_come_back(tmp_path):
    there = Normalisation(torch.tensor([1.5, -2.0, 0.25], dtype=torch.float64), 0.125)
    write_normalisation(tmp_path / "n.npz", there)
    with np.load(tmp_path / "n.npz") as archive:
        assert archive["offset"].dtype == archive["scale"].dtype == np.float32
        assert archive["scale"].shape == (1,)
    back = read_normalisation(tmp_path / "n.npz")
    assert torch.equal(back.offset, there.offset)
    assert back.scale == there.scale


@pytest.mark.parametrize("arrays", [{"offset": np.zeros(3)}, {"offset": np.zeros(3), "scale": np.zeros(1)}])
def test_a_file_without_a_normalisation_is_refused(tmp_path, arrays):
    np.savez(tmp_path / "n.npz", **arrays)
    with pytest.raises(UserError, match="does not hold a normalisation"):
        read_normalisation(tmp_path / "n.npz")


def test_points_come_back_and_another_program_reads_their_colours(tmp_path):
    import trimesh

    points = np.random.default_rng(0).random((7, 3)).astype(np.float32)
    key = ShapeKey("toy", "all", "a")
    write_samples(key.file(tmp_path, SAMPLES, ".npz"), SdfSamples.from_rows(np.ones((4, 4), np.float32)))
    path = key.file(tmp_path, SURFACES, ".ply")
    path.parent.mkdir(parents=True)
    write_point_cloud(path, PointCloud(torch.from_numpy(points), colors=torch.full((7, 3), 0.2)))
    assert np.array_equal(SdfFolder(tmp_path).surface(key), points)
    assert trimesh.load(path).colors[0].tolist() == [51, 51, 51, 255]
    path.write_text("ply")
    with pytest.raises(UserError, match=r"a\.ply"):
        SdfFolder(tmp_path).surface(key)


NAMES = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), min_size=1, max_size=20, unique=True))
def test_splits_keep_the_order_within_a_class(tmp_path_factory, parts):
    path = tmp_path_factory.mktemp("split") / "split.json"
    keys = [ShapeKey(*part) for part in parts]
    write_split(path, keys)
    back = read_split(path)
    assert sorted(back) == sorted(keys)
    for group in {(key.dataset, key.shape_class) for key in keys}:
        assert [k for k in back if (k.dataset, k.shape_class) == group] == [
            k for k in keys if (k.dataset, k.shape_class) == group
        ]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({}, "names no shape"),
        ({"d": ["a"]}, "not an object of classes"),
        ({"d": {"c": "a"}}, "not a list of names"),
        ({"d": {"c": ["a", "a"]}}, "d/c/a twice"),
        ({"d": {"c": ["../a"]}}, "cannot be a part"),
    ],
)
def test_wrong_splits_are_explained(tmp_path, split, message):
    (tmp_path / "s.json").write_text(json.dumps(split))
    with pytest.raises(UserError, match=message):
        read_split(tmp_path / "s.json")


def test_keys_are_written_and_read():
    assert ShapeKey.parse(str(KEY)) == KEY
    with pytest.raises(ValueError, match="write dataset"):
        ShapeKey.parse("a/b")


def test_a_folder_of_deep_sdf_is_read(tmp_path):
    write_samples(KEY.file(tmp_path, "SdfSamples", ".npz"), samples())
    write_samples(ShapeKey("ShapeNetV2", "03001627", "a0").file(tmp_path, "SdfSamples", ".npy"), samples(2, 1))
    folder = SdfFolder(tmp_path)
    assert [key.name for key in folder.files] == ["a0", "a1"]
    assert same(folder.samples(KEY), samples())
    assert folder.normalisation(KEY) is None
    assert folder.surface(KEY) is None
    assert folder.manifest == {}
    assert SdfFolder(tmp_path / "SdfSamples").keys() == folder.keys()
    with pytest.raises(UserError, match="no samples of ShapeNetV2/03001627/b"):
        folder.samples(ShapeKey("ShapeNetV2", "03001627", "b"))


def test_a_folder_of_neorender_is_read(tmp_path):
    write_samples(tmp_path / "data" / "SDFs" / "03001627" / "a1", samples())
    folder = SdfFolder(tmp_path)
    (key,) = folder.keys()
    assert (key.shape_class, key.name) == ("03001627", "a1")
    assert same(folder.samples(key), samples())


def test_samples_that_are_not_finite_are_left_out(tmp_path):
    rows = samples()
    rows.positive[1, 3] = np.nan
    write_samples(KEY.file(tmp_path, "SdfSamples", ".npz"), rows)
    assert len(SdfFolder(tmp_path).samples(KEY).positive) == 4


def test_a_split_that_names_a_missing_shape_is_refused(tmp_path):
    write_samples(KEY.file(tmp_path, "SdfSamples", ".npz"), samples())
    write_split(tmp_path / "good.json", [KEY])
    write_split(tmp_path / "bad.json", [KEY, ShapeKey("ShapeNetV2", "03001627", "zz")])
    assert SdfFolder(tmp_path).select(tmp_path / "good.json") == [KEY]
    with pytest.raises(UserError, match=r"1 of 2 shapes .* ShapeNetV2/03001627/zz"):
        SdfFolder(tmp_path).select(tmp_path / "bad.json")


def test_a_folder_without_samples_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no samples"):
        SdfFolder(tmp_path)
