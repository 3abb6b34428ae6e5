"""Discriminators: of the pose in a code, and of pictures of a mesh from seen and unseen sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import one_hot

from shapewright.checks import check_shape
from shapewright.networks.mesh_decoders import mlp


class PoseDiscriminator(nn.Module):
    """Guess from a code in which bin the pose of its picture lay.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        num_bins: Bins of poses, K.
        hidden: Widths of the hidden layers; 256 and 128 are the published ones.
    """

    def __init__(self, code_dim: int, num_bins: int, hidden: Sequence[int] = (256, 128)) -> None:
        super().__init__()
        self.layers = mlp((code_dim, *hidden, num_bins))

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n bins"]:
        """Return the logarithm of the probability of each bin."""
        return self.layers(codes).float().log_softmax(dim=1)


class PictureDiscriminator(nn.Module):
    """Tell silhouettes of a mesh from seen sides from those of unseen sides, given the number of the view.

    The view is told by one constant picture for each number, of ones for the right one. Convolutions of 4x4 and stride
    2, normalised but for the first, and one fully connected layer (the view prior in the program of arXiv:2004.01347).

    Args:
        num_views: How many views there are.
        size: Pixels along each side, divisible by ``2 ** len(widths)``.
        widths: Channels after each convolution; the published ones are the default.

    Raises:
        ValueError: if the size cannot be halved as often.
    """

    def __init__(self, num_views: int = 24, size: int = 64, widths: Sequence[int] = (128, 256, 512, 1024)) -> None:
        super().__init__()
        if size % 2 ** len(widths):
            raise ValueError(f"size must be divisible by {2 ** len(widths)}, got {size}.")
        self.num_views, self.size = num_views, size
        layers: list[nn.Module] = []
        for before, after in zip((1 + num_views, *widths), widths, strict=False):
            norm = [nn.BatchNorm2d(after)] if layers else []
            layers += [nn.Conv2d(before, after, 4, stride=2, padding=1), *norm, nn.LeakyReLU(0.2)]
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * (size // 2 ** len(widths)) ** 2, 1)

    def forward(self, pictures: Float[Tensor, "n size size"], views: Int64[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return the logit that a silhouette shows a seen side.

        Args:
            pictures: Silhouettes in [0, 1].
            views: The number of the view of each.
        """
        check_shape("pictures", pictures, (len(views), self.size, self.size))
        told = one_hot(views, self.num_views).to(pictures)[:, :, None, None].expand(-1, -1, self.size, self.size)
        inside = self.convolutions(torch.cat([pictures[:, None], told], dim=1))
        return self.head(inside.flatten(1))[:, 0]
