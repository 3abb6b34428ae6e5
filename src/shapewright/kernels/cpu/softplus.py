"""Softplus and its derivative in one pass on the CPU.

In float32 exp and log1p are polynomials, which LLVM turns into vector instructions; the library's are calls.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numba import njit
from torch import Tensor

from shapewright.kernels.pool import run_slices

_OPTIONS = {"nogil": True, "cache": True, "error_model": "numpy", "fastmath": {"contract"}}
_ZERO, _ONE, _TWO, _HALF = (np.float32(value) for value in (0.0, 1.0, 2.0, 0.5))
_LOG2E = np.float32(1.4426950408889634)
# ln 2 in two parts, the first with few bits, so that n ln 2 is subtracted almost exactly.
_LN2_HIGH, _LN2_LOW = np.float32(0.693145751953125), np.float32(1.428606765330187e-06)
_E3, _E4, _E5, _E6 = (np.float32(1 / value) for value in (6, 24, 120, 720))
_A3, _A5, _A7, _A9, _A11, _A13 = (np.float32(2 / value) for value in (3, 5, 7, 9, 11, 13))
# exp(-80) is a normal number; below it denormals would begin, at ten times the cost.
_LEAST = np.float32(-80)
_EXPONENT_BIAS = np.int32(127)
_MANTISSA_BITS = np.int32(23)


@njit(**_OPTIONS)
def _softplus32(x, value, slope, beta, begin, end):
    inverse = _ONE / beta
    for i in range(begin, end):
        z = beta * x[i]
        low = max(-abs(z), _LEAST)
        n = np.floor(low * _LOG2E + _HALF)
        r = (low - n * _LN2_HIGH) - n * _LN2_LOW
        # exp(r) for |r| <= ln(2) / 2, times 2^n put together from bits.
        series = _ONE + r * (_ONE + r * (_HALF + r * (_E3 + r * (_E4 + r * (_E5 + r * _E6)))))
        e = series * np.int32((np.int32(n) + _EXPONENT_BIAS) << _MANTISSA_BITS).view(np.float32)
        # log1p(e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
        a = e / (_TWO + e)
        b = a * a
        log = a * (_TWO + b * (_A3 + b * (_A5 + b * (_A7 + b * (_A9 + b * (_A11 + b * _A13))))))
        upper = _ONE / (_ONE + e)
        value[i] = max(x[i], _ZERO) + log * inverse
        slope[i] = upper if z >= _ZERO else e * upper


@njit(**_OPTIONS)
def _softplus64(x, value, slope, beta, begin, end):
    for i in range(begin, end):
        e = np.exp(-abs(beta * x[i]))
        value[i] = max(x[i], 0.0) + np.log1p(e) / beta
        slope[i] = 1.0 / (1.0 + e) if x[i] >= 0.0 else e / (1.0 + e)


def softplus(x: Float[Tensor, "*n"], beta: float) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    """Return ``log(1 + exp(beta x)) / beta`` and its derivative, as ``reference/softplus.py``."""
    flat = x.detach().contiguous().view(-1).numpy()
    kernel = _softplus32 if x.dtype == torch.float32 else _softplus64
    value, slope = np.empty_like(flat), np.empty_like(flat)

    def job(begin: int, end: int) -> None:
        kernel(flat, value, slope, flat.dtype.type(beta), np.uint64(begin), np.uint64(end))

    run_slices(flat.size, job, 2**15)
    return torch.from_numpy(value).view(x.shape), torch.from_numpy(slope).view(x.shape)
