"""The decoder of the Neural Mesh Renderer: every vertex stays in its octant of a bounded cube."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mirror_pairs import mirror_partners
from shapewright.networks.mesh_decoders import TemplateDecoder, mlp

_LEAST = 1e-6
_CENTROID_SCALE = 0.1


class BoundedMeshDecoder(TemplateDecoder):
    """Move the vertices of a template within their octants around a centroid that moves too (arXiv:1711.07566).

    With ``b = template / 2``, ``s = sign(b)`` and ``c = tanh(.1 centroid)``, each coordinate is::

        u = s sigmoid(logit(|b|) + bias)
        v = (relu(u) (1 - c) - relu(-u) (1 + c) + c) / 2

    All lie in (-.5, .5). A coordinate that is 0 in the template is that of the centroid.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        hidden: Widths of the hidden layers; 1024 and 2048 are the published ones.
        template: The mesh that is moved, about of radius 1; none: the sphere of 642 vertices.
        is_symmetric: Whether meshes are symmetric at z = 0: the centroid stays there, and the two vertices of a pair
            share the mean of their biases.

    Raises:
        ValueError: if the template is not symmetric, but meshes are to be.
    """

    def __init__(
        self,
        code_dim: int = 512,
        hidden: Sequence[int] = (1024, 2048),
        template: Mesh | None = None,
        is_symmetric: bool = False,
    ) -> None:
        super().__init__(code_dim, template)
        partners = mirror_partners(self.template) if is_symmetric else None
        self.register_buffer("partners", partners, persistent=False)
        self.trunk = nn.Sequential(*mlp((code_dim, *hidden)), nn.ReLU())
        self.bias = nn.Linear(hidden[-1], 3 * len(self.template))
        self.centroid = nn.Linear(hidden[-1], 3)

    def centroid_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the centroid, which are learned at a tenth of the rate."""
        return self.centroid.parameters()

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n vertices 3"]:
        """Return the vertices of one mesh a code; the faces are ``faces``."""
        inside = self.trunk(codes)
        centroid, bias = self.centroid(inside).float(), self.bias(inside).float().view(len(codes), -1, 3)
        if self.partners is not None:
            centroid = centroid * centroid.new_tensor([1.0, 1.0, 0.0])
            bias = (bias + bias[:, self.partners]) / 2
        c = torch.tanh(_CENTROID_SCALE * centroid)[:, None]
        base = self.template / 2
        start = torch.logit(base.abs().clamp(_LEAST, 1 - _LEAST))
        u = base.sign() * torch.sigmoid(start + bias)
        return (u.relu() * (1 - c) - (-u).relu() * (1 + c) + c) / 2
