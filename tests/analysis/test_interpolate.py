import math

import pytest
import torch

from shapewright.analysis.interpolate import interpolate_codes
from shapewright.errors import UserError

A, B = torch.tensor([2.0, 0, 0]), torch.tensor([0.0, 1, 0])


@pytest.mark.parametrize("kind", ["linear", "slerp"])
@pytest.mark.parametrize("steps", [2, 3, 10])
def test_both_ends_are_included(kind, steps):
    codes = interpolate_codes(A, B, steps, kind)
    assert codes.shape == (steps, 3)
    assert torch.allclose(codes[0], A)
    assert torch.allclose(codes[-1], B, atol=1e-6)


def test_linear_steps_are_equal():
    codes = interpolate_codes(A, B, 5)
    assert torch.allclose(codes.diff(dim=0), (B - A).expand(4, 3) / 4)


def test_slerp_turns_evenly_and_changes_its_length_evenly():
    codes = interpolate_codes(A, B, 7, "slerp")
    assert torch.allclose(codes.norm(dim=1), torch.linspace(2, 1, 7))
    angles = torch.atan2(codes[:, 1], codes[:, 0])
    assert torch.allclose(angles, torch.linspace(0, math.pi / 2, 7), atol=1e-6)


def test_slerp_keeps_unit_codes_on_the_sphere_where_the_line_leaves_it():
    generator = torch.Generator().manual_seed(0)
    ends = torch.nn.functional.normalize(torch.randn(2, 64, generator=generator, dtype=torch.float64), dim=1)
    assert torch.allclose(interpolate_codes(*ends, 9, "slerp").norm(dim=1), torch.ones(9, dtype=torch.float64))
    assert interpolate_codes(*ends, 9)[4].norm() < 0.8


def test_slerp_is_reversible_and_follows_rotations():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5, generator=generator, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    codes = interpolate_codes(a, b, 6, "slerp")
    assert torch.allclose(interpolate_codes(b, a, 6, "slerp"), codes.flip(0))
    assert torch.allclose(interpolate_codes(turn @ a, turn @ b, 6, "slerp"), codes @ turn.T)


@pytest.mark.parametrize("shift", [0.0, 1e-9, 1e-5])
def test_codes_of_nearly_one_direction_go_straight(shift):
    near = 3 * A + torch.tensor([0.0, shift, 0])
    codes = interpolate_codes(A.double(), near.double(), 5, "slerp")
    assert torch.allclose(codes, interpolate_codes(A.double(), near.double(), 5), atol=1e-9)


def test_zero_has_no_direction_and_the_way_from_it_is_straight():
    assert torch.equal(interpolate_codes(torch.zeros(3), B, 4, "slerp"), interpolate_codes(torch.zeros(3), B, 4))


def test_what_has_no_way_is_refused():
    with pytest.raises(UserError, match="opposite directions"):
        interpolate_codes(A, -A, 3, "slerp")
    with pytest.raises(ValueError, match="steps"):
        interpolate_codes(A, B, 1)
    with pytest.raises(ValueError, match="second must have shape"):
        interpolate_codes(A, B[:2], 3)
    with pytest.raises(ValueError, match="must be finite"):
        interpolate_codes(A, A * math.nan, 3)
    with pytest.raises(ValueError, match="'cubic'"):
        interpolate_codes(A, B, 3, "cubic")
