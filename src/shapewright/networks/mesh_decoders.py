"""Decoders from a code to a closed mesh: a template whose vertices are moved."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from shapewright.checks import check_range
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mirror_pairs import mirror_pairs


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Return fully connected layers with ReLUs between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class TemplateDecoder(nn.Module):
    """Keep the mesh whose vertices are moved.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it; at least 1.
        template: The mesh, about of radius 1; none: the sphere of 642 vertices.
    """

    template: Tensor
    faces: Tensor

    def __init__(self, code_dim: int, template: Mesh | None) -> None:
        super().__init__()
        check_range("code_dim", code_dim, 1)
        mesh = template or icosphere()
        self.register_buffer("template", mesh.vertices.clone(), persistent=False)
        self.register_buffer("faces", mesh.faces.clone(), persistent=False)


class MeshDecoder(TemplateDecoder):
    """Move every vertex of a template by its own offset: ``v = (template + offset) / 2``.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        hidden: Widths of the hidden layers; 1024 and 2048 are the published ones.
        template: The mesh that is moved, about of radius 1; none: the sphere of 642 vertices.
    """

    def __init__(self, code_dim: int = 512, hidden: Sequence[int] = (1024, 2048), template: Mesh | None = None) -> None:
        super().__init__(code_dim, template)
        self.layers = mlp((code_dim, *hidden, 3 * len(self.template)))

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n vertices 3"]:
        """Return the vertices of one mesh a code; the faces are ``faces``."""
        offsets = self.layers(codes).float().view(len(codes), -1, 3)
        return (self.template + offsets) / 2


class SymmetricMeshDecoder(TemplateDecoder):
    """Move the vertices of a template by offsets that keep it symmetric at the plane z = 0.

    The network returns x and y for each vertex of the plane and x, y and z for each of the side z > 0, in the order of
    the template; the mirror image of a vertex gets (x, y, -z). That makes 979 numbers for the sphere of 642 vertices.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        hidden: Widths of the hidden layers; 1024 and 2048 are the published ones.
        template: The mesh that is moved, about of radius 1; none: the sphere of 642 vertices.

    Raises:
        ValueError: if the template is not symmetric.
    """

    on_plane: Tensor
    positive: Tensor
    mirrored: Tensor

    def __init__(self, code_dim: int = 512, hidden: Sequence[int] = (1024, 2048), template: Mesh | None = None) -> None:
        super().__init__(code_dim, template)
        pairs = mirror_pairs(self.template)
        for name in ("on_plane", "positive", "mirrored"):
            self.register_buffer(name, getattr(pairs, name), persistent=False)
        self.layers = mlp((code_dim, *hidden, 2 * len(pairs.on_plane) + 3 * len(pairs.positive)))

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n vertices 3"]:
        """Return the vertices of one mesh a code; the faces are ``faces``."""
        numbers = self.layers(codes).float()
        split = 2 * len(self.on_plane)
        flat = nn.functional.pad(numbers[:, :split].view(len(codes), -1, 2), (0, 1))
        side = numbers[:, split:].view(len(codes), -1, 3)
        offsets = numbers.new_zeros(len(codes), *self.template.shape)
        offsets = offsets.index_copy(1, self.on_plane, flat).index_copy(1, self.positive, side)
        offsets = offsets.index_copy(1, self.mirrored, side * side.new_tensor([1.0, 1.0, -1.0]))
        return (self.template + offsets) / 2
