import collections
import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from shapewright.errors import UserError
from shapewright.io.pickles import read_object_npz, read_pickle


class Attack:
    def __init__(self, call, *arguments):
        self.call = call, arguments

    def __reduce__(self):
        return self.call


def photographs():
    """Return an array of pictures of several sizes, as Pascal3D+ has them."""
    pictures = np.empty(2, dtype=object)
    pictures[0] = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    pictures[1] = np.full((3, 1, 3), 7, np.uint8)
    return pictures


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_and_plain_values_are_read(tmp_path, protocol):
    value = {
        "images": {"a_0": b"\x89PNG\xff"},
        "viewpoints": {"a_0": (2.0, np.float32(20), np.int64(4))},
        "voxels": {"a": np.eye(3, dtype=bool)},
    }
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(value, protocol))
    read = read_pickle(path)
    assert read["images"] == value["images"]
    assert read["viewpoints"] == value["viewpoints"]
    assert np.array_equal(read["voxels"]["a"], value["voxels"]["a"])


def test_bytes_of_python_2_are_text_in_latin1(tmp_path):
    path = tmp_path / "a.pkl"
    # Python 2 writes {"a": "\x89P"} like this: a short string without an encoding.
    path.write_bytes(b"\x80\x02}q\x00U\x01aU\x02\x89Ps.")
    assert read_pickle(path)["a"].encode("latin1") == b"\x89P"


def test_arrays_of_python_2_are_read(tmp_path):
    path = tmp_path / "a.pkl"
    # numpy.arange(3, dtype="int8"), as NumPy 1 wrote it under Python 2.
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x03\x85"
        b"cnumpy\ndtype\nU\x02i1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U\x03\x00\x01\x02tb."
    )
    assert np.array_equal(read_pickle(path), np.arange(3))


@pytest.mark.parametrize("protocol", range(5))
@pytest.mark.parametrize(
    ("value", "named"),
    [
        (Attack(os.system, "true"), "system"),
        (Attack(eval, "1"), r"eval"),
        (Attack(getattr, 1, "real"), r"getattr"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (np.random.default_rng(0), "numpy.random"),
    ],
)
def test_every_other_name_is_refused_and_named(tmp_path, value, named, protocol):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"images": value}, protocol))
    with pytest.raises(UserError, match=named) as caught:
        read_pickle(path)
    assert str(path) in caught.value.message


def test_a_codec_other_than_latin1_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(b"c_codecs\nencode\n(Vtext\nVrot13\ntR.")
    with pytest.raises(UserError, match="encode with rot13"):
        read_pickle(path)


def test_nothing_of_a_refused_pickle_has_run(tmp_path):
    path, mark = tmp_path / "a.pkl", tmp_path / "mark"
    path.write_bytes(pickle.dumps(Attack(os.mkdir, str(mark))))
    with pytest.raises(UserError):
        read_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("cut", [0, 5, 30])
def test_damaged_files_are_errors(tmp_path, cut):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(np.arange(10))[:cut])
    with pytest.raises(UserError, match="cannot be read"):
        read_pickle(path)
    path.write_bytes(b"not a pickle")
    with pytest.raises(UserError, match="cannot be read"):
        read_pickle(path)
    with pytest.raises(UserError, match="No such file"):
        read_pickle(tmp_path / "none.pkl")


def test_arrays_of_objects_and_of_numbers_are_read_from_archives(tmp_path):
    path = tmp_path / "a.npz"
    numbers = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    np.savez_compressed(path, images=photographs(), numbers=numbers, none=np.zeros((0, 4)))
    read = read_object_npz(path)
    assert np.array_equal(read["numbers"], numbers)
    assert read["none"].shape == (0, 4)
    assert [np.array_equal(a, b) for a, b in zip(read["images"], photographs(), strict=True)] == [True, True]


def test_archives_are_read_as_safely(tmp_path):
    path, bad = tmp_path / "a.npz", np.empty(1, dtype=object)
    bad[0] = Attack(os.system, "true")
    np.savez(path, images=bad)
    with pytest.raises(UserError, match="system"):
        read_object_npz(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read"):
        read_object_npz(path)
    with pytest.raises(UserError, match="does not exist"):
        read_object_npz(tmp_path / "none.npz")


def test_an_archive_whose_pickle_is_no_such_array_is_an_error(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (3,)})
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", buffer.getvalue() + pickle.dumps([1, 2, 3]))
    with pytest.raises(UserError, match="not the array that its header announces"):
        read_object_npz(path)
