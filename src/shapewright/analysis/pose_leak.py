"""How much a code tells of the pose of its picture: what a probe finds that was never trained against.

Codes of a shape should not say from where it was seen. Two simple classifiers guess the pose bin from frozen codes,
always of objects that they were not fitted to; what they find above chance has leaked into the code.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.errors import UserError

# Iterations of L-BFGS; the penalty makes the problem strictly convex.
ITERATIONS = 200
# Entries of a code that vary less than this share of the most varying one count as constant.
CONSTANT = 1e-6


@dataclass(frozen=True)
class PoseProbe:
    """Hold how often a probe guessed the pose bin of a code.

    Args:
        accuracy: Share of the codes whose bin it guessed.
        chance: One over the number of bins that occur.
        largest_bin: Share of the codes in the fullest bin: what the same guess for all gets.
    """

    accuracy: float
    chance: float
    largest_bin: float

    @property
    def times_chance(self) -> float:
        """Return how many times better than chance the probe is."""
        return self.accuracy / self.chance


def nearest_mean_probe(codes: Float[Tensor, "objects views code"], bins: Int64[Tensor, "objects views"]) -> PoseProbe:
    """Return how often the mean code of the right bin is the nearest, the means taken over all other objects.

    Where no other object has a picture in the right bin, the guess is wrong.

    Args:
        codes: Of the pictures of every object.
        bins: The bin of each picture's pose.

    Raises:
        ValueError: if shapes disagree, or a code is not finite.
        UserError: if there is one object only.
    """
    codes, bins, num_bins = _checked(codes, bins)
    of_objects = torch.nn.functional.one_hot(bins, num_bins).to(codes)
    sums = of_objects.flatten(0, 1).T @ codes.flatten(0, 1)
    counts = of_objects.sum(dim=(0, 1))
    right = 0
    for own, of_own, own_bins in zip(codes, of_objects, bins, strict=True):
        others = counts - of_own.sum(0)
        means = (sums - of_own.T @ own) / others.clamp(min=1)[:, None]
        distances = torch.where(others > 0, torch.cdist(own, means), torch.inf)
        right += int((distances.argmin(1) == own_bins).sum())
    return _probe(right, bins, num_bins)


def linear_probe(
    codes: Float[Tensor, "objects views code"],
    bins: Int64[Tensor, "objects views"],
    folds: int = 5,
    penalty: float = 1.0,
    seed: int = 0,
) -> PoseProbe:
    """Return how often a linear softmax guesses the bin, fitted to the objects of all folds but the one it is asked of.

    It minimises ``sum of -log p(bin) + penalty / 2 |W|^2`` on codes with mean 0 and variance 1, the bias unpenalised.

    Args:
        codes: Of the pictures of every object.
        bins: The bin of each picture's pose.
        folds: Groups of objects; as many as objects if there are fewer of these.
        penalty: Of the weights, positive.
        seed: Decides which objects are in which fold.

    Raises:
        ValueError: if shapes disagree, or a code is not finite.
        UserError: if there is one object only.
    """
    check_range("folds", folds, 2)
    check_range("penalty", penalty, 1e-9)
    codes, bins, num_bins = _checked(codes, bins)
    order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))
    fold_of_object = torch.empty_like(order)
    fold_of_object[order] = torch.arange(len(codes)) % min(folds, len(codes))
    right = 0
    for fold in range(int(fold_of_object.max()) + 1):
        asked = (fold_of_object == fold).to(codes.device)
        rows = codes[~asked].flatten(0, 1)
        mean, scale = rows.mean(0), rows.std(0, correction=0)
        # What hardly varies among the codes fitted to stays small among those asked of.
        scale = torch.where(scale > CONSTANT * scale.max(), scale, 1.0)
        W, b = _fit_softmax((rows - mean) / scale, bins[~asked].flatten(), num_bins, penalty)
        guesses = ((codes[asked].flatten(0, 1) - mean) / scale @ W + b).argmax(1)
        right += int((guesses == bins[asked].flatten()).sum())
    return _probe(right, bins, num_bins)


def _checked(
    codes: Float[Tensor, "objects views code"], bins: Int64[Tensor, "objects views"]
) -> tuple[Float[Tensor, "objects views code"], Int64[Tensor, "objects views"], int]:
    """Return codes around their mean in single precision or better, and bins renumbered without gaps."""
    check_shape("codes", codes, (None, None, None))
    check_shape("bins", bins, tuple(codes.shape[:2]))
    check_finite("codes", codes)
    check_range("views", codes.shape[1], 1)
    if len(codes) < 2:
        raise UserError(
            f"Probes are fitted to other objects than they are asked of, but there are only {len(codes)}.",
            "Take a split with two objects at least.",
        )
    found, renumbered = bins.to(codes.device).unique(return_inverse=True)
    codes = codes.detach() if codes.dtype == torch.float64 else codes.detach().float()
    return codes - codes.mean(dim=(0, 1)), renumbered, len(found)


def _fit_softmax(
    rows: Float[Tensor, "n code"], bins: Int64[Tensor, " n"], num_bins: int, penalty: float
) -> tuple[Float[Tensor, "code bins"], Float[Tensor, " bins"]]:
    """Return weights and bias of the softmax regression."""
    W = rows.new_zeros(rows.shape[1], num_bins, requires_grad=True)
    b = rows.new_zeros(num_bins, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [W, b], max_iter=ITERATIONS, tolerance_grad=1e-5, tolerance_change=1e-7, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(rows @ W + b, bins) + penalty / (2 * len(rows)) * W.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return W.detach(), b.detach()


def _probe(right: int, bins: Int64[Tensor, "objects views"], num_bins: int) -> PoseProbe:
    return PoseProbe(right / bins.numel(), 1 / num_bins, int(bins.flatten().bincount().max()) / bins.numel())
