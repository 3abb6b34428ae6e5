import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.fields.latent_table import CodePrior, LatentTable
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.methods.deep_sdf.config import (
    CodeConfig,
    DataConfig,
    DecoderConfig,
    DeepSdfConfig,
    FitConfig,
    LossConfig,
    OptimConfig,
    RateConfig,
)
from shapewright.methods.deep_sdf.fitting import (
    FitContext,
    changed_weights,
    fit_codes,
    fit_published,
    refine,
    with_weights,
)
from shapewright.methods.deep_sdf.method import DeepSdfMethod, bypassed, learning_rate, sdf_loss, shape_penalties
from shapewright.methods.deep_sdf.observations import Bounds, draw, exact, from_samples
from shapewright.methods.deep_sdf.samples import SampleStore
from tests.methods.sdf_family import ball_rows

RADII = (0.3, 0.4, 0.5, 0.6, 0.7)
SMALL = DeepSdfConfig(
    network=DecoderConfig(code_length=4, widths=(32, 32, 32), latent_in=(1, 2), keep_width=True),
    codes=CodeConfig(init_std=0.01),
    optim=OptimConfig(
        decoder_rate=RateConfig(initial=5e-3), code_rate=RateConfig(initial=2e-2), precision="fp32", row_wise=True
    ),
    data=DataConfig(samples_per_shape=256, shapes_per_batch=5),
)


def split(rows):
    return rows[rows[:, 3] > 0], rows[rows[:, 3] <= 0]


def ball_store(seed=0):
    sides = [split(ball_rows(radius, seed=place)) for place, radius in enumerate(RADII)]
    return SampleStore([side[0] for side in sides], [side[1] for side in sides], seed)


def train(config=SMALL, steps=400, store=None):
    store = store or ball_store()
    method = DeepSdfMethod(config, store, len(store), torch.device("cpu"))
    losses = []
    for step in range(steps):
        moment = Moment(step, step / steps)
        losses.append(method.train_step(method.next_batch(moment), moment)["sdf_loss"])
    method.decoder.eval()
    return method, losses


@pytest.fixture(scope="module")
def trained():
    return train()


@pytest.fixture(scope="module")
def context(trained):
    return FitContext(trained[0].decoder.fold(), trained[0].codes)


def test_training_learns_a_family_and_an_untrained_decoder_does_not(trained):
    _method, losses = trained
    assert np.mean(losses[-20:]) < 0.006
    untrained = DeepSdfMethod(SMALL, ball_store(), len(RADII), torch.device("cpu"))
    batch = ball_store().batch(0, 5, 1000)
    error = (untrained.decoder(batch.points, untrained.codes[batch.shapes]) - batch.sdf).abs().mean()
    assert error > 0.05


@pytest.mark.parametrize("radius", [0.35, 0.55])
def test_the_code_of_an_unseen_shape_is_found(context, radius):
    rows = torch.from_numpy(ball_rows(radius, seed=77))
    fit = fit_codes(context, [from_samples(rows)], FitConfig(iterations=200, samples=512, starts=4))
    points = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert context.decoder.sdf(radius * points, fit.codes[0, 0]).abs().mean() < 0.02
    assert 0.1 < float(fit.positive_share[0]) < 0.9


def test_shapes_are_fitted_together_as_alone(context):
    bounds = [from_samples(torch.from_numpy(ball_rows(radius, seed=9))) for radius in (0.4, 0.6)]
    config = FitConfig(iterations=150, samples=512, starts=4)
    together = fit_codes(context, bounds, config)
    for place, groups in enumerate(bounds):
        alone = fit_codes(context, [groups], config)
        assert float(alone.losses[0, 0]) == pytest.approx(float(together.losses[place, 0]), abs=2e-3)


def test_hypotheses_come_best_first_and_are_as_many_as_asked(context):
    bounds = [from_samples(torch.from_numpy(ball_rows(0.5)))]
    fit = fit_codes(context, bounds, FitConfig(iterations=30, samples=256, starts=5), num_hypotheses=3)
    assert fit.codes.shape == (1, 3, 4)
    assert fit.start_losses.shape == (1, 5)
    assert bool((fit.losses[0].diff() >= 0).all())
    with pytest.raises(ValueError, match="num_hypotheses"):
        fit_codes(context, bounds, FitConfig(starts=2), num_hypotheses=3)


