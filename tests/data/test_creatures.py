"""Made-up objects: closed, in one piece, each its own, and different from every side."""

import pytest
import torch

from shapewright.data.creatures import Proportions, build_creature, creature_name, creature_number, make_creature
from shapewright.data.render_object import normalised
from shapewright.geometry.topology import count_components, is_watertight
from shapewright.kernels.voxel_ops import kato_voxels

NUMBERS = range(8)


@pytest.fixture(scope="module")
def creatures():
    return [normalised(make_creature(number), "box") for number in NUMBERS]


def overlap(a, b):
    return float((a & b).sum() / (a | b).sum())


def test_creatures_are_closed_balls_in_one_piece(creatures):
    for mesh in creatures:
        assert is_watertight(mesh)
        assert count_components(mesh) == 1
        edges = mesh.num_faces * 3 // 2
        assert mesh.num_vertices - edges + mesh.num_faces == 2
        assert mesh.volume > 0.02


def test_the_same_number_makes_the_same_creature():
    one, two = make_creature(3), make_creature(3)
    assert torch.equal(one.vertices, two.vertices)
    assert torch.equal(one.vertex_colors, two.vertex_colors)


def test_no_creature_is_like_another(creatures):
    cells = [kato_voxels(mesh) for mesh in creatures]
    pairs = [overlap(cells[i], cells[j]) for i in NUMBERS for j in range(i)]
    assert max(pairs) < 0.75
    assert min(pairs) > 0.1


def test_a_creature_differs_from_itself_turned_or_mirrored(creatures):
    for mesh in creatures:
        cells = kato_voxels(mesh)
        assert max(overlap(cells, cells.flip(0)), overlap(cells, cells.flip(2))) < 0.85
        assert max(overlap(cells, cells.flip(0).flip(2)), overlap(cells, cells.transpose(0, 2))) < 0.75


def test_parts_have_colours_of_their_own(creatures):
    for mesh in creatures:
        assert mesh.vertex_colors.unique(dim=0).shape[0] >= 6
    assert not torch.equal(creatures[0].vertex_colors[0], creatures[1].vertex_colors[0])


def test_names_tell_numbers():
    assert creature_number(creature_name(42)) == 42
    for name in ("creature_", "creature_x", "car_00001", "42"):
        with pytest.raises(ValueError, match="is no creature"):
            creature_number(name)


def test_what_no_creature_has_is_refused(proportions):
    with pytest.raises(ValueError, match="7 rows, got 2"):
        build_creature(proportions, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="width must lie in"):
        type(proportions)(**{**proportions.__dict__, "width": 1.5})


@pytest.fixture
def proportions():

    return Proportions(**dict.fromkeys(Proportions.__dataclass_fields__, 0.5))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_ends_of_all_proportions_are_in_one_piece(share):

    mesh = build_creature(Proportions(**dict.fromkeys(Proportions.__dataclass_fields__, share)), torch.rand(7, 3))
    assert is_watertight(mesh)
