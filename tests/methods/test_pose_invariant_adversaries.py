from dataclasses import dataclass

import pytest
import torch

from shapewright.analysis.pose_leak import nearest_mean_probe
from shapewright.methods.pose_invariant.adversaries import (
    CalibratedPoseAdversary,
    ContinuousPoseAdversary,
    MmdAdversary,
    PoseAdversary,
    Turn,
    pose_numbers,
)
from shapewright.methods.pose_invariant.batches import Batch
from shapewright.methods.pose_invariant.config import AdversaryConfig
from shapewright.networks.discriminators import PoseDiscriminator
from shapewright.networks.mesh_decoders import mlp

OBJECTS, BINS, CODE = 12, 4, 16
GENERATOR = torch.Generator().manual_seed(0)
# Every picture of every object has a code of its own, which also tells the bin.
OWN = torch.randn(OBJECTS, BINS, CODE, generator=GENERATOR)
TELLING = OWN.clone()
TELLING[:, torch.arange(BINS), torch.arange(BINS)] += 4
# The bins lie around the objects.
RING = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
WRONG = torch.stack([torch.randperm(BINS, generator=GENERATOR) for _ in range(OBJECTS)])


@dataclass
class Sight:
    step: int
    codes: torch.Tensor
    batch: Batch


def sight(step, codes, bins):
    objects, views = torch.arange(OBJECTS), torch.randint(BINS, (OBJECTS,), generator=GENERATOR)
    nothing = torch.zeros(0)
    seen = bins[objects, views]
    batch = Batch(nothing, nothing, nothing, nothing, nothing, seen, nothing, RING[seen], nothing, objects)
    return Sight(step, codes[objects, views].requires_grad_(), batch)


def learned(adversary, codes, bins, steps=200):
    """Train the discriminators alone; return how hard they would pull the encoder at the end."""
    optimizer = torch.optim.Adam(adversary.parameters(), 1e-2)
    for step in range(steps):
        turn = adversary.turn(sight(2 * step + 1, codes, bins))
        assert turn.trains_discriminator
        optimizer.zero_grad()
        sum(turn.terms.values()).backward()
        optimizer.step()
    fooled = sight(2 * steps, codes, bins)
    turn = adversary.turn(fooled)
    assert not turn.trains_discriminator
    turn.terms["adversarial"].backward()
    return float(fooled.codes.grad.norm()), turn.values


def pair():
    torch.manual_seed(0)
    return PoseDiscriminator(CODE, BINS, (32,)), PoseDiscriminator(CODE, BINS, (32,))


@pytest.mark.parametrize("kind", ["log_l2", "cross_entropy"])
def test_what_is_known_by_heart_is_not_trusted_and_teaches_nothing(kind):
    config = AdversaryConfig(kind=kind, calibrated=True)
    right = torch.arange(BINS).expand(OBJECTS, BINS)
    pull, values = learned(CalibratedPoseAdversary(config, pair()), TELLING, right)
    assert values["discriminator_trust"] > 0.5
    assert values["discriminator_accuracy"] > 0.5
    idle, values = learned(CalibratedPoseAdversary(config, pair()), OWN, WRONG)
    assert values["discriminator_trust"] < 0.1
    assert idle < 0.05 * pull
    # A plain discriminator learns the same wrong bins by heart, and has them fooled.
    squeeze, values = learned(PoseAdversary(AdversaryConfig(kind=kind), pair()[0]), OWN, WRONG)
    assert values["discriminator_accuracy"] > 0.5
    assert squeeze > 5 * idle


def test_trust_is_never_negative():
    adversary = CalibratedPoseAdversary(AdversaryConfig(calibrated=True), pair())
    with torch.no_grad():
        adversary.trust.fill_(-1.0)
    assert adversary.turn(sight(2, OWN, WRONG)).values["discriminator_trust"] == 0


def test_poses_are_told_as_cosines_and_sines():
    directions = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.6, -0.8], [0.0, 1.0, 0.0]])
    expected = torch.tensor([[1.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.8, 0.6], [0.0, 0.0, 0.0, 1.0]])
    assert torch.allclose(pose_numbers(directions), expected)


