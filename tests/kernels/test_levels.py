"""The table of levels of a hash grid."""

import dataclasses

import pytest

from shapewright.kernels.levels import hash_levels

RESOLUTIONS = (17, 23, 32, 43, 59, 82, 112, 155, 214, 295, 407, 563, 777, 1073, 1483, 2049)


@pytest.mark.parametrize(
    ("log2_table_size", "rows", "dense"), [(15, 475_832, 3), (16, 901_816, 3), (17, 1_702_219, 4), (19, 6_101_902, 5)]
)
def test_the_usual_grid_has_the_published_sizes(log2_table_size, rows, dense):
    levels = hash_levels(16, log2_table_size, 16, 2048)
    assert levels.resolutions == RESOLUTIONS
    assert levels.rows == rows
    assert sum(levels.dense) == dense
    assert levels.width == 32


@pytest.mark.parametrize("form", ["half-cell", "paper"])
@pytest.mark.parametrize("sizes", [(1, 4, 2, 2), (5, 10, 3, 40), (16, 19, 16, 2048)])
def test_levels_lie_one_after_the_other_and_reach_the_last_corner(form, sizes):
    levels = hash_levels(*sizes, form=form)
    ends = [start + size for start, size in zip(levels.starts, levels.sizes, strict=True)]
    assert levels.starts == (0, *ends[:-1])
    assert levels.rows == ends[-1]
    for scale, resolution, dense in zip(levels.scales, levels.resolutions, levels.dense, strict=True):
        last_corner = int(scale + levels.offset) + (form == "half-cell")
        assert last_corner == resolution - 1
        assert dense == (resolution**3 <= 2 ** sizes[1])


def test_the_paper_form_has_the_resolutions_asked_for():
    levels = hash_levels(4, 8, 16, 128, form="paper")
    assert levels.scales == (16.0, 32.0, 64.0, 128.0)
    assert levels.offset == 0.0


def test_levels_are_frozen_and_hashable():
    levels = hash_levels(2, 4, 2, 4)
    assert hash(levels) == hash(hash_levels(2, 4, 2, 4))
    with pytest.raises(dataclasses.FrozenInstanceError):
        levels.offset = 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 2, 4), "num_levels"),
        ((2, -1, 2, 4), "log2_table_size"),
        ((2, 4, 1, 4), "base_resolution"),
        ((2, 4, 8, 4), "max_resolution"),
        ((2, 4, 2, 4, "half-cell", 0), "features"),
        ((2, 4, 2, 4, "tcnn"), "form"),
        ((16, 31, 512, 4096), "2\\^32"),
    ],
)
def test_sizes_that_make_no_table_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        hash_levels(*arguments)
