"""The radiance network: what colour a surface point shows in a direction."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.fields.config import RadianceConfig
from shapewright.fields.encodings.base import Encoding
from shapewright.fields.layers import linear

NORMAL_EPS = 1e-6


class RadianceNetwork(nn.Module):
    """Return colours in [0, 1] of surface points (IDR, arXiv:2003.09852, eq. 5).

    Args:
        config: Sizes, and which inputs are used.
        view_encoding: Encodes the viewing direction.
        feature_size: Size of the signed distance network's feature.
        generator: Draws the weights.
    """

    def __init__(
        self,
        config: RadianceConfig,
        view_encoding: Encoding,
        feature_size: int,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.view_encoding = view_encoding
        sizes = {"position": 3, "view": view_encoding.dim_out, "normal": 3, "feature": feature_size}
        dim_in = sum(size for name, size in sizes.items() if name != self._left_out())
        dims = [dim_in] + [config.width] * config.num_layers + [3]
        self.layers = nn.ModuleList(
            linear(dims[i], dims[i + 1], config.weight_norm, generator) for i in range(len(dims) - 1)
        )

    def forward(
        self,
        points: Float[Tensor, "*n 3"],
        views: Float[Tensor, "*n 3"],
        gradients: Float[Tensor, "*n 3"],
        features: Float[Tensor, "*n feature"],
    ) -> Float[Tensor, "*n 3"]:
        """Return the colours.

        Args:
            points: Positions on the surface.
            views: Unit directions from the surface to the camera.
            gradients: Gradients of the signed distance at the points.
            features: The signed distance network's features there.
        """
        if self.config.normal == "unit":
            gradients = nn.functional.normalize(gradients, dim=-1, eps=NORMAL_EPS)
        inputs = {
            "position": points,
            "view": self.view_encoding(views),
            "normal": gradients,
            "feature": features,
        }
        inputs.pop(self._left_out(), None)
        hidden = torch.cat(list(inputs.values()), dim=-1)
        for layer in self.layers[:-1]:
            hidden = torch.relu(layer(hidden))
        output = self.layers[-1](hidden)
        if self.config.output == "tanh":
            return 0.5 * (1.0 + torch.tanh(output))
        return torch.sigmoid(output)

    def _left_out(self) -> str:
        """Return the input that the mode removes, or nothing."""
        return {"no_view_dir": "view", "no_normal": "normal", "no_feature": "feature"}.get(self.config.mode, "")
