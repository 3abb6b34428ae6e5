"""Decoders of view prior learning: the shape and the texture of a sphere made of the six sides of a cube."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from shapewright.checks import check_range
from shapewright.geometry.cube_sphere import cube_patches, cube_sphere
from shapewright.geometry.mirror_pairs import mirror_partners

_SIDES = 6
_REACH = 1.2
_RADIUS = 0.5
# Of the network's outputs: how fast vertices move, with convolutions and without.
_CONVOLUTIONAL_SCALING, _DENSE_SCALING = 0.01, 0.1
# How large a unit of the decoder is in the world: ShapeNet's objects, and Pascal3D+'s.
_CONVOLUTIONAL_EXTENT, _DENSE_EXTENT = 0.5, 1.0
_CHAINER_EPS = 2e-5


class PatchDecoder(nn.Module):
    """Move the vertices of a cube sphere: ``v = extent 1.2 tanh(base + scaling bias)`` (arXiv:1811.10719).

    ``base`` is learned and starts as the sphere of radius .5. Convolutions give each side of the cube a picture of
    offsets, and a vertex that several sides share their mean; the other form is fully connected. The published
    decoder of ShapeNet is the one with convolutions, that of Pascal3D+ the other, made symmetric.

    Symmetric means, before the tanh: z is made positive, each vertex becomes the mean of itself and its partner at the
    plane z = 0, and z gets back the sign of its side.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        is_convolutional: Whether each side is made by convolutions.
        widths: Of the hidden layers; none: the published ones, 512, 256, 128, 64 or 4096, 4096.
        grid_size: Vertices along each side of the cube; with convolutions ``2 ** len(widths)``.
        is_symmetric: Whether meshes are symmetric at z = 0.
        extent: Multiplies all; none: .5 with convolutions and 1 without.

    Raises:
        ValueError: if convolutions do not end at the size of the grid.
    """

    template: Tensor
    faces: Tensor
    patches: Tensor
    partners: Tensor
    sides: Tensor

    def __init__(
        self,
        code_dim: int = 512,
        is_convolutional: bool = True,
        widths: Sequence[int] | None = None,
        grid_size: int = 16,
        is_symmetric: bool = False,
        extent: float | None = None,
    ) -> None:
        super().__init__()
        check_range("code_dim", code_dim, 1)
        mesh = cube_sphere(grid_size)
        self.is_convolutional, self.num_vertices = is_convolutional, mesh.num_vertices
        self.is_symmetric = is_symmetric
        self.scaling = _CONVOLUTIONAL_SCALING if is_convolutional else _DENSE_SCALING
        self.extent = extent or (_CONVOLUTIONAL_EXTENT if is_convolutional else _DENSE_EXTENT)
        self.register_buffer("template", mesh.vertices.clone(), persistent=False)
        self.register_buffer("faces", mesh.faces.clone(), persistent=False)
        self.register_buffer("patches", cube_patches(grid_size).flatten(), persistent=False)
        self.register_buffer("partners", mirror_partners(mesh.vertices), persistent=False)
        self.register_buffer("sides", mesh.vertices[:, 2].sign(), persistent=False)
        self.base = nn.Parameter(torch.atanh(mesh.vertices * (_RADIUS / _REACH)))
        if is_convolutional:
            self.layers = _shape_layers(code_dim, widths or (512, 256, 128, 64), grid_size)
        else:
            self.layers = _dense_layers((code_dim, *(widths or (4096, 4096)), 3 * mesh.num_vertices))

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n vertices 3"]:
        """Return the vertices of one mesh a code; the faces are ``faces``."""
        offsets = self.layers(codes).float()
        offsets = self._join(offsets) if self.is_convolutional else offsets.view(len(codes), -1, 3)
        places = self.base + self.scaling * offsets
        if self.is_symmetric:
            places = torch.cat([places[..., :2], places[..., 2:].abs()], dim=2)
            places = (places + places[:, self.partners]) / 2
            places = torch.cat([places[..., :2], places[..., 2:] * self.sides[:, None]], dim=2)
        return self.extent * _REACH * torch.tanh(places)

    def _join(self, pictures: Float[Tensor, "n channels rows columns"]) -> Float[Tensor, "n vertices 3"]:
        """Return the mean over the points of the sides that are the same vertex."""
        points = pictures.view(len(pictures), _SIDES, 3, -1).transpose(2, 3).reshape(len(pictures), -1, 3)
        sums = points.new_zeros(len(points), self.num_vertices, 3).index_add(1, self.patches, points)
        return sums / torch.bincount(self.patches, minlength=self.num_vertices)[:, None]


class PatchTextureDecoder(nn.Module):
    """Paint the six sides of a cube sphere, side by side in one picture: ``sigmoid(base + colours)``.

    The sides are those of ``geometry.cube_sphere.cube_patches``, transposed, so that rows run to the right;
    ``patch_texture_coordinates`` are the vertices' places.

    Args:
        code_dim: Length of a code, plus whatever else is appended to it.
        widths: Channels before each of the four convolutions; the published ones are the default.
        is_symmetric: Whether both sides of the plane z = 0 are painted alike.
    """

    def __init__(
        self, code_dim: int = 512, widths: Sequence[int] = (512, 256, 128, 64), is_symmetric: bool = False
    ) -> None:
        super().__init__()
        check_range("code_dim", code_dim, 1)
        self.is_symmetric = is_symmetric
        self.texels = 4 * 2 ** len(widths)
        layers = [*_unfold(code_dim, widths[0], 4)]
        for before, after in pairwise(widths):
            layers += [_double(before, after, 5, False), *_activate(after)]
        self.layers = nn.Sequential(*layers, _double(widths[-1], 3, 5, True))
        self.base = nn.Parameter(torch.zeros(3, self.texels, _SIDES * self.texels))

    def forward(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, "n 3 rows columns"]:
        """Return textures in [0, 1]: 64 rows and 384 columns in the published size."""
        colors = self.layers(codes).float().view(len(codes), _SIDES, 3, self.texels, self.texels)
        colors = colors + self.base.view(3, self.texels, _SIDES, self.texels).permute(2, 0, 3, 1)
        if self.is_symmetric:
            colors = (colors + _mirrored_sides(colors)) / 2
        return torch.sigmoid(colors.permute(0, 2, 4, 1, 3).flatten(3))


def _mirrored_sides(sides: Float[Tensor, "n 6 channels rows columns"]) -> Float[Tensor, "n 6 channels rows columns"]:
    """Return what each side looks like in a mirror at z = 0."""
    low, high, *others = sides.unbind(1)
    columns, rows = others[:2], others[2:]
    return torch.stack([high, low, *(side.flip(3) for side in columns), *(side.flip(2) for side in rows)], dim=1)


def _shape_layers(code_dim: int, widths: Sequence[int], grid_size: int) -> nn.Sequential:
    if 2 ** len(widths) != grid_size:
        raise ValueError(f"grid_size must be {2 ** len(widths)} with {len(widths)} widths, got {grid_size}.")
    layers = [*_unfold(code_dim, widths[0], 2)]
    for before, after in pairwise(widths):
        layers += [_double(before, after, 3, False), *_activate(after)]
    last = nn.Conv2d(_SIDES * widths[-1], _SIDES * 3, 3, padding=1, groups=_SIDES)
    return nn.Sequential(*layers, _start(last))


def _dense_layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [_start(nn.Linear(before, after)), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _unfold(code_dim: int, width: int, size: int) -> list[nn.Module]:
    # The six sides are groups of one layer: as many numbers as in six layers, in one call.
    first = _start(nn.Linear(code_dim, _SIDES * width * size**2, bias=False))
    return [first, nn.Unflatten(1, (_SIDES * width, size, size)), *_activate(width)]


def _activate(width: int) -> list[nn.Module]:
    return [nn.BatchNorm2d(_SIDES * width, _CHAINER_EPS), nn.ReLU()]


def _double(before: int, after: int, kernel: int, has_bias: bool) -> nn.Module:
    return _start(
        nn.ConvTranspose2d(
            _SIDES * before, _SIDES * after, kernel, 2, kernel // 2, output_padding=1, groups=_SIDES, bias=has_bias
        )
    )


def _start(layer: nn.Linear | nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
