"""Real spherical harmonics of a viewing direction."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.fields.encodings.base import Encoding

MAX_DEGREE = 5


class SphericalHarmonics(Encoding):
    """Return the real spherical harmonics of bands 0 .. degree - 1.

    The value of order ``m`` in band ``l`` is ``K_lm Pi_lm(z)`` times
    ``sqrt(2) Re (x + i y)^m`` for ``m > 0``, ``sqrt(2) Im (x + i y)^|m|`` for
    ``m < 0`` and 1 for ``m = 0``, where ``Pi_lm`` is the m-th derivative of
    the Legendre polynomial of degree ``l`` and
    ``K_lm = sqrt((2 l + 1) (l - |m|)! / (4 pi (l + |m|)!))``. They are
    orthonormal over the sphere.

    Args:
        degree: Number of bands, 1 to 5; ``degree^2`` values.

    Raises:
        ValueError: if ``degree`` is out of range.
    """

    def __init__(self, degree: int) -> None:
        check_range("degree", degree, 1, MAX_DEGREE)
        super().__init__(3, degree**2)
        self.degree = degree

    def forward(self, directions: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n dim_out"]:
        """Return the values at the directions, which are normalised first."""
        x, y, z = torch.nn.functional.normalize(directions, dim=-1).unbind(-1)
        real, imaginary = [torch.ones_like(x)], [torch.zeros_like(x)]
        for _ in range(1, self.degree):
            real, imaginary = (
                [*real, x * real[-1] - y * imaginary[-1]],
                [*imaginary, x * imaginary[-1] + y * real[-1]],
            )
        legendre = _legendre_derivatives(z, self.degree)
        values = []
        for band in range(self.degree):
            for order in range(-band, band + 1):
                azimuth = imaginary[-order] if order < 0 else real[order]
                scale = _normalisation(band, abs(order))
                values.append(scale * azimuth * legendre[band][abs(order)])
        return torch.stack(values, dim=-1)


def _normalisation(band: int, order: int) -> float:
    """Return ``K_lm``, with the factor ``sqrt(2)`` for orders other than 0."""
    ratio = math.factorial(band - order) / math.factorial(band + order)
    return math.sqrt((2 * band + 1) * ratio / (4 * math.pi) * (2 if order else 1))


def _legendre_derivatives(z: Float[Tensor, "*n"], degree: int) -> list[list[Tensor]]:
    """Return ``Pi_lm(z)`` as ``table[l][m]``, by the three-term recurrence in the band."""
    table: list[list[Tensor]] = []
    for band in range(degree):
        row = []
        for order in range(band + 1):
            if order == band:
                value = torch.full_like(z, math.prod(range(1, 2 * order, 2)))
            else:
                value = (2 * band - 1) * z * table[band - 1][order]
                if order <= band - 2:
                    value = value - (band + order - 1) * table[band - 2][order]
                value = value / (band - order)
            row.append(value)
        table.append(row)
    return table
