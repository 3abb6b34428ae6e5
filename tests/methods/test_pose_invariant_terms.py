"""Every term of the loss, and every turn of an adversary, changes the networks it is for, and no others."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import log_softmax, nll_loss

from shapewright.analysis.pose_leak import nearest_mean_probe
from shapewright.data.picture_sets import PictureSet, PictureViews
from shapewright.engine.schedule import Moment
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.orbit import kato_ring
from shapewright.losses.colour_pyramid import colour_pyramid_loss
from shapewright.losses.domain_confusion import confusion_loss, directions, standardised, uniform_cross_entropy
from shapewright.losses.silhouette_pictures import iou_loss
from shapewright.losses.view_prior import detection_loss, fooling_loss
from shapewright.methods.pose_invariant.adversaries import pose_numbers
from shapewright.methods.pose_invariant.config import (
    AdversaryConfig,
    LossConfig,
    NetworkConfig,
    OptimConfig,
    PoseInvariantConfig,
    RenderConfig,
)
from shapewright.methods.pose_invariant.judging import predict, silhouette_rows
from shapewright.methods.pose_invariant.training import prepare_method
from shapewright.metrics.mmd import mean_pairwise_mmd, pose_mmd_loss
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette
from tests.methods.picture_family import SMALL, write_ellipsoids
from tests.methods.test_pose_invariant_losses import EXPECTED, NOTHING, prepared

LEARNING, FOOLING = Moment(0, 0.0), Moment(1, 0.0)
REPORTED = ("loss", "rate", "out_of_sight", "discriminator_accuracy", "discriminator_trust", "discriminator_explains")


@pytest.fixture(scope="module")
def eggs(tmp_path_factory):
    return write_ellipsoids(tmp_path_factory.mktemp("eggs") / "data", sizes={"train": 6})


@dataclasses.dataclass
class Sight:
    """Hold a method that is about to make a step, and what its networks make of the batch."""

    method: object
    batch: object

    def __post_init__(self):
        self.codes = self.method.model.encode(self.batch.pictures)
        self.vertices = self.method.model.decode(self.codes, self.batch.classes)
        self.seen = self.drawn(self.batch.poses)
        self.silhouettes = iou_loss(self.seen, self.batch.masks)

    def drawn(self, poses):
        return self.method.painter.draw(self.vertices, self.method.model.faces, poses)


def parameters(method, *names):
    return [one for name in names for one in method.modules[name].parameters()]


def gradient(loss, wanted):
    """Return the gradient as one vector."""
    found = torch.autograd.grad(loss, wanted, retain_graph=True, allow_unused=True, materialize_grads=True)
    return torch.cat([one.flatten() for one in found])


def kept_gradient(wanted):
    """Return the gradient that the last step has left behind."""
    return torch.cat([torch.zeros_like(one).flatten() if one.grad is None else one.grad.flatten() for one in wanted])


def differ(a, b):
    return float((a - b).norm() / b.norm())


def terms_of(values):
    return {name: value for name, value in values.items() if name not in REPORTED}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_gradient_of_a_term_reaches_what_it_is_computed_of(name, eggs):
    term, options, loss = EXPECTED[name]
    mode = {"code_prior": "prior", "inflation": "view_prior"}.get(name, "plain")
    loss_config = dataclasses.replace(NOTHING, **{f"{term}_weight": 0.3}, **options)
    twin, method = (prepared(eggs, mode, loss_config, every=10, iterative=True) for _ in range(2))
    batch = method.next_batch(LEARNING)
    sight = Sight(twin, batch)
    expected = sight.silhouettes + 0.3 * loss(twin, batch, sight.codes, sight.vertices)
    method.train_step(batch, LEARNING)
    for network in ("encoder", "decoder"):
        of_all = gradient(expected, parameters(twin, network))
        of_rest = gradient(sight.silhouettes, parameters(twin, network))
        found = kept_gradient(parameters(method, network))
        assert differ(found, of_all) < 1e-3
        if (name, network) not in (("code_prior", "decoder"), ("cycle", "decoder")):
            assert differ(found, of_rest) > 2e-2


@pytest.mark.parametrize(("mode", "share"), [("multi_view", 0.25), ("multi_view_prior", 1.0)])
def test_each_of_two_meshes_is_compared_with_both_pictures(mode, share, eggs, monkeypatch):
    twin, method = (prepared(eggs, mode, weight=0.0, iterative=True, every=10) for _ in range(2))
    # A new encoder has nearly the same code for all pictures: their meshes would not differ.
    sizes = torch.linspace(0.4, 1.2, 8)[:, None, None]
    for model in (twin.model, method.model):
        monkeypatch.setattr(model, "decode", lambda *given, decode=model.decode: sizes * decode(*given))
    batch = method.next_batch(LEARNING)
    vertices = Sight(twin, batch).vertices
    halves = slice(0, 4), slice(4, 8)

    def agreement(of, at):
        drawn = twin.painter.draw(vertices[of], twin.model.faces, batch.poses[at])
        return share * iou_loss(drawn, batch.masks[at])

    own = sum(agreement(side, side) for side in halves)
    crossed = agreement(halves[0], halves[1]) + agreement(halves[1], halves[0])
    assert abs(float((own - crossed).detach())) > 1e-2 * share
    assert method.train_step(batch, LEARNING)["silhouette_loss"] == pytest.approx(float((own + crossed).detach()))
    for network in ("encoder", "decoder"):
        found, wanted = kept_gradient(parameters(method, network)), parameters(twin, network)
        assert differ(found, gradient(own + crossed, wanted)) < 1e-3
        assert differ(found, gradient(2 * own, wanted)) > 0.1


@pytest.mark.parametrize(("mode", "share"), [("plain", None), ("multi_view_prior", 1.0)])
def test_colours_are_learned_at_their_weight(mode, share, eggs):
    network = dataclasses.replace(SMALL, decoder="patches", texture=True)
    loss = dataclasses.replace(NOTHING, colour_weight=3.0)
    twin, method = (prepared(eggs, mode, loss, network, weight=0.0, iterative=True, every=10) for _ in range(2))
    batch = method.next_batch(LEARNING)
    codes = twin.model.encode(batch.pictures)
    vertices, texture = twin.model.decode(codes, batch.classes), twin.skin(codes)

    def compared(of, at):
        drawn = twin.painter.paint(vertices[of], twin.model.faces, batch.poses[at], twin.skin, texture[of])
        return iou_loss(drawn[:, 3], batch.masks[at]), 3 * colour_pyramid_loss(drawn[:, :3], batch.pictures[at, :3])

    if share is None:
        pairs = [compared(slice(None), slice(None))]
    else:
        halves = slice(0, 4), slice(4, 8)
        pairs = [compared(of, at) for of in halves for at in halves]
    silhouettes, colours = (sum(one) for one in zip(*pairs, strict=True))
    values = method.train_step(batch, LEARNING)
    assert values["colour"] == pytest.approx(float(colours.detach()), rel=1e-4)
    assert values["loss"] == pytest.approx(sum(terms_of(values).values()), rel=1e-5)
    for name in ("encoder", "texture"):
        found, wanted = kept_gradient(parameters(method, name)), parameters(twin, name)
        assert found.norm() > 1e-3
        assert differ(found, gradient(silhouettes + colours, wanted)) < 1e-3
    assert not torch.equal(method.skin.texture.base, twin.skin.texture.base)
    of_rest = gradient(silhouettes, parameters(twin, "encoder"))
    assert differ(kept_gradient(parameters(method, "encoder")), of_rest) > 0.1


# What adversaries report, how that changes encoder and decoder, and how the discriminator; none: it stays as it is.


def of_guesses(sight, config, step):
    """A discriminator of bins, which learns in one step and is fooled in the next."""
    guess = sight.method.adversary.discriminator
    seen = {"raw": lambda codes: codes, "standardised": standardised, "directions": directions}[config.codes]
    codes = seen(sight.codes)
    if config.kind == "reversal":
        missed = nll_loss(guess(codes), sight.batch.bins)
        return {"discriminator": missed}, -config.weight * missed, missed
    if step is LEARNING:
        missed = nll_loss(guess(codes.detach()), sight.batch.bins)
        return {"discriminator": missed}, 0 * sight.silhouettes, missed
    fool = {"log_l2": confusion_loss, "cross_entropy": uniform_cross_entropy}[config.kind]
    fooled = config.weight * fool(guess(codes))
    return {"adversarial": fooled}, fooled, None


def of_two_guesses(sight, config, step):
    """Each of two discriminators is trusted with the objects of the other."""
    adversary, batch = sight.method.adversary, sight.batch
    codes = sight.codes.detach() if step is LEARNING else sight.codes
    known, judged, judged_by_trust = [], [], []
    for code, place in zip(codes, batch.objects.tolist(), strict=True):
        known.append(adversary.discriminator[place % 2](code[None]))
        new = adversary.discriminator[1 - place % 2](code[None])
        trust = 10 * adversary.trust[1 - place % 2]
        judged.append(log_softmax(trust.detach() * new, dim=1))
        judged_by_trust.append(log_softmax(trust * new.detach(), dim=1))
    if step is LEARNING:
        missed = nll_loss(torch.cat(known), batch.bins)
        calibration = nll_loss(torch.cat(judged_by_trust), batch.bins)
        return {"discriminator": missed, "calibration": calibration}, 0 * sight.silhouettes, missed + calibration
    fooled = config.weight * confusion_loss(torch.cat(judged))
    return {"adversarial": fooled}, fooled, None


def of_numbers(sight, config, step):
    """A regressor of azimuth and elevation."""
    told = pose_numbers(sight.batch.directions)
    guess = sight.method.adversary.discriminator
    if step is LEARNING:
        error = (guess(sight.codes.detach()) - told).square().sum(1).mean()
        return {"discriminator": error}, 0 * sight.silhouettes, error
    fooled = config.weight * (guess(sight.codes) - told.mean(0)).square().sum(1).mean()
    return {"adversarial": fooled}, fooled, None


def of_mmd(sight, config, step):
    """No discriminator: four groups of six neighbouring bins are to be alike."""
    between = config.weight * pose_mmd_loss(sight.codes, sight.batch.bins.div(6, rounding_mode="floor"))
    return {"adversarial": between}, between, None


def of_sides(sight, config, step):
    """A discriminator of seen and unseen sides."""
    batch, network = sight.batch, sight.method.adversary.discriminator

    def judged(pictures, poses, bins):
        if config.form == "onehot":
            return network(pictures, bins)
        return network(pictures[:, None], poses[:, :, 3])

    real = sight.seen if config.real == "seen" else batch.masks
    fake = sight.drawn(batch.unseen)
    if config.form == "vpl" and not config.iterative:
        told = detection_loss(judged(real, batch.poses, batch.bins), judged(fake, batch.unseen, batch.unseen_bins))
        return {"discriminator": told}, -config.weight * told, told
    if step is LEARNING:
        real = judged(real.detach(), batch.poses, batch.bins)
        told = detection_loss(real, judged(fake.detach(), batch.unseen, batch.unseen_bins))
        told = told / 2 if config.form == "onehot" else told
        return {"discriminator": told}, 0 * sight.silhouettes, told
    fooled = config.weight * fooling_loss(judged(fake, batch.unseen, batch.unseen_bins))
    return {"adversarial": fooled}, fooled, None


TURNS = {
    "log_l2": ("pose_invariant", {}, of_guesses),
    "cross_entropy": ("pose_invariant", {"kind": "cross_entropy"}, of_guesses),
    "standardised": ("pose_invariant", {"codes": "standardised"}, of_guesses),
    "directions": ("pose_invariant", {"codes": "directions"}, of_guesses),
    "reversal": ("pose_invariant", {"kind": "reversal"}, of_guesses),
    "calibrated": ("pose_invariant", {"calibrated": True}, of_two_guesses),
    "continuous": ("pose_invariant", {"kind": "continuous"}, of_numbers),
    "mmd": ("pose_invariant", {"kind": "mmd"}, of_mmd),
    "vpl": ("view_prior", {}, of_sides),
    "vpl, pictures": ("view_prior", {"real": "pictures"}, of_sides),
    "vpl, iterative": ("view_prior", {"iterative": True}, of_sides),
    "vpl, iterative, pictures": ("view_prior", {"iterative": True, "real": "pictures"}, of_sides),
    "onehot": ("view_prior", {"form": "onehot"}, of_sides),
}


def opposed(eggs, mode, options, weight):
    """Return a method whose discriminator has opinions."""
    widths = (4, 8) if options.get("form") == "onehot" else SMALL.image_widths
    method = prepared(eggs, mode, NOTHING, dataclasses.replace(SMALL, image_widths=widths), weight=weight, **options)
    if "discriminator" in method.modules:
        torch.manual_seed(4)
        for parameter in method.adversary.discriminator.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    if options.get("calibrated"):
        method.adversary.trust.data.copy_(torch.tensor([0.05, 0.2]))
    return method


@pytest.mark.parametrize("step", [LEARNING, FOOLING], ids=["learning", "fooling"])
@pytest.mark.parametrize("name", TURNS)
def test_an_adversary_changes_the_networks_whose_turn_it_is(name, step, eggs):
    mode, options, turn = TURNS[name]
    twin, method = (opposed(eggs, mode, options, weight=2.0) for _ in range(2))
    batch = method.next_batch(step)
    sight = Sight(twin, batch)
    terms, of_networks, of_discriminator = turn(sight, twin.config.adversary, step)
    before = [one.detach().clone() for one in parameters(method, *method.modules.keys() & {"discriminator"})]
    values = method.train_step(batch, step)

    assert terms_of(values).keys() == {"silhouette_loss", *terms}
    for term, value in terms.items():
        assert abs(float(value.detach())) > 1e-4
        assert values[term] == pytest.approx(float(value.detach()), rel=1e-4)
    assert values["silhouette_loss"] == pytest.approx(float(sight.silhouettes.detach()), rel=1e-4)
    assert values["loss"] == pytest.approx(sum(terms_of(values).values()), rel=1e-5)

    networks = ("encoder", "decoder") if mode == "view_prior" else ("encoder",)
    for network in ("encoder", "decoder"):
        found, wanted = kept_gradient(parameters(method, network)), parameters(twin, network)
        assert differ(found, gradient(sight.silhouettes + of_networks, wanted)) < 2e-3
        if float(of_networks.detach()) and network in networks:
            assert differ(found, gradient(sight.silhouettes, wanted)) > 2e-2
    if "discriminator" in method.modules:
        after = parameters(method, "discriminator")
        is_changed = any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
        assert is_changed == (of_discriminator is not None)
    if of_discriminator is not None:
        expected = gradient(of_discriminator, parameters(twin, "discriminator"))
        assert expected.norm() > 1e-3
        assert differ(kept_gradient(parameters(method, "discriminator")), expected) < 2e-3


def test_a_step_keeps_nothing_of_the_gradients_before(eggs):
    twin, method = (opposed(eggs, "pose_invariant", {}, weight=2.0) for _ in range(2))
    still = dataclasses.replace(method.config, optim=dataclasses.replace(method.config.optim, lr=0.0))
    twin.config = method.config = still
    batch = method.next_batch(LEARNING)
    method.train_step(batch, FOOLING)
    for each in (twin, method):
        each.train_step(batch, LEARNING)
    for name in method.modules:
        of_one_step = kept_gradient(parameters(twin, name))
        assert differ(kept_gradient(parameters(method, name)), of_one_step) < 1e-5


def test_the_discriminator_learns_at_its_share_of_the_rate_and_decays(eggs):
    method = prepared(eggs, "pose_invariant", lr_share=0.25, weight_decay=4.0)
    layer = method.adversary.discriminator.layers[-1]
    # Where nothing is learned, as of a weight between units that are silent, decay alone changes it.
    layer.weight.data[:, 0] = 1.0
    layer.weight.register_hook(lambda found: torch.cat([torch.zeros_like(found[:, :1]), found[:, 1:]], dim=1))
    bias = layer.bias.detach().clone()
    encoder = [one.detach().clone() for one in parameters(method, "encoder")]
    method.train_step(method.next_batch(LEARNING), LEARNING)
    rate = 0.25 * 1e-3
    assert torch.allclose(layer.weight[:, 0], torch.full_like(layer.weight[:, 0], 1 - 4 * rate), atol=1e-7)
    assert float((layer.bias.detach() - (1 - 4 * rate) * bias).abs().max()) == pytest.approx(rate, rel=0.01)
    moved = max(
        float((a - b.detach()).abs().max()) for a, b in zip(encoder, parameters(method, "encoder"), strict=True)
    )
    assert moved == pytest.approx(1e-3, rel=0.01)


def test_noise_is_added_to_what_the_discriminator_is_given(eggs):
    given = []
    for noise in (0.0, 0.5):
        method = prepared(eggs, "pose_invariant", noise=noise)
        method.adversary.discriminator.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].detach()))
        batch = method.next_batch(LEARNING)
        codes = method.model.encode(batch.pictures).detach()
        method.train_step(batch, LEARNING)
    assert torch.allclose(given[0], codes, atol=1e-6)
    added = (given[1] - codes).square().mean().sqrt() / codes.square().mean().sqrt()
    assert float(added) == pytest.approx(0.5, rel=0.5)


# Towers whose height is their own, and whose width, in a picture, is that of the view: no shape has all of its masks.
WIDTHS = (0.15, 0.22, 0.28, 0.35)
TOWERS = NetworkConfig(encoder_widths=(8, 16, 16), encoder_hidden=64, code_dim=32, decoder_hidden=(64,))
STEPS = 300


def towers(count, seed):
    """Return pictures of 32 px from four sides."""
    heights = torch.from_numpy(np.random.default_rng(seed).uniform(0.15, 0.48, count)).float()
    widths = torch.tensor(WIDTHS).expand(count, -1)
    axes = torch.stack([widths, heights[:, None].expand_as(widths), widths], dim=2)
    sphere, cameras = icosphere(), kato_ring(32)[range(0, 24, 6)]
    screens = [project_perspective(sphere.vertices * one[:, None], cameras) for one in axes]
    masks = torch.stack([silhouette(one, sphere.faces, 32, SilhouetteStyle("contour", 2)) for one in screens])
    images = (255 * masks[:, :, None] * torch.tensor([0.7, 0.7, 0.7, 1.0])[:, None, None]).round().byte().numpy()
    names = tuple(f"tower {number}" for number in range(count))
    views = PictureViews(cameras.world_from_camera[None].float(), 15.0)
    return PictureSet(images, views, torch.arange(4).expand(count, 4), 4, names, ("tower",) * count)


def learned(mode, seed=0, **adversary):
    """Return what codes of towers that were not learned tell of the view, and how well their silhouettes fit."""
    config = PoseInvariantConfig(
        mode=mode,
        network=TOWERS,
        render=RenderConfig(supersample=1),
        loss=LossConfig(code_prior_weight=0.0),
        adversary=AdversaryConfig(**adversary),
        optim=OptimConfig(batch_size=16, lr=1e-3, warm_up_steps=50, precision="fp32"),
    )
    method = prepare_method(config, towers(32, 0), Path(), torch.device("cpu"), seed)
    for step in range(STEPS):
        method.train_step(method.next_batch(Moment(step, step / STEPS)), Moment(step, step / STEPS))
    held_out = towers(24, 1)
    found = predict(method, held_out)
    told = nearest_mean_probe(found.codes, held_out.pose_bins).accuracy
    fit = float(silhouette_rows(method, held_out, found)["silhouette_iou_input"].mean())
    return mean_pairwise_mmd(found.codes).mean, told, fit


@pytest.mark.slow
def test_codes_of_other_objects_tell_the_view_unless_they_are_kept_from_it():
    discrepancy, told, _ = learned("plain")
    assert discrepancy > 1.6
    assert told > 0.44
    discrepancy, told, fit = learned("pose_invariant", kind="mmd", weight=0.1)
    assert discrepancy < 0.9
    assert told < 0.42  # chance is 0.25
    assert fit > 0.6
    discrepancy, told, _ = learned("pose_invariant", kind="mmd", weight=0.1, shuffle_poses=True)
    assert discrepancy > 1.6
    assert told > 0.44
