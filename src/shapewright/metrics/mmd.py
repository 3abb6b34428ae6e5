"""How far apart the codes of two poses lie: the maximum mean discrepancy.

It is zero when the codes of one pose are spread as those of another, and grows when an encoder answers each pose with
codes of its own. Its kernels are as wide as the codes are apart, so two things must be told beside it: the number of
codes n, because two samples of one law are about 6.1 / n apart, and how large and how different the codes are, because
codes that collapse together look no different from healthy ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.errors import UserError

# Kernels of bandwidths s, 2 s, 4 s, 8 s and 16 s.
NUM_KERNELS = 5
WIDEST = 2.0 ** (NUM_KERNELS - 1)
# What two samples of one law are apart, times n, whatever the dimension.
FLOOR_TIMES_N = 6.1
CONSTANT_CODE = "All codes are equal: their distances are 0 / 0 of the kernels' bandwidth."
CODES_PER_CHUNK = 1024


@dataclass(frozen=True)
class MmdResult:
    """Hold the discrepancy between the codes of poses, and what is needed to read it.

    Args:
        mean: Over the pairs of poses; NaN if the codes of a pair are all equal.
        unbiased: The same mean of :func:`unbiased_mmd`.
        pairs: How many pairs of poses were compared.
        n: Codes of each pose; discrepancies of different n cannot be compared.
        mean_norm: Mean length of the codes.
        between_object_spread: Root mean square distance of the objects' mean codes from the mean of all.
    """

    mean: float
    unbiased: float
    pairs: int
    n: int
    mean_norm: float
    between_object_spread: float

    @property
    def floor(self) -> float:
        """Return what independent samples of one law are apart at this n; codes of the same objects can be nearer."""
        return FLOOR_TIMES_N / self.n

    @property
    def note(self) -> str:
        """Return why there is no number, in a sentence; nothing if there is one."""
        return CONSTANT_CODE if math.isnan(self.mean) else ""


def mmd(x: Float[Tensor, "n code"], y: Float[Tensor, "n code"]) -> float:
    """Return the squared maximum mean discrepancy of two sets of codes, biased, the diagonal included.

    With the squared distances d2 between all N = 2 n codes, ``s = sum(d2) / (N^2 - N) / 4`` and the kernel
    ``k = sum over q = 0..4 of exp(-d2 / (2^q s))``, it is the mean of ``k_xx + k_yy - k_xy - k_yx`` (Gretton et al.,
    JMLR 2012, eq. 5, with several kernels as Long et al., arXiv:1502.02791, have it). It lies in [0, 10].

    Args:
        x: Codes of one pose.
        y: Codes of another: as many.

    Returns:
        The discrepancy; NaN if all codes are equal up to rounding, because s is zero then and says nothing.

    Raises:
        ValueError: if the shapes differ, there is no code, or one is not finite.
    """
    return _discrepancies(x, y)[0]


def unbiased_mmd(x: Float[Tensor, "n code"], y: Float[Tensor, "n code"]) -> float:
    """Return :func:`mmd` without its diagonal: the mean over pairs of different objects (Gretton et al., eq. 4).

    What a pose does to the code of each object apart, in a direction of its own, moves the diagonal alone: on n objects
    it stays in :func:`mmd` at 1 / n of its size, and leaves here. What is left is how the laws of the codes differ, and
    that is what an adversary compares.

    Args:
        x: Codes of the objects from one pose.
        y: Codes of the same objects in the same order from another.

    Returns:
        The discrepancy, below zero by chance if there is none; NaN of one object, or if all codes are equal.

    Raises:
        ValueError: as of :func:`mmd`.
    """
    return _discrepancies(x, y)[1]


def _discrepancies(x: Float[Tensor, "n code"], y: Float[Tensor, "n code"]) -> tuple[float, float]:
    """Return the discrepancy with its diagonal and without."""
    check_shape("x", x, (None, None))
    check_shape("y", y, tuple(x.shape))
    check_range("n", len(x), 1)
    codes = torch.cat([x.detach(), y.detach()])
    check_finite("codes", codes)
    # Differences to one of the codes: exactly zero if all are equal, and no digits are lost to a common offset.
    shifted = codes.double() - codes[:1].double()
    bandwidth = _bandwidth(shifted)
    if not float(bandwidth) > _rounding(codes):
        return math.nan, math.nan
    signs = torch.ones_like(shifted[:, 0])
    signs[len(x) :] = -1
    products = torch.zeros_like(signs[0])
    for chunk, of_chunk in zip(shifted.split(CODES_PER_CHUNK), signs.split(CODES_PER_CHUNK), strict=True):
        products += of_chunk @ (_kernels(chunk, shifted, bandwidth) @ signs)
    n = len(x)
    of_pairs = _summed((shifted[:n] - shifted[n:]).square().sum(1), bandwidth).sum()
    diagonal = 2 * (NUM_KERNELS * n - of_pairs)
    unbiased = float(products - diagonal) / (n * (n - 1)) if n > 1 else math.nan
    return max(0.0, float(products) / n**2), unbiased


def mean_pairwise_mmd(codes: Float[Tensor, "objects views code"]) -> MmdResult:
    """Return the mean discrepancy over all pairs of views of the same objects: 276 pairs of 24 views.

    Args:
        codes: Of the same objects, seen from the same views.

    Raises:
        ValueError: if there is no object, there are fewer than two views, or a code is not finite.
    """
    check_shape("codes", codes, (None, None, None))
    objects, views, _ = codes.shape
    check_range("objects", objects, 1)
    check_range("views", views, 2)
    values = [_discrepancies(codes[:, i], codes[:, j]) for i, j in combinations(range(views), 2)]
    return MmdResult(
        *_means(values),
        len(values),
        objects,
        float(codes.detach().double().norm(dim=-1).mean()),
        _spread(codes.detach().double().mean(dim=1)),
    )


def mean_binned_mmd(
    codes: Float[Tensor, "pictures code"],
    bins: Int64[Tensor, " pictures"],
    objects: Int64[Tensor, " pictures"],
    fewest: int = 20,
    seed: int = 0,
) -> MmdResult:
    """Return the mean discrepancy over the pairs of pose bins that hold enough codes, for pictures from random poses.

    From every such bin the same number of codes is drawn, as many as the smallest of them holds: sets of different
    sizes cannot be compared.

    Args:
        codes: One row a picture.
        bins: The bin of its pose.
        objects: The object that it shows.
        fewest: Codes that a bin must hold to take part.
        seed: Decides which codes are drawn.

    Raises:
        ValueError: if shapes disagree, or a code is not finite.
        UserError: if fewer than two bins hold enough codes.
    """
    check_shape("codes", codes, (None, None))
    check_shape("bins", bins, (len(codes),))
    check_shape("objects", objects, (len(codes),))
    check_range("fewest", fewest, 1)
    found, counts = bins.unique(return_counts=True)
    kept = counts >= fewest
    if int(kept.sum()) < 2:
        raise UserError(
            f"Only {int(kept.sum())} of {len(found)} pose bins hold {fewest} pictures or more; two are needed.",
            "Choose wider bins, or look at more objects.",
        )
    generator = torch.Generator().manual_seed(seed)
    n = int(counts[kept].min())
    sets = []
    for name in found[kept]:
        members = (bins == name).nonzero().squeeze(1)
        drawn = torch.randperm(len(members), generator=generator)[:n]
        sets.append(codes[members[drawn.to(members.device)]])
    values = [_discrepancies(x, y) for x, y in combinations(sets, 2)]
    rows = codes.detach().double()
    norm = float(rows.norm(dim=1).mean())
    return MmdResult(*_means(values), len(values), n, norm, _spread(_means_of_objects(rows, objects)))


def mmd_loss(x: Float[Tensor, "n code"], y: Float[Tensor, "m code"]) -> Float[Tensor, ""]:
    """Return :func:`mmd` with its gradient, for sets of any size: the mean over each block of pairs.

    The bandwidth has a gradient as well: the loss does not change with the scale of the codes, so that it cannot be
    lowered by shrinking them.

    Args:
        x: Codes of one pose.
        y: Codes of another.

    Returns:
        The discrepancy; 0 without a gradient if all codes are equal.

    Raises:
        ValueError: if the codes differ in length, or a set is empty.
    """
    check_shape("x", x, (None, None))
    check_shape("y", y, (None, x.shape[1]))
    check_range("n", min(len(x), len(y)), 1)
    weights = torch.cat([x.new_full((len(x),), 1 / len(x)), y.new_full((len(y),), -1 / len(y))])
    return _weighted_discrepancy(torch.cat([x, y]), weights[None])


def pose_mmd_loss(codes: Float[Tensor, "n code"], bins: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Return the mean over the pose bins of a batch of the discrepancy between a bin's codes and all others.

    One bandwidth, that of the whole batch, serves all bins. With two bins it is :func:`mmd_loss` of them.

    Args:
        codes: Of a batch of pictures.
        bins: The bin of each picture's pose.

    Returns:
        The mean; 0 without a gradient if there is one bin only, or all codes are equal.

    Raises:
        ValueError: if there is not one bin for each code.
    """
    check_shape("codes", codes, (None, None))
    check_shape("bins", bins, (len(codes),))
    found, index = bins.unique(return_inverse=True)
    if len(found) < 2:
        return codes.sum() * 0
    members = one_hot(index, len(found)).T.to(codes)
    others = 1 - members
    weights = members / members.sum(1, keepdim=True) - others / others.sum(1, keepdim=True)
    return _weighted_discrepancy(codes, weights)


