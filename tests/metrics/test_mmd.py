import itertools
import math
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.errors import UserError
from shapewright.metrics.mmd import mean_binned_mmd, mean_pairwise_mmd, mmd, mmd_loss, pose_mmd_loss, unbiased_mmd


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mmd_by_loops(x, y, unbiased=False):
    """The definition, one pair of codes at a time."""
    codes, n = [*x.double().tolist(), *y.double().tolist()], len(x)
    d2 = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in codes] for p in codes]
    s = sum(map(sum, d2)) / (4 * n * n - 2 * n) / 4
    k = [[sum(math.exp(-d / (2**q * s)) for q in range(5)) for d in row] for row in d2]
    pairs = [(i, j) for i, j in itertools.product(range(n), range(n)) if i != j or not unbiased]
    return sum(k[i][j] + k[n + i][n + j] - k[i][n + j] - k[n + i][j] for i, j in pairs) / len(pairs)


def test_closed_forms_are_met():
    single = mmd(torch.tensor([[0.0]]), torch.tensor([[3.0]]))
    assert single == pytest.approx(10 - 2 * sum(math.exp(-4 / 2**q) for q in range(5)), abs=1e-12)
    assert single == pytest.approx(6.186276, abs=1e-6)
    assert mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])) == pytest.approx(4.579796, abs=1e-6)


def test_it_is_the_definition():
    x, y = normal(7, 5), normal(7, 5, seed=1) + 0.3
    assert mmd(x, y) == pytest.approx(mmd_by_loops(x, y), rel=1e-6)
    assert mmd_loss(x.double(), y.double()).item() == pytest.approx(mmd_by_loops(x, y), rel=1e-10)
    assert unbiased_mmd(x, y) == pytest.approx(mmd_by_loops(x, y, unbiased=True), rel=1e-5)


def test_it_grows_with_a_shift():
    # Published for one draw of 100 points: 0, .0032, .0126, .0502, .297, 1.01.
    x = normal(100, 64)
    found = [mmd(x, x + shift) for shift in (0, 0.05, 0.1, 0.2, 0.5, 1)]
    assert found == pytest.approx([0, 0.0032, 0.0126, 0.0502, 0.297, 1.01], rel=0.02, abs=1e-12)


@pytest.mark.parametrize(("n", "floor"), [(24, 0.25), (100, 0.061)])
def test_two_samples_of_one_law_are_the_floor_apart(n, floor):
    found = [mmd(normal(n, 32, seed=2 * i), normal(n, 32, seed=2 * i + 1)) for i in range(20)]
    assert sum(found) / 20 == pytest.approx(floor, rel=0.05)
    assert mean_pairwise_mmd(normal(n, 2, 3)).floor == pytest.approx(floor, rel=0.02)


def test_without_its_diagonal_it_tells_objects_that_move_apart_from_poses_that_differ():
    objects = normal(12, 1, 32)
    of_each = objects + 0.5 * normal(12, 24, 32, seed=1)
    of_all = objects + 0.5 * normal(1, 24, 32, seed=2)
    each, alike = mean_pairwise_mmd(of_each), mean_pairwise_mmd(of_all)
    assert each.mean > 0.1
    assert abs(each.unbiased) < 0.02 * each.mean
    assert alike.unbiased > 0.7 * alike.mean
    assert math.isnan(unbiased_mmd(normal(1, 4), normal(1, 4, seed=1)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), offset=st.floats(-10, 10))
def test_order_scale_and_offset_do_not_matter(seed, scale, offset):
    x, y = normal(6, 4, seed=seed, dtype=torch.float64), normal(6, 4, seed=seed + 1, dtype=torch.float64) + 0.5
    value = mmd(x, y)
    assert 0 <= value <= 10
    assert mmd(y, x) == pytest.approx(value, rel=1e-9)
    assert mmd(x.flip(0), y) == pytest.approx(value, rel=1e-9)
    assert mmd(scale * x + offset, scale * y + offset) == pytest.approx(value, rel=1e-6)
    assert mmd(x, x.flip(0)) == pytest.approx(0, abs=1e-12)


def test_more_codes_than_a_chunk_holds_are_counted_once():
    x, y = normal(700, 8), normal(700, 8, seed=1) + 0.2
    assert mmd(x, y) == pytest.approx(mmd_loss(x.double(), y.double()).item(), rel=1e-9)


def test_24_views_are_276_pairs_within_a_second():
    codes = normal(60, 24, 256)
    start = time.process_time()
    result = mean_pairwise_mmd(codes)
    assert time.process_time() - start < 1.0
    assert (result.pairs, result.n) == (276, 60)
    assert result.floor == pytest.approx(6.1 / 60)
    assert result.mean == pytest.approx(6.1 / 60, rel=0.05)
    assert result.mean_norm == pytest.approx(16, rel=0.02)


