"""Encoders of small pictures: strided convolutions and fully connected layers, no normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from shapewright.checks import check_shape


class ConvEncoder(nn.Module):
    """Turn a picture into a code: convolutions of 5x5, stride 2, then three fully connected layers.

    Every layer but the last is followed by a ReLU; with ``is_rectified`` the last one too (Neural Mesh Renderer,
    arXiv:1711.07566). Widths 64, 128, 256 are the published ones at 64 px, with a fourth layer of 512 at 128 px.

    Args:
        channels: Of the picture, 4 with the mask.
        size: Pixels along each side, divisible by ``2 ** len(widths)``.
        widths: Channels after each convolution.
        hidden: Width of the two hidden fully connected layers.
        code_dim: Length of the code.
        is_rectified: Make the code non-negative.

    Raises:
        ValueError: if the size cannot be halved as often.
    """

    def __init__(
        self,
        channels: int = 4,
        size: int = 64,
        widths: Sequence[int] = (64, 128, 256),
        hidden: int = 1024,
        code_dim: int = 512,
        is_rectified: bool = False,
    ) -> None:
        super().__init__()
        if size % 2 ** len(widths):
            raise ValueError(f"size must be divisible by {2 ** len(widths)}, got {size}.")
        self.channels, self.size = channels, size
        layers: list[nn.Module] = []
        for before, after in zip((channels, *widths), widths, strict=False):
            layers += [nn.Conv2d(before, after, 5, stride=2, padding=2), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        flat = widths[-1] * (size // 2 ** len(widths)) ** 2
        self.head = nn.Sequential(
            nn.Linear(flat, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, code_dim)
        )
        if is_rectified:
            self.head.append(nn.ReLU())

    def forward(self, pictures: Float[Tensor, "n channels size size"]) -> Float[Tensor, "n code"]:
        """Return the codes of pictures in [0, 1]."""
        check_shape("pictures", pictures, (None, self.channels, self.size, self.size))
        return self.head(self.convolutions(pictures).flatten(1))
