import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.geometry.rotations import (
    matrix_from_axis_angle,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rotation_angle_deg,
)

components = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: sum(x * x for x in q) > 1e-3)


def test_a_quarter_turn_about_z_takes_x_to_y():
    half = math.sqrt(0.5)
    R = matrix_from_quaternion(torch.tensor([half, 0.0, 0.0, half], dtype=torch.float64))
    assert torch.allclose(R, torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]], dtype=torch.float64))
    assert torch.allclose(R, matrix_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2], dtype=torch.float64)))


@given(q=components)
@settings(max_examples=50, deadline=None)
def test_quaternion_to_matrix_and_back_is_the_same_rotation(q):
    quaternion = torch.tensor(q, dtype=torch.float64)
    R = matrix_from_quaternion(quaternion)
    assert torch.allclose(R @ R.T, torch.eye(3, dtype=torch.float64), atol=1e-12)
    assert torch.linalg.det(R) == pytest.approx(1.0)
    back = quaternion_from_matrix(R)
    assert back[0] >= 0
    assert torch.allclose(matrix_from_quaternion(back), R, atol=1e-9)


@pytest.mark.parametrize("axis", [[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 2.0, -3.0]])
def test_half_turns_with_a_trace_of_minus_one_keep_their_axis(axis):
    unit = torch.nn.functional.normalize(torch.tensor(axis, dtype=torch.float64), dim=0)
    R = 2 * unit[:, None] * unit[None, :] - torch.eye(3, dtype=torch.float64)
    assert R.trace() == pytest.approx(-1.0)
    q = quaternion_from_matrix(R)
    assert abs(q[0]) < 1e-9
    assert abs(q[1:] @ unit) == pytest.approx(1.0)


def test_zero_quaternions_are_refused():
    with pytest.raises(ValueError, match="different from zero"):
        matrix_from_quaternion(torch.zeros(2, 4))


def test_axis_angle_is_differentiable_at_zero():
    def entry(w):
        return matrix_from_axis_angle(w)

    assert torch.autograd.gradcheck(entry, torch.zeros(3, dtype=torch.float64, requires_grad=True))
    assert torch.equal(matrix_from_axis_angle(torch.zeros(0, 3)), torch.zeros(0, 3, 3))


@pytest.mark.parametrize("angle_deg", [0.0, 1e-6, 30.0, 179.0, 180.0])
def test_the_angle_between_rotations_is_that_of_the_turn(angle_deg):
    axis = torch.nn.functional.normalize(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64), dim=0)
    a = matrix_from_axis_angle(torch.tensor([0.3, 0.2, -0.4], dtype=torch.float64))
    b = matrix_from_axis_angle(math.radians(angle_deg) * axis) @ a
    assert float(rotation_angle_deg(a, b)) == pytest.approx(angle_deg, rel=1e-5, abs=1e-9)
