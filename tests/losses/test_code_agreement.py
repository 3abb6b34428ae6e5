"""How well two codes of one object agree."""

import pytest
import torch

from shapewright.losses.code_agreement import code_agreement_loss


def test_it_is_the_distance_over_the_spread():
    codes = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 3.0], [0.0, -3.0]])
    # The spread is (1 + 1 + 9 + 9) / 4 = 5.
    assert float(code_agreement_loss(codes, codes + torch.tensor([2.0, 1.0]))) == pytest.approx(1.0)
    assert float(code_agreement_loss(codes, codes)) == 0


def test_neither_length_nor_place_of_the_codes_matters():
    generator = torch.Generator().manual_seed(0)
    codes, others = torch.randn(2, 4000, 8, generator=generator)
    loss = float(code_agreement_loss(codes, others))
    assert loss == pytest.approx(2.0, rel=0.05)
    assert float(code_agreement_loss(0.01 * codes + 3, 0.01 * others + 3)) == pytest.approx(loss, rel=1e-3)


def test_both_codes_move_and_moving_apart_from_other_objects_helps():
    codes = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    others = torch.tensor([[1.5], [-0.5]], requires_grad=True)
    code_agreement_loss(codes, others).backward()
    assert (others.grad > 0).all()
    # (0.5^2 + 0.5^2) / 2 over ((a - b) / 2)^2 with a = 1, b = -1, derived by a and b.
    assert codes.grad.flatten().tolist() == pytest.approx([-0.5 - 0.25, -0.5 + 0.25])


def test_equal_codes_have_no_spread_and_stay_finite():
    codes = torch.ones(3, 4, requires_grad=True)
    loss = code_agreement_loss(codes, codes.detach() + 1e-3)
    loss.backward()
    assert bool(loss.isfinite())
    assert bool(codes.grad.isfinite().all())


def test_codes_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="others"):
        code_agreement_loss(torch.ones(3, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="codes"):
        code_agreement_loss(torch.ones(3), torch.ones(3))