def test_refining_reaches_what_no_code_can(context):
    rows = torch.from_numpy(ball_rows(0.5, seed=3))
    rows[:, 3] = (rows[:, :3] / torch.tensor([1.0, 0.6, 1.0])).norm(dim=1) * 0.6 - 0.3  # about an ellipsoid's
    groups = from_samples(rows)
    config = FitConfig(iterations=150, samples=512, starts=4, refine_iterations=200, refine_rate=5e-3)
    fit = fit_codes(context, [groups], config)
    decoder, code = refine(context, groups, fit.codes[0, 0], config)
    fresh = draw([groups], 2000, torch.Generator().manual_seed(5))

    def loss(chosen, z):
        return float(fresh.loss(chosen(fresh.points, z[None]), 0.1))

    assert loss(decoder, code) < 0.6 * loss(context.decoder, fit.codes[0, 0])
    again = with_weights(context.decoder, changed_weights(decoder))
    torch.testing.assert_close(again.sdf(fresh.points[0], code), decoder.sdf(fresh.points[0], code))


@pytest.mark.parametrize("count", [4000, 100])
def test_the_published_recipe_finds_the_code_too(context, count):
    rows = torch.from_numpy(ball_rows(0.45, count=count, seed=4))
    fit = fit_published(context, [rows], FitConfig(recipe="paper", iterations=300, samples=512, rate=2e-2))
    points = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert context.decoder.sdf(0.45 * points, fit.codes[0, 0]).abs().mean() < 0.03
    one = fit_published(context, [rows], FitConfig(recipe="paper", iterations=1, samples=64))
    assert bool(one.codes.isfinite().all())


def test_bounds_cost_nothing_inside_and_their_distance_outside():
    points = torch.zeros(1, 3)
    groups = [Bounds(points, torch.tensor([0.0]), torch.tensor([0.05]))]
    drawn = draw([groups], 8, torch.Generator().manual_seed(0))
    for value, expected in ((0.02, 0.0), (0.07, 0.02), (-0.03, 0.03), (5.0, 0.05)):
        assert float(drawn.loss(torch.full((1, 8), value), 0.1)) == pytest.approx(expected, abs=1e-6)


def test_groups_are_drawn_by_their_shares():
    one, two = torch.zeros(10, 3), torch.ones(10, 3)
    zero = torch.zeros(10)
    drawn = draw([[exact(one, zero, share=3.0), exact(two, zero, share=1.0)]], 100, torch.Generator().manual_seed(0))
    assert float((drawn.points[0, :, 0] == 0).float().mean()) == pytest.approx(0.75)


def test_an_epoch_shows_every_shape_once_and_halves_outside_and_inside():
    store = ball_store()
    seen = torch.cat([store.batch(step, 2, 64).shapes for step in range(2)])
    assert len(seen.unique()) == 4
    batch = store.batch(0, 2, 64)
    assert batch.sdf.shape == (2, 64)
    assert bool((batch.sdf[:, :32] > 0).all())
    assert bool((batch.sdf[:, 32:] <= 0).all())
    torch.testing.assert_close(batch.points.norm(dim=-1) - torch.tensor(RADII)[batch.shapes][:, None], batch.sdf)


def test_batches_follow_from_seed_and_step_alone():
    first, second = ball_store().batch(7, 2, 32), ball_store().batch(7, 2, 32)
    torch.testing.assert_close(first.points, second.points, rtol=0, atol=0)
    assert not torch.equal(first.points, ball_store(seed=1).batch(7, 2, 32).points)
    assert not torch.equal(first.points, ball_store().batch(8, 2, 32).points)


def test_fewer_shapes_than_a_batch_still_learn():
    config = replace(SMALL, data=DataConfig(samples_per_shape=128, shapes_per_batch=64))
    method, losses = train(config, steps=150)
    assert losses[-1] < 0.3 * losses[0]
    assert method.next_batch(Moment(0, 0.0)).sdf.shape == (5, 128)


def test_a_resumed_training_is_bit_equal():
    torch.set_num_threads(1)
    config = replace(SMALL, network=replace(SMALL.network, dropout_layers=(0, 1), dropout=0.2))
    straight, losses = train(config, steps=12)
    half = DeepSdfMethod(config, ball_store(), 5, torch.device("cpu"))
    for step in range(6):
        half.train_step(half.next_batch(Moment(step, step / 12)), Moment(step, step / 12))
    again = DeepSdfMethod(config, ball_store(), 5, torch.device("cpu"), seed=5)
    again._seed = 0
    again.load_state_dict({name: value.clone() for name, value in half.state_dict().items()})
    rest = [again.train_step(again.next_batch(Moment(s, s / 12)), Moment(s, s / 12))["sdf_loss"] for s in range(6, 12)]
    assert rest == losses[6:]
    for name, value in straight.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_checkpoint_of_other_sizes_is_refused(trained):
    other = DeepSdfMethod(replace(SMALL, network=DecoderConfig()), None, 5, torch.device("cpu"))
    with pytest.raises(UserError, match="does not fit"):
        other.load_state_dict(trained[0].state_dict())


