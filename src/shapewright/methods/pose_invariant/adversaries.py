"""Adversaries: who guesses the pose from a code, and who tells seen from unseen sides, and how they are fooled."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import log_softmax, nll_loss

from shapewright.engine.seed import make_generator
from shapewright.losses.domain_confusion import (
    confusion_loss,
    directions,
    reverse_gradient,
    standardised,
    uniform_cross_entropy,
)
from shapewright.losses.view_prior import detection_loss, fooling_loss
from shapewright.methods.pose_invariant.batches import Batch
from shapewright.methods.pose_invariant.config import AdversaryConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.metrics.mmd import pose_mmd_loss
from shapewright.networks.discriminators import PictureDiscriminator, PoseDiscriminator
from shapewright.networks.mesh_decoders import mlp
from shapewright.networks.view_discriminators import EyeDiscriminator, RotationDiscriminator

_MMD_GROUPS = 4
# Adam moves every parameter by about its rate a step: in these units a trust falls to nothing within some hundreds.
_TRUST_UNIT = 10.0
_LEAST_SPREAD = 1e-6
_SIGHTS = {"raw": lambda codes: codes, "standardised": standardised, "directions": directions}


class Sight(Protocol):
    """What an adversary sees of a step."""

    @property
    def step(self) -> int:
        """Return the number of the step, counted from 1."""
        ...

    @property
    def codes(self) -> Tensor:
        """Return the codes as a discriminator gets them."""
        ...

    @property
    def batch(self) -> Batch:
        """Return the pictures and poses."""
        ...

    @property
    def seen(self) -> Tensor:
        """Return the meshes from the sides of their pictures: coverage, after colours where there are some."""
        ...

    def unseen(self) -> Tensor:
        """Return the meshes from the unseen poses."""
        ...


@dataclass(frozen=True)
class Turn:
    """Say what an adversary adds to a step.

    Args:
        terms: Weighted terms of the loss.
        values: What is only reported.
        trains_discriminator: Whether the discriminator takes a step.
    """

    terms: dict[str, Tensor]
    values: dict[str, float] = field(default_factory=dict)
    trains_discriminator: bool = False


class Adversary(Protocol):
    """What makes the unseen side honest."""

    def turn(self, sight: Sight) -> Turn:
        """Return what it adds to a step."""
        ...


class PoseAdversary(nn.Module):
    """Guess the pose bin from codes, and make codes from which it cannot be guessed (arXiv:2004.01347).

    In all steps but every n-th the discriminator learns; in every n-th the encoder learns to fool it and the
    discriminator's gradient is not used. With ``reversal`` both happen in every step.

    Args:
        config: The adversary.
        discriminator: Of pose bins.
    """

    def __init__(self, config: AdversaryConfig, discriminator: nn.Module) -> None:
        super().__init__()
        self.config, self.discriminator = config, discriminator

    def turn(self, sight: Sight) -> Turn:
        """Return the discriminator's loss, or the one that fools it."""
        config, batch = self.config, sight.batch
        seen = self._blurred(sight)
        if config.kind == "reversal":
            guess = self.discriminator(reverse_gradient(seen, config.weight))
            return Turn({"discriminator": nll_loss(guess, batch.bins)}, _accuracy(guess, batch), True)
        if sight.step % config.every:
            guess = self.discriminator(seen.detach())
            return Turn({"discriminator": nll_loss(guess, batch.bins)}, _accuracy(guess, batch), True)
        guess = self.discriminator(seen)
        return Turn({"adversarial": config.weight * self._fool(guess)}, _accuracy(guess, batch))

    @torch.no_grad()
    def accuracy(self, codes: Float[Tensor, "n told"], bins: Int64[Tensor, " n"]) -> float | None:
        """Return how often bins of codes are named, the mean of both discriminators where there are two; None: never.

        Args:
            codes: As a discriminator gets them.
            bins: Of their pictures.
        """
        guesses = self._guesses(_SIGHTS[self.config.codes](codes))
        return sum(_share_named(guess, bins) for guess in guesses) / len(guesses)

    def _guesses(self, seen: Tensor) -> list[Tensor]:
        """Return what each discriminator makes of codes."""
        return [self.discriminator(seen)]

    def _fool(self, log_probabilities: Tensor) -> Tensor:
        """Return how far the answers are from uniform ones."""
        return (confusion_loss if self.config.kind == "log_l2" else uniform_cross_entropy)(log_probabilities)

    def _blurred(self, sight: Sight) -> Float[Tensor, "n code"]:
        """Return the codes as the discriminator is given them."""
        seen = _SIGHTS[self.config.codes](sight.codes)
        if not self.config.noise:
            return seen
        noise = torch.randn(seen.shape, generator=make_generator(sight.step, "noise")).to(seen)
        return seen + self.config.noise * seen.detach().square().mean().sqrt() * noise


