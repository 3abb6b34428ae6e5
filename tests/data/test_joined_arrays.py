import numpy as np
import pytest

from shapewright.data.joined_arrays import JoinedArrays

RANDOM = np.random.default_rng(0)
PARTS = [RANDOM.integers(0, 255, (count, 4, 3, 5), dtype=np.uint8) for count in (2, 0, 3, 1)]
WHOLE, JOINED = np.concatenate(PARTS), JoinedArrays(PARTS)
OBJECTS, VIEWS = np.array([5, 0, 2, 2, 4]), np.array([1, 3, 0, 2, 3])


@pytest.mark.parametrize(
    "key",
    [
        0,
        -1,
        (5, 2),
        (3, 2, -1),
        slice(None),
        slice(1, 5),
        slice(4, 4),
        (slice(1, 4), slice(None), -1),
        (slice(6, 9), slice(None), -1),
        (slice(None), slice(None), slice(3)),
        OBJECTS,
        (OBJECTS, VIEWS),
        (OBJECTS, VIEWS, -1),
        (OBJECTS, slice(None), -1),
        (np.stack([OBJECTS, OBJECTS]), np.stack([VIEWS, VIEWS[::-1]])),
    ],
    ids=str,
)
def test_what_is_asked_for_is_that_of_one_array(key):
    assert np.array_equal(JOINED[key], WHOLE[key])
    assert JOINED[key].dtype == WHOLE.dtype


def test_it_has_the_shape_of_all_and_becomes_an_array():
    assert (len(JOINED), JOINED.shape, JOINED.dtype) == (6, (6, 4, 3, 5), np.dtype(np.uint8))
    assert np.array_equal(np.asarray(JOINED), WHOLE)
    assert np.array_equal(np.asarray(JoinedArrays([JOINED, PARTS[0]])), np.concatenate([WHOLE, PARTS[0]]))
    with pytest.raises(IndexError):
        JOINED[6]


def test_parts_are_not_copied(tmp_path):
    np.save(tmp_path / "part.npy", PARTS[0])
    part = np.load(tmp_path / "part.npy", mmap_mode="r+")
    joined = JoinedArrays([part, part])
    part[1] = 7
    assert (joined[3] == 7).all()


def test_parts_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="must be alike but for the first axis"):
        JoinedArrays([PARTS[0], PARTS[0][:, :2]])