def test_parts_of_a_batch_give_the_gradients_of_the_whole():
    gradients = []
    for parts in (1, 5):
        config = replace(SMALL, optim=replace(SMALL.optim, batch_split=parts))
        method = DeepSdfMethod(config, ball_store(), 5, torch.device("cpu"))
        method.train_step(method.next_batch(Moment(0, 0.5)), Moment(0, 0.5))
        gradients.append([p.grad.clone() for p in method.decoder.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_a_step_that_is_not_finite_changes_nothing(trained):
    method = DeepSdfMethod(SMALL, ball_store(), 5, torch.device("cpu"))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    batch = method.next_batch(Moment(0, 0.5))
    values = method.train_step(batch._replace(sdf=batch.sdf * math.nan), Moment(0, 0.5))
    assert values["skipped"] == 1.0
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_the_published_loss_is_the_difference_of_clamped_distances():
    predicted, sdf = torch.tensor([[0.3, -0.02, 0.05]]), torch.tensor([[0.2, 0.01, -0.4]])
    torch.testing.assert_close(sdf_loss(LossConfig(), predicted, sdf, 1), torch.tensor([[0.0, 0.03, 0.15]]))
    open_loss = sdf_loss(LossConfig(), predicted, sdf, 1, clamp_prediction=False)
    torch.testing.assert_close(open_loss, torch.tensor([[0.2, 0.03, 0.15]]))


def test_the_curriculum_tolerates_less_and_weights_wrong_sides_more_with_time():
    config = LossConfig(kind="curriculum")
    predicted, sdf = torch.tensor([[0.02, -0.03]]), torch.tensor([[0.03, 0.03]])
    early, late = (sdf_loss(config, predicted, sdf, epoch) for epoch in (1, 1500))
    torch.testing.assert_close(early, torch.tensor([[0.0, 0.035]]))
    torch.testing.assert_close(late, torch.tensor([[0.015, 0.09]]))


def test_unsigned_targets_do_not_see_the_sign():
    config = LossConfig(kind="sal")
    predicted, sdf = torch.tensor([[-0.05, 0.05]]), torch.tensor([[0.05, 0.05]])
    torch.testing.assert_close(sdf_loss(config, predicted, sdf, 1), torch.zeros(1, 2))


@pytest.mark.parametrize(
    ("rate", "epoch", "progress", "expected"),
    [
        (RateConfig(kind="step", initial=5e-4, interval=500, factor=0.5), 499, 0.0, 5e-4),
        (RateConfig(kind="step", initial=5e-4, interval=500, factor=0.5), 1000, 0.0, 1.25e-4),
        (RateConfig(kind="warmup", initial=0.0, final=1e-3, length=10), 5, 0.0, 5e-4),
        (RateConfig(kind="warmup", initial=0.0, final=1e-3, length=10), 50, 0.0, 1e-3),
        (RateConfig(kind="constant", initial=2e-3), 7, 0.9, 2e-3),
        (RateConfig(kind="cosine", initial=1e-3, final=1e-4), 1, 0.5, 5.5e-4),
    ],
)
def test_learning_rates_follow_their_schedules(rate, epoch, progress, expected):
    assert learning_rate(rate, epoch, progress) == pytest.approx(expected)


def test_codes_outside_a_batch_stay_or_drift_by_their_momentum():
    for row_wise in (True, False):
        table = LatentTable(torch.zeros(3, 2), row_wise=row_wise)
        table.step(torch.tensor([0, 1]), torch.ones(2, 2), 0.1)
        table.step(torch.tensor([0]), torch.ones(1, 2), 0.1)
        assert float(table.codes[0, 0]) == pytest.approx(-0.2, rel=1e-4)
        assert (float(table.codes[1, 0]) == pytest.approx(-0.1, rel=1e-4)) == row_wise
        assert float(table.codes[2].abs().max()) == 0.0


def test_a_dense_table_moves_as_torch_adam_does():
    table = LatentTable(torch.ones(4, 3), row_wise=False)
    codes = torch.ones(4, 3, requires_grad=True)
    adam = torch.optim.Adam([codes], lr=0.01)
    for step in range(5):
        rows = torch.tensor([step % 4, (step + 1) % 4])
        codes.grad = torch.zeros(4, 3)
        codes.grad[rows] = 0.3 + step
        adam.step()
        table.step(rows, torch.full((2, 3), 0.3 + step), 0.01)
    torch.testing.assert_close(table.codes, codes.detach(), rtol=1e-5, atol=1e-7)


def test_codes_longer_than_the_bound_are_shortened_where_they_are_read():
    table = LatentTable(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), bound=1.0)
    torch.testing.assert_close(table.rows(torch.tensor([0, 1])), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    torch.testing.assert_close(table.codes[0], torch.tensor([0.6, 0.8]))


def test_the_prior_knows_mean_and_covariance():
    generator = torch.Generator().manual_seed(0)
    codes = torch.randn(2000, 3, generator=generator) * torch.tensor([1.0, 0.2, 0.5]) + torch.tensor([1.0, 2.0, 3.0])
    prior = CodePrior.of(codes)
    torch.testing.assert_close(prior.mean, torch.tensor([1.0, 2.0, 3.0]), rtol=0, atol=0.08)
    assert float(prior.energy(codes).mean()) == pytest.approx(0.85, abs=0.1)  # shrinkage widens the narrow axes
    assert float(prior.energy(prior.mean[None])) == pytest.approx(0.0, abs=1e-9)
    drawn = prior.draw(4000, generator)
    torch.testing.assert_close(drawn.std(0), torch.tensor([1.0, 0.28, 0.53]), rtol=0.1, atol=0.08)


def test_a_shape_without_inside_is_refused():
    outside, inside = split(ball_rows(0.5))
    with pytest.raises(ValueError, match="Shape 1 has no sample"):
        SampleStore([outside, outside], [inside, inside[:0]])


def test_layers_join_one_after_another():
    config = replace(SMALL, network=DecoderConfig(widths=(16,) * 8, keep_width=True), loss=LossConfig(grow=True))
    assert bypassed(config, 1) == (0, 0, 0, 0, 0, 1, 1, 1, 0)
    assert bypassed(config, 300)[5:] == pytest.approx((0.5, 1, 1, 0))
    assert bypassed(config, 1200) == ()
    decoder = DeepSdfMethod(config, None, 1, torch.device("cpu")).decoder
    points, codes = torch.rand(1, 20, 3), torch.rand(1, config.network.code_length)
    with torch.no_grad():
        young = decoder(points, codes, bypass=bypassed(config, 1))
        for layer in (5, 6, 7):
            decoder.get_submodule(f"lin{layer}").bias += 1.0
        torch.testing.assert_close(decoder(points, codes, bypass=bypassed(config, 1)), young)
        assert not torch.allclose(decoder(points, codes), young)


def test_the_eikonal_term_is_the_mean_deviation_of_the_slope():
    points = torch.rand(1, 50, 3, requires_grad=True)
    field = 1.5 * points[..., 0]
    total = shape_penalties(LossConfig(eikonal=2.0), points, field, field.detach())
    assert float(total) == pytest.approx(2.0 * 50 * 0.25, rel=1e-5)


def test_the_off_surface_term_counts_far_samples_alone():
    points = torch.zeros(1, 3, 3)
    total = shape_penalties(
        LossConfig(off_surface=1.0), points, torch.tensor([[0.0, 0.01, 0.0]]), torch.tensor([[0.5, -0.5, 0.05]])
    )
    assert float(total) == pytest.approx(1.0 + math.exp(-1.0), rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [LossConfig(kind="curriculum", grow=True), LossConfig(kind="igr", eikonal=0.1), LossConfig(off_surface=0.01)],
)
def test_every_loss_learns(loss):
    _, losses = train(replace(SMALL, loss=loss), steps=150)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:3])


def test_codes_can_be_kept_on_a_sphere():
    config = replace(SMALL, codes=CodeConfig(bound=0.5, on_sphere=True, penalty_kind="square"))
    method, _ = train(config, steps=3)
    torch.testing.assert_close(method.codes.norm(dim=1), torch.full((5,), 0.5))


def test_the_searched_surface_of_a_trained_field_is_that_of_the_dense_lattice(context, trained):
    code, corner = trained[0].codes[2], torch.ones(3)

    def field(points):
        return context.decoder.sdf(points, code)

    def with_ghost(points):
        return torch.minimum(field(points), (points - 0.75).norm(dim=1) - 0.08)

    for sdf in (field, with_ghost):
        searched = extract_isosurface(sdf, -corner, corner, 64)
        dense = extract_isosurface(sdf, -corner, corner, 64, lipschitz=math.inf)
        assert torch.equal(searched.mesh.faces, dense.mesh.faces)
        torch.testing.assert_close(searched.mesh.vertices, dense.mesh.vertices, rtol=0, atol=1e-6)
        assert searched.evaluations < 0.5 * dense.evaluations
