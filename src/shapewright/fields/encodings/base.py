"""What every encoding of positions or directions offers."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Encoding(nn.Module):
    """Turn vectors into features.

    Attributes:
        dim_in: Numbers read for each point.
        dim_out: Numbers written for each point.
    """

    def __init__(self, dim_in: int, dim_out: int) -> None:
        super().__init__()
        self.dim_in = dim_in
        self.dim_out = dim_out

    def set_progress(self, progress: float) -> None:
        """Follow the run: ``progress`` is 0 at its start and 1 at its end."""

    def pull(
        self, points: Float[Tensor, "*n dim_in"], gradient: Float[Tensor, "*n dim_out"]
    ) -> Float[Tensor, "*n dim_in"]:
        """Return ``J^T gradient`` with ``J`` the derivative of the features by the points.

        It is differentiable in both arguments and in the parameters. A normal
        is the pull of the network's derivative by its input, so that no
        gradient of the parameters is computed on the way.
        """
        create_graph = torch.is_grad_enabled()
        with torch.enable_grad():
            inputs = points.view_as(points) if points.requires_grad else points.detach().requires_grad_()
            (pulled,) = torch.autograd.grad(self(inputs), inputs, gradient, create_graph=create_graph)
        return pulled
