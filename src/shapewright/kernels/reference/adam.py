"""Adam that leaves entries without a gradient alone, in plain torch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class AdamNumbers(NamedTuple):
    """Hold the numbers of one step.

    Attributes:
        rate: Learning rate.
        beta1: Decay of the mean of gradients; beta2: of the mean of squares.
        eps: Added to the root of the mean of squares.
        decay: Decoupled weight decay a unit of ``rate`` (arXiv:1711.05101).
        correction1: ``1 / (1 - beta1^t)`` for step ``t``; correction2: the same of ``beta2``.
    """

    rate: float
    beta1: float
    beta2: float
    eps: float
    decay: float
    correction1: float
    correction2: float

    @staticmethod
    def of_step(step: int, rate: float, betas: tuple[float, float], eps: float, decay: float = 0.0) -> AdamNumbers:
        """Return the numbers of step ``1, 2, ..``."""
        corrections = (1.0 / (1.0 - beta**step) for beta in betas)
        return AdamNumbers(rate, *betas, eps, decay, *corrections)


def adam_step(parameter: Tensor, gradient: Tensor, mean: Tensor, square: Tensor, numbers: AdamNumbers) -> None:
    """Take one step (arXiv:1412.6980, algorithm 1) in place and clear the gradient.

    An entry whose gradient is exactly zero keeps its value and its means: a batch touches few entries of a hash table.
    """
    rate, beta1, beta2, eps, decay, correction1, correction2 = numbers
    touched = gradient != 0
    new_mean = beta1 * mean + (1.0 - beta1) * gradient
    new_square = beta2 * square + (1.0 - beta2) * gradient * gradient
    step = new_mean * correction1 / ((new_square * correction2).sqrt() + eps) + decay * parameter
    for old, new in ((mean, new_mean), (square, new_square), (parameter, parameter - rate * step)):
        torch.where(touched, new, old, out=old)
    gradient.zero_()