def _weighted_discrepancy(codes: Float[Tensor, "n code"], weights: Float[Tensor, "sets n"]) -> Float[Tensor, ""]:
    """Return the mean over the sets of weights of ``w k w``."""
    shifted = codes - codes[:1].detach()
    bandwidth = _bandwidth(shifted)
    if not float(bandwidth.detach()) > _rounding(codes.detach()):
        return codes.sum() * 0
    return ((weights @ _kernels(shifted, shifted, bandwidth)) * weights).sum(1).mean()


def _bandwidth(codes: Float[Tensor, "n code"]) -> Float[Tensor, ""]:
    """Return ``sum(d2) / (N^2 - N) / 4``, where the sum of all squared distances is 2 N sum |z - mean|^2."""
    return (codes - codes.mean(0)).square().sum() / (2 * max(len(codes) - 1, 1))


def _rounding(codes: Float[Tensor, "n code"]) -> float:
    """Return the bandwidth of codes that differ by the rounding of their type only."""
    return torch.finfo(codes.dtype).eps ** 2 * float(codes.double().square().sum(1).mean())


def _kernels(
    x: Float[Tensor, "n code"], y: Float[Tensor, "m code"], bandwidth: Float[Tensor, ""]
) -> Float[Tensor, "n m"]:
    """Return the sums of the kernels."""
    return _summed((x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp(min=0), bandwidth)


def _summed(distances: Tensor, bandwidth: Float[Tensor, ""]) -> Tensor:
    """Return the sum of the kernels of squared distances: powers 1, 2, 4, 8 and 16 of the widest, one exponential."""
    power = torch.exp(-distances / (WIDEST * bandwidth))
    total = power
    for _ in range(NUM_KERNELS - 1):
        power = power * power
        total = total + power
    return total


def _means(values: list[tuple[float, float]]) -> tuple[float, float]:
    biased, unbiased = zip(*values, strict=True)
    return sum(biased) / len(values), sum(unbiased) / len(values)


def _means_of_objects(rows: Float[Tensor, "n code"], objects: Int64[Tensor, " n"]) -> Float[Tensor, "objects code"]:
    found, index, counts = objects.unique(return_inverse=True, return_counts=True)
    sums = rows.new_zeros(len(found), rows.shape[1]).index_add_(0, index, rows)
    return sums / counts[:, None]


def _spread(means: Float[Tensor, "objects code"]) -> float:
    return float((means - means.mean(0)).square().sum(1).mean().sqrt())