def test_the_mean_is_over_all_pairs_of_views():
    codes = normal(5, 3, 4)
    pairs = [mmd(codes[:, i], codes[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert mean_pairwise_mmd(codes).mean == pytest.approx(sum(pairs) / 3)
    pairs = [unbiased_mmd(codes[:, i], codes[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert mean_pairwise_mmd(codes).unbiased == pytest.approx(sum(pairs) / 3)


def test_collapse_shows_in_the_spread_alone():
    codes = normal(10, 4, 8, dtype=torch.float64)
    healthy, collapsed = mean_pairwise_mmd(codes + 1), mean_pairwise_mmd(1e-3 * codes + 1)
    assert collapsed.mean == pytest.approx(healthy.mean, rel=1e-6)
    assert collapsed.between_object_spread == pytest.approx(1e-3 * healthy.between_object_spread, rel=1e-6)
    two = torch.tensor([[[1.0], [3.0]], [[-1.0], [-3.0]]])
    assert mean_pairwise_mmd(two).between_object_spread == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_constant_codes_have_no_mmd_and_say_why(value):
    codes = torch.full((6, 3, 5), value)
    assert math.isnan(mmd(codes[:, 0], codes[:, 1]))
    result = mean_pairwise_mmd(codes)
    assert math.isnan(result.mean)
    assert "equal" in result.note
    rounding = codes * (1 + torch.finfo(torch.float32).eps * normal(6, 3, 5).sign())
    assert math.isnan(mean_pairwise_mmd(rounding).mean)
    assert mean_pairwise_mmd(normal(6, 3, 5)).note == ""


def test_bins_of_random_poses_are_compared_at_one_number_of_codes():
    bins = torch.tensor([0] * 30 + [3] * 25 + [7] * 19 + [9] * 40)
    objects = torch.arange(len(bins)) % 12
    codes = normal(len(bins), 6)
    result = mean_binned_mmd(codes, bins, objects, seed=3)
    assert (result.pairs, result.n) == (3, 25)
    assert result == mean_binned_mmd(codes, bins, objects, seed=3)
    codes[bins == 3] += 1.0
    assert mean_binned_mmd(codes, bins, objects, seed=3).mean > result.mean + 0.3
    with pytest.raises(UserError, match="Only 1 of 4 pose bins hold 35"):
        mean_binned_mmd(codes, bins, objects, fewest=35)


def test_the_loss_has_the_right_gradient():
    x, y = normal(4, 3, dtype=torch.float64), normal(6, 3, seed=1, dtype=torch.float64)
    x.requires_grad_()
    y.requires_grad_()
    assert torch.autograd.gradcheck(mmd_loss, (x, y))
    bins = torch.tensor([0, 2, 2, 5])
    assert torch.autograd.gradcheck(lambda codes: pose_mmd_loss(codes, bins), (x,))


def test_the_loss_does_not_reward_shrinking():
    codes = normal(12, 4, dtype=torch.float64).requires_grad_()
    mmd_loss(codes[:6], codes[6:] + 1).backward()
    x, y = codes.detach()[:6], codes.detach()[6:] + 1
    middle = torch.cat([x, y]).mean(0)
    along = (codes.grad * torch.cat([x - middle, y - middle])).sum()
    assert along.item() == pytest.approx(0, abs=1e-12)


def test_two_bins_are_two_sets():
    codes = normal(9, 4)
    bins = torch.tensor([1, 0, 0, 1, 1, 0, 1, 1, 1])
    assert pose_mmd_loss(codes, bins).item() == pytest.approx(
        mmd_loss(codes[bins == 0], codes[bins == 1]).item(), rel=1e-5
    )


def test_following_the_loss_removes_the_pose():
    bins = torch.arange(4).repeat(20)
    codes = (normal(80, 6) + 2 * normal(4, 6, seed=1)[bins]).requires_grad_()
    before = mean_pairwise_mmd(codes.detach().reshape(20, 4, 6)).mean
    optimizer = torch.optim.Adam([codes], 0.05)
    for _ in range(60):
        optimizer.zero_grad()
        pose_mmd_loss(codes, bins).backward()
        optimizer.step()
    after = mean_pairwise_mmd(codes.detach().reshape(20, 4, 6))
    assert after.mean < 0.2 * before


def test_the_loss_of_equal_codes_or_of_one_bin_is_zero_and_harmless():
    codes = torch.full((6, 3), 0.1, requires_grad=True)
    loss = mmd_loss(codes[:3], codes[3:]) + pose_mmd_loss(codes, torch.zeros(6, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0
    assert (codes.grad == 0).all()


def test_wrong_codes_are_refused():
    with pytest.raises(ValueError, match="y must have shape"):
        mmd(torch.zeros(3, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="n must lie"):
        mmd(torch.zeros(0, 2), torch.zeros(0, 2))
    with pytest.raises(ValueError, match="finite"):
        mmd(torch.tensor([[math.nan]]), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="views must lie"):
        mean_pairwise_mmd(torch.zeros(3, 1, 2))
    with pytest.raises(ValueError, match="y must have shape"):
        mmd_loss(torch.zeros(3, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="bins must have shape"):
        pose_mmd_loss(torch.zeros(3, 2), torch.zeros(2, dtype=torch.long))