def test_poses_are_guessed_as_numbers_and_the_mean_is_what_fooling_leaves():
    torch.manual_seed(0)
    right = torch.arange(BINS).expand(OBJECTS, BINS)
    config = AdversaryConfig(kind="continuous")
    adversary = ContinuousPoseAdversary(config, mlp((CODE, 32, 4)))
    pull, values = learned(adversary, TELLING, right)
    assert values["discriminator_explains"] > 0.8
    assert pull > 0
    # Codes that all say the same leave the mean as the best guess: nothing to fool.
    same = torch.zeros(OBJECTS, BINS, CODE)
    mute = ContinuousPoseAdversary(config, mlp((CODE, 32, 4)))
    learned(mute, same, right)
    turn = mute.turn(sight(2, same, right))
    assert float(turn.terms["adversarial"].detach()) < 0.3
    assert turn.values["discriminator_explains"] < 0.1


# Objects in a game of an encoder with each adversary: features tell the bin in four places, beside what is to be kept.
PLAYERS = 64


def played(adversary, bins_told, steps=600):
    """Return how well codes of other objects tell their bins, and the error of what was to be kept."""
    generator = torch.Generator().manual_seed(1)
    own = torch.randn(2 * PLAYERS, 1, CODE, generator=generator) + 0.3 * torch.randn(
        2 * PLAYERS, BINS, CODE, generator=generator
    )
    features = own.clone()
    features[:, torch.arange(BINS), torch.arange(BINS)] += 3
    kept = own[:, :, BINS:]
    torch.manual_seed(2)
    encoder, decoder = torch.nn.Linear(CODE, CODE), torch.nn.Linear(CODE, CODE - BINS)
    torch.nn.init.eye_(encoder.weight)
    learner = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], 5e-3)
    module = adversary if isinstance(adversary, torch.nn.Module) else torch.nn.Linear(1, 1)
    opponent = torch.optim.Adam(module.parameters(), 5e-3)
    objects, nothing = torch.arange(PLAYERS), torch.zeros(0)
    for step in range(1, steps + 1):
        views = torch.randint(BINS, (PLAYERS,), generator=generator)
        bins = bins_told[objects, views]
        codes = encoder(features[objects, views])
        batch = Batch(nothing, nothing, nothing, nothing, nothing, bins, nothing, RING[bins], nothing, objects)
        turn = adversary.turn(Sight(step, codes, batch))
        learner.zero_grad()
        opponent.zero_grad()
        ((decoder(codes) - kept[objects, views]).square().mean() + sum(turn.terms.values())).backward()
        learner.step()
        if turn.trains_discriminator:
            opponent.step()
    with torch.no_grad():
        codes = encoder(features[PLAYERS:])
        error = float((decoder(codes) - kept[PLAYERS:]).square().mean())
    right = torch.arange(BINS).expand(PLAYERS, BINS)
    return nearest_mean_probe(codes, right).accuracy, error


class Idle:
    def turn(self, _):
        return Turn({})


def adversary_named(name):
    torch.manual_seed(0)
    if name == "none":
        return Idle()
    if name == "mmd":
        return MmdAdversary(AdversaryConfig(kind="mmd", weight=1.0), BINS)
    if name == "continuous":
        return ContinuousPoseAdversary(AdversaryConfig(kind="continuous", weight=1.0), mlp((CODE, 32, 4)))
    if name == "calibrated":
        return CalibratedPoseAdversary(AdversaryConfig(calibrated=True), pair())
    return PoseAdversary(AdversaryConfig(kind=name, weight=1.0), pair()[0])


@pytest.mark.parametrize("name", ["none", "log_l2", "cross_entropy", "reversal", "continuous", "mmd", "calibrated"])
def test_codes_stop_telling_the_bins_of_other_objects_and_keep_the_rest(name):
    right = torch.arange(BINS).expand(PLAYERS, BINS)
    told, error = played(adversary_named(name), right)
    assert error < 0.15  # of a variance of 1.09
    if name == "none":
        assert told > 0.75
    else:
        assert told < (0.7 if name == "reversal" else 0.55)


@pytest.mark.parametrize("name", ["mmd", "calibrated"])
def test_wrong_bins_take_nothing_from_the_codes(name):
    wrong = torch.stack([torch.randperm(BINS, generator=GENERATOR) for _ in range(PLAYERS)])
    assert played(adversary_named(name), wrong)[0] > 0.6
