"""Adam in one pass over a flat parameter, skipping entries without a gradient."""

from __future__ import annotations

import numpy as np
from numba import njit

_BLOCK = 4096


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def adam_step(parameter, gradient, mean, square, rate, beta1, beta2, eps, decay, correction1, correction2, lo, hi):
    """Take one Adam step (arXiv:1412.6980, algorithm 1) on ``[lo, hi)`` and clear the gradient.

    An entry whose gradient is exactly zero keeps its value and moments: on a hash table most entries are not touched by
    a batch. ``decay`` is the decoupled weight decay a unit of ``rate`` (arXiv:1711.05101).
    """
    zero = parameter.dtype.type(0.0)
    one = parameter.dtype.type(1.0)
    keep1 = one - beta1
    keep2 = one - beta2
    # Touched entries are numbered first, without a branch: they lie at random, and a mispredicted branch costs more.
    touched = np.empty(_BLOCK, np.int64)
    for block in range(lo, hi, _BLOCK):
        count = 0
        for i in range(block, min(block + _BLOCK, hi)):
            touched[count] = i
            count += gradient[i] != zero
        for k in range(count):
            i = touched[k]
            g = gradient[i]
            m = beta1 * mean[i] + keep1 * g
            v = beta2 * square[i] + keep2 * g * g
            mean[i] = m
            square[i] = v
            p = parameter[i]
            parameter[i] = p - rate * (m * correction1 / (np.sqrt(v * correction2) + eps) + decay * p)
            gradient[i] = zero
