"""Discriminators: of the pose in a code, and of pictures of a mesh from seen and unseen sides."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

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
