import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from shapewright.data.view_prior_pack import (
    SKIPPED_IDS,
    decode_picture,
    read_vpl_class,
)
from shapewright.errors import UserError
from tests.data.picture_files import disks, write_vpl


def test_the_exact_format_is_read(tmp_path):
    pack = write_vpl(tmp_path)
    arrays = read_vpl_class(tmp_path, "02958343", "train", 56)
    assert arrays.ids == ("a", "b")
    assert np.array_equal(arrays.images[1], disks(1, 3, 56, seed=1)[0])
    assert np.array_equal(arrays.voxels[1], pack["voxels"]["02958343_b"])
    distance, elevation, azimuth = pack["viewpoints"]["02958343_b_2"]
    assert arrays.angles_deg[1, 2].tolist() == [azimuth, elevation]
    assert np.linalg.norm(arrays.cameras[1, 2, :, 3]) == pytest.approx(distance)
    assert arrays.cameras[1, 2, 1, 3] == pytest.approx(2 * np.sin(np.radians(elevation)))


def test_objects_known_to_be_bad_are_left_out(tmp_path):
    write_vpl(tmp_path, ids=("a", *SKIPPED_IDS))
    assert read_vpl_class(tmp_path, "02958343", "train", 56).ids == ("a",)


def test_alpha_above_a_tenth_is_the_object():
    rgba = np.full((1, 2, 4), 200, np.uint8)
    rgba[0, :, 3] = [25, 26]
    file = io.BytesIO()
    Image.fromarray(np.concatenate([rgba, rgba])).save(file, "PNG")
    picture = decode_picture(file.getvalue(), "here", 2)
    assert picture[3].tolist() == [[0, 255]] * 2
    assert picture[0].tolist() == [[0, 200]] * 2
    assert np.array_equal(decode_picture(file.getvalue().decode("latin1"), "here", 2), picture)


@pytest.mark.parametrize(("mode", "size"), [("RGB", (8, 8)), ("RGBA", (8, 6))])
def test_pictures_without_alpha_or_not_square_are_errors(mode, size):
    file = io.BytesIO()
    Image.new(mode, size).save(file, "PNG")
    with pytest.raises(UserError, match="must be square and have alpha"):
        decode_picture(file.getvalue(), "here", 8)
    with pytest.raises(UserError, match="is no picture"):
        decode_picture(file.getvalue()[:20], "here", 8)


@pytest.mark.parametrize(
    ("key", "name", "value", "message"),
    [
        ("images", "02958343_a_9", b"x", "has 3 views of 02958343_b, not 4"),
        ("images", "picture", b"x", "not class_id_view"),
        ("images", "02958343_a_1", b"no", "02958343_a_1 is no picture"),
        ("viewpoints", "02958343_a_1", (1, 2), "no viewpoint"),
        ("viewpoints", "02958343_a_1", (float("nan"), 2, 3), "that is none"),
        ("voxels", "02958343_a", np.zeros(3), "no voxels"),
    ],
)
def test_what_is_not_of_the_format_is_one_sentence(tmp_path, key, name, value, message):
    pack = write_vpl(tmp_path)
    write_vpl(tmp_path, **{key: {**pack[key], name: value}})
    with pytest.raises(UserError, match=message):
        read_vpl_class(tmp_path, "02958343", "train", 56)


def test_an_empty_or_foreign_pickle_is_an_error(tmp_path):
    write_vpl(tmp_path, images={})
    with pytest.raises(UserError, match="is empty"):
        read_vpl_class(tmp_path, "02958343", "train", 56)
    path = tmp_path / "02958343_train.pkl"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="does not hold images, viewpoints, voxels"):
        read_vpl_class(tmp_path, "02958343", "train", 56)
    path.write_bytes(pickle.dumps({"images": os.system}))
    with pytest.raises(UserError, match="system"):
        read_vpl_class(tmp_path, "02958343", "train", 56)