class CalibratedPoseAdversary(PoseAdversary):
    """Fool nothing but what holds for objects that the discriminator has not seen.

    A discriminator also learns pictures by heart, and jitters around what it knows; to fool that, an encoder shortens
    its codes and gives up shape, whatever the labels are. Here each of two discriminators learns from half of the
    objects. On the other half its logits are multiplied by a trust, a number that is learned there by the likelihood of
    the true bins (temperature scaling, arXiv:1706.04599, equation 9); with that trust it judges, and is fooled. Bins
    that codes of other objects do not tell end in a trust of 0, and leave the encoder alone.

    Args:
        config: The adversary.
        discriminators: Two, of pose bins: of the objects at even places, and of those at odd ones.
    """

    def __init__(self, config: AdversaryConfig, discriminators: tuple[PoseDiscriminator, PoseDiscriminator]) -> None:
        super().__init__(config, nn.ModuleList(discriminators))
        self.trust = nn.Parameter(torch.full((2,), 1 / _TRUST_UNIT))

    def turn(self, sight: Sight) -> Turn:
        """Return the losses of the discriminators and of their trust, or the one that fools them."""
        config, batch = self.config, sight.batch
        is_learning = bool(sight.step % config.every)
        seen = self._blurred(sight)
        first, second = self._guesses(seen.detach() if is_learning else seen)
        is_odd = (batch.objects % 2 == 1)[:, None]
        with torch.no_grad():
            self.trust.clamp_(min=0)
        trust = _TRUST_UNIT * torch.where(is_odd, self.trust[0], self.trust[1])
        known, new = torch.where(is_odd, second, first), torch.where(is_odd, first, second)
        values = _accuracy(new, batch) | {"discriminator_trust": float(_TRUST_UNIT * self.trust.detach().mean())}
        if is_learning:
            judged = log_softmax(trust * new.detach(), dim=1)
            terms = {"discriminator": nll_loss(known, batch.bins), "calibration": nll_loss(judged, batch.bins)}
            return Turn(terms, values, True)
        judged = log_softmax(trust.detach() * new, dim=1)
        return Turn({"adversarial": config.weight * self._fool(judged)}, values)

    def _guesses(self, seen: Tensor) -> list[Tensor]:
        """Return what both make of codes."""
        return [network(seen) for network in self.discriminator.children()]


class ContinuousPoseAdversary(PoseAdversary):
    """Guess azimuth and elevation from codes as numbers, and make codes from which only their mean can be guessed.

    Neighbouring poses are not strangers to each other, as they are in bins, and no bin is empty. The discriminator
    returns the numbers of ``pose_numbers``.
    """

    def accuracy(self, codes: Float[Tensor, "n told"], bins: Int64[Tensor, " n"]) -> None:
        """Return None: it names no bins."""

    def turn(self, sight: Sight) -> Turn:
        """Return the regressor's squared error, or how far its guesses are from the mean."""
        seen, told = self._blurred(sight), pose_numbers(sight.batch.directions)
        is_learning = bool(sight.step % self.config.every)
        guess = self.discriminator(seen.detach() if is_learning else seen).float()
        spread = (told - told.mean(0)).square().sum(1).mean()
        error = (guess - told).square().sum(1).mean()
        values = {"discriminator_explains": float(1 - error.detach() / spread.clamp(min=_LEAST_SPREAD))}
        if is_learning:
            return Turn({"discriminator": error}, values, True)
        return Turn({"adversarial": self.config.weight * (guess - told.mean(0)).square().sum(1).mean()}, values)


class MmdAdversary:
    """Pull the codes of different poses together by their maximum mean discrepancy, without a discriminator.

    Args:
        config: The adversary.
        num_bins: Bins of poses; neighbours are joined to four groups, so that a batch has several pictures of each.
    """

    def __init__(self, config: AdversaryConfig, num_bins: int) -> None:
        self._weight, self._num_bins = config.weight, num_bins

    def turn(self, sight: Sight) -> Turn:
        """Return the mean discrepancy between the groups."""
        groups = sight.batch.bins * _MMD_GROUPS // self._num_bins
        return Turn({"adversarial": self._weight * pose_mmd_loss(sight.codes, groups)})


