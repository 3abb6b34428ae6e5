"""The encodings ``none`` and ``posenc``: the vector itself, with sines and cosines of its octaves."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.fields.encodings.base import Encoding


class FrequencyEncoding(Encoding):
    """Return ``[x, sin(x), cos(x), sin(2 x), cos(2 x), ..]``.

    Octave ``k`` has frequency ``2^k``, without pi (NeRF, arXiv:2003.08934,
    eq. 4, as IDR, arXiv:2003.09852, uses it). Without octaves it is ``none``.

    Args:
        num_frequencies: Number of octaves, >= 0.
        dim_in: Size of a vector.

    Raises:
        ValueError: if ``num_frequencies`` is negative.
    """

    frequencies: Tensor

    def __init__(self, num_frequencies: int, dim_in: int = 3) -> None:
        check_range("num_frequencies", num_frequencies, 0)
        super().__init__(dim_in, dim_in * (1 + 2 * num_frequencies))
        frequencies = 2.0 ** torch.arange(num_frequencies).repeat_interleave(dim_in)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, points: Float[Tensor, "*n dim_in"]) -> Float[Tensor, "*n dim_out"]:
        """Return the features of the points."""
        phases = self._phases(points)
        waves = torch.cat([phases.sin(), phases.cos()], dim=-2)
        return torch.cat([points, waves.flatten(-3)], dim=-1)

    def pull(
        self, points: Float[Tensor, "*n dim_in"], gradient: Float[Tensor, "*n dim_out"]
    ) -> Float[Tensor, "*n dim_in"]:
        """Return ``J^T gradient`` in closed form."""
        phases = self._phases(points)
        slopes = torch.cat([phases.cos(), -phases.sin()], dim=-2) * self._octaves()
        direct, waves = gradient.split([self.dim_in, self.dim_out - self.dim_in], dim=-1)
        return direct + (waves.unflatten(-1, slopes.shape[-3:]) * slopes).sum((-3, -2))

    def _octaves(self) -> Float[Tensor, "octaves 1 dim_in"]:
        return self.frequencies.view(-1, 1, self.dim_in)

    def _phases(self, points: Float[Tensor, "*n dim_in"]) -> Float[Tensor, "*n octaves 1 dim_in"]:
        return points[..., None, None, :] * self._octaves().to(points.dtype)
