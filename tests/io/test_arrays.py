import numpy as np
import pytest

from shapewright.errors import UserError
from shapewright.io.arrays import read_npz


def test_arrays_are_read_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(3), y=np.eye(2))
    arrays = read_npz(tmp_path / "a.npz")
    assert sorted(arrays) == ["x", "y"]
    assert arrays["x"].tolist() == [0, 1, 2]


def test_compressed_archives_are_read(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000))
    assert read_npz(tmp_path / "a.npz")["x"].shape == (1000,)


def test_an_empty_archive_has_no_arrays(tmp_path):
    np.savez(tmp_path / "a.npz")
    assert read_npz(tmp_path / "a.npz") == {}


def test_missing_damaged_and_pickled_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        read_npz(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", x=np.arange(1000))
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (b"", b"hello", whole[: len(whole) // 2], whole[:200] + b"\xff" * 50 + whole[250:]):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.npz cannot be read"):
            read_npz(tmp_path / "bad.npz")
    np.savez(tmp_path / "pickle.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match=r"pickle\.npz cannot be read"):
        read_npz(tmp_path / "pickle.npz")


def test_a_single_array_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(3))
    with pytest.raises(UserError, match="single array"):
        read_npz(tmp_path / "a.npy")