class ViewPrior(nn.Module):
    """Tell silhouettes from seen sides from those of unseen sides, and make meshes that defy it (arXiv:1811.10719).

    Args:
        config: The adversary.
        discriminator: Takes silhouettes and where they are seen from.
        kind: What the pictures are.
        dtype: Of the products of the discriminator.
    """

    def __init__(
        self, config: AdversaryConfig, discriminator: nn.Module, kind: PictureKind, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.config, self.kind, self.dtype = config, kind, dtype
        self.discriminator = discriminator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def turn(self, sight: Sight) -> Turn:
        """Return the loss of both sides: by gradient reversal in one step, or in turns."""
        config, batch = self.config, sight.batch
        given = batch.masks[:, None]
        if sight.seen.shape[1] > 1:
            given = torch.cat([batch.colours, given], dim=1)
        seen = sight.seen if config.real == "seen" else given
        if config.form == "vpl" and not config.iterative:
            real = self._judge(reverse_gradient(seen, config.weight), batch.poses, batch)
            fake = self._judge(reverse_gradient(sight.unseen(), config.weight), batch.unseen, batch)
            return Turn({"discriminator": detection_loss(real, fake)}, _share_right(real, fake), True)
        if sight.step % config.every:
            real = self._judge(seen.detach(), batch.poses, batch)
            fake = self._judge(sight.unseen().detach(), batch.unseen, batch)
            share = 0.5 if config.form == "onehot" else 1.0
            return Turn({"discriminator": share * detection_loss(real, fake)}, _share_right(real, fake), True)
        fake = self._judge(sight.unseen(), batch.unseen, batch)
        return Turn({"adversarial": config.weight * fooling_loss(fake)})

    def _judge(self, pictures: Tensor, poses: Tensor, batch: Batch) -> Tensor:
        bins = batch.bins if poses is batch.poses else batch.unseen_bins
        with torch.autocast(pictures.device.type, self.dtype, enabled=self.dtype != torch.float32):
            if self.config.form == "onehot":
                return self.discriminator(pictures[:, -1], bins).float()
            told = batch.classes if self.discriminator.num_classes else None
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            return self.discriminator(pictures, self.kind.condition(poses), told).float()


def pose_numbers(directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Return cosine and sine of the azimuth and of the elevation from which pictures were taken.

    Args:
        directions: From the objects to the cameras, of length 1; y is up. Straight above there is no azimuth: zeros.
    """
    flat = directions[:, [0, 2]]
    level = flat.norm(dim=1, keepdim=True)
    return torch.cat([flat / level.clamp(min=_LEAST_SPREAD), level, directions[:, 1:2]], dim=1)


def adversary_of(
    config: PoseInvariantConfig, kind: PictureKind, dtype: torch.dtype = torch.float32
) -> Adversary | None:
    """Return the adversary that the settings name, untrained; pictures are judged by products of the type."""
    told = config.network.code_dim + _num_told(config, kind)
    if config.mode == "pose_invariant" and config.adversary.kind != "none":
        if config.adversary.kind == "mmd":
            return MmdAdversary(config.adversary, kind.num_bins)
        if config.adversary.kind == "continuous":
            regressor = mlp((told, *config.network.discriminator_hidden, 4))
            return ContinuousPoseAdversary(config.adversary, regressor)
        sizes = (told, kind.num_bins, config.network.discriminator_hidden)
        if config.adversary.calibrated and config.adversary.kind != "reversal":
            return CalibratedPoseAdversary(config.adversary, (PoseDiscriminator(*sizes), PoseDiscriminator(*sizes)))
        return PoseAdversary(config.adversary, PoseDiscriminator(*sizes))
    if config.has_view_prior:
        return ViewPrior(config.adversary, picture_discriminator(config, kind), kind, dtype)
    return None


def picture_discriminator(config: PoseInvariantConfig, kind: PictureKind) -> nn.Module:
    """Return the discriminator of silhouettes that the settings name."""
    widths = [config.network.image_widths] if config.network.image_widths else []
    if config.adversary.form == "onehot":
        return PictureDiscriminator(kind.num_bins, config.render.size or kind.size, *widths)
    told = _num_told(config, kind)
    channels = 4 if config.network.texture else 1
    if kind.half_angle_deg is None:
        return RotationDiscriminator(channels, told, *widths)
    return EyeDiscriminator(channels, told, *widths)


def _num_told(config: PoseInvariantConfig, kind: PictureKind) -> int:
    """Return how many categories a discriminator is told apart."""
    return len(kind.classes) if config.network.class_conditional != "none" else 0


def _share_right(real: Tensor, fake: Tensor) -> dict[str, float]:
    right = torch.cat([real.detach().flatten() > 0, fake.detach().flatten() < 0])
    return {"discriminator_accuracy": float(right.float().mean())}


def _accuracy(guess: Tensor, batch: Batch) -> dict[str, float]:
    return {"discriminator_accuracy": _share_named(guess, batch.bins)}


def _share_named(guess: Tensor, bins: Tensor) -> float:
    return float((guess.detach().argmax(1) == bins).float().mean())
