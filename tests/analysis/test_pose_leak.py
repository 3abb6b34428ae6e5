import math

import pytest
import torch

from shapewright.analysis.pose_leak import linear_probe, nearest_mean_probe
from shapewright.errors import UserError

PROBES = pytest.mark.parametrize("probe", [nearest_mean_probe, linear_probe])


def codes_of(leak, objects=30, views=12, length=16, seed=0):
    """Return codes of a shape, plus some noise, plus as much of the pose as leaks."""
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(objects, 1, length, generator=generator)
    noise = 0.3 * torch.randn(objects, views, length, generator=generator)
    pose = leak * torch.randn(1, views, length, generator=generator)
    return shape + noise + pose, torch.arange(views).expand(objects, views)


@PROBES
def test_codes_without_the_pose_are_at_chance(probe):
    found = probe(*codes_of(0.0))
    assert found.chance == pytest.approx(1 / 12)
    assert found.largest_bin == pytest.approx(1 / 12)
    # 360 guesses scatter by 0.015; those of one object are not independent.
    assert found.accuracy < found.chance + 0.05


@PROBES
def test_more_of_the_pose_is_guessed_more_often(probe):
    found = [probe(*codes_of(leak)).accuracy for leak in (0.0, 0.4, 5.0)]
    assert found == sorted(found)
    assert found[1] > 2 / 12
    assert found[2] > 0.99
    assert probe(*codes_of(5.0)).times_chance == pytest.approx(12, rel=0.01)


@PROBES
def test_names_of_bins_and_scale_do_not_matter(probe):
    codes, bins = codes_of(0.5)
    accuracy = probe(codes, bins).accuracy
    assert probe(1000 * codes + 7, 3 * bins + 100).accuracy == pytest.approx(accuracy, abs=0.006)


@PROBES
def test_a_constant_code_is_at_chance(probe):
    codes, bins = codes_of(0.0)
    assert probe(torch.ones_like(codes), bins).accuracy == pytest.approx(1 / 12)


def test_nearest_means_leave_the_object_out():
    codes, _ = codes_of(0.5, objects=6, views=4, length=3)
    bins = torch.tensor([[0, 1, 2, 3], [1, 1, 2, 0], [2, 2, 0, 1], [0, 0, 0, 0], [1, 2, 1, 2], [0, 1, 2, 0]])
    right = 0
    for o in range(6):
        others = [i for i in range(6) if i != o]
        means = {k: codes[others][bins[others] == k].mean(0) for k in bins[others].unique().tolist()}
        for v in range(4):
            right += min(means, key=lambda k: float((codes[o, v] - means[k]).norm())) == bins[o, v]
    assert 3 not in bins[1:].flatten().tolist()
    found = nearest_mean_probe(codes, bins)
    assert found.accuracy == pytest.approx(int(right) / 24)
    assert found.chance == 0.25
    assert found.largest_bin == pytest.approx(9 / 24)


def test_a_linear_probe_finds_what_means_do_not_show():
    # The pose stands in one small entry beside large ones that tell nothing.
    generator = torch.Generator().manual_seed(0)
    bins = torch.arange(2).repeat(40, 5)
    codes = torch.cat([50 * torch.randn(40, 10, 8, generator=generator), 0.1 * bins[..., None]], dim=-1)
    assert nearest_mean_probe(codes, bins).accuracy < 0.7
    assert linear_probe(codes, bins).accuracy > 0.95


def test_the_linear_probe_fits_what_scikit_learn_fits():
    linear_model = pytest.importorskip("sklearn.linear_model")
    codes, bins = codes_of(0.4)
    folds = torch.empty(30, dtype=torch.long)
    folds[torch.randperm(30, generator=torch.Generator().manual_seed(0))] = torch.arange(30) % 5
    right = 0
    for fold in range(5):
        rows, asked = codes[folds != fold].flatten(0, 1), codes[folds == fold].flatten(0, 1)
        mean, scale = rows.mean(0), rows.std(0, correction=0)
        model = linear_model.LogisticRegression(C=1.0, max_iter=500, tol=1e-8)
        model.fit((rows - mean).div(scale).double().numpy(), bins[folds != fold].flatten().numpy())
        guesses = model.predict((asked - mean).div(scale).double().numpy())
        right += int((guesses == bins[folds == fold].flatten().numpy()).sum())
    assert linear_probe(codes, bins).accuracy == pytest.approx(right / 360, abs=2 / 360)


def test_fewer_objects_than_folds_are_a_fold_each():
    codes, bins = codes_of(5.0, objects=3)
    assert linear_probe(codes, bins).accuracy > 0.9


@PROBES
def test_one_object_cannot_be_probed(probe):
    with pytest.raises(UserError, match="there are only 1"):
        probe(torch.zeros(1, 4, 2), torch.zeros(1, 4, dtype=torch.long))


@PROBES
def test_wrong_arguments_are_refused(probe):
    with pytest.raises(ValueError, match="bins must have shape"):
        probe(torch.zeros(3, 4, 2), torch.zeros(3, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="finite"):
        probe(torch.full((3, 4, 2), math.inf), torch.zeros(3, 4, dtype=torch.long))
