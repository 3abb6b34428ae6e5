"""The discriminators of view prior learning: is a part of a picture as it looks from seen sides?"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, one_hot
from torch.nn.utils.parametrizations import spectral_norm

from shapewright.checks import check_range, check_shape

_SLOPE = 0.2
_CHAINER_EPS = 2e-5


class EyeDiscriminator(nn.Module):
    """Judge parts of a picture, given from where it was seen: the discriminator for ShapeNet (arXiv:1811.10719).

    Convolutions of 5x5 and stride 2 with spectral normalisation (arXiv:1802.05957) and batch normalisation. The eye
    vector is told beside the first convolution's output; the class by a scalar product with the last hidden one's, at
    every second place (arXiv:1802.05637).

    Args:
        channels: Of the picture: 1 for silhouettes, 4 with colours.
        num_classes: How many classes there are; 0: none is told.
        widths: Channels of the hidden layers.
    """

    def __init__(
        self, channels: int = 1, num_classes: int = 0, widths: Sequence[int] = (32, 64, 128, 256, 256)
    ) -> None:
        super().__init__()
        check_range("channels", channels, 1)
        self.channels, self.num_classes = channels, num_classes
        inputs = (channels, 2 * widths[0], *widths[1:-1])
        convolutions = (nn.Conv2d(a, b, 5, 2, 2, bias=False) for a, b in zip(inputs, widths, strict=True))
        self.convolutions = nn.ModuleList(_normed(layer) for layer in convolutions)
        self.norms = nn.ModuleList(_ShiftedNorm(width) for width in widths)
        self.eye = _normed(nn.Linear(3, widths[0], bias=False))
        self.eye_norm = _ShiftedNorm(widths[0])
        self.head = _normed(nn.Conv2d(widths[-1], 1, 5, 2, 2))
        self.classes = _normed(nn.Linear(num_classes, widths[-1], bias=False)) if num_classes else None

    def forward(
        self,
        pictures: Float[Tensor, "n channels height width"],
        eyes: Float[Tensor, "n 3"],
        classes: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n 1 rows columns"]:
        """Return logits of parts of the pictures, 4x4 at 224 px.

        Args:
            pictures: In [0, 1].
            eyes: Where each was seen from.
            classes: Of the object, where classes are told.

        Raises:
            ValueError: if a shape does not fit, or classes are missing or not expected.
        """
        _check(self.channels, self.num_classes, pictures, eyes, classes)
        told = leaky_relu(self.eye_norm(self.eye(eyes)), _SLOPE)
        inside = pictures
        for place, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            inside = leaky_relu(norm(convolution(inside)), _SLOPE)
            inside = inside if place else _tell(inside, told)
        logits = self.head(inside)
        if self.classes is None or classes is None:
            return logits
        product = _class_product(self.classes, self.num_classes, classes, inside)
        return logits + product[:, :, ::2, ::2]


class RotationDiscriminator(nn.Module):
    """Judge parts of a picture, given the rotation of the object: the discriminator for Pascal3D+ (arXiv:1811.10719).

    Convolutions of 4x4, three of stride 2 and two of stride 1, without normalisation.

    Args:
        channels: Of the picture: 1 for silhouettes, 4 with colours.
        num_classes: How many classes there are; 0: none is told.
        widths: Channels of the hidden layers.
    """

    def __init__(self, channels: int = 1, num_classes: int = 0, widths: Sequence[int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        check_range("channels", channels, 1)
        self.channels, self.num_classes = channels, num_classes
        inputs = (channels, 2 * widths[0], *widths[1:-1])
        strides = (2,) * (len(widths) - 1) + (1,)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride, 2) for a, b, stride in zip(inputs, widths, strides, strict=True)
        )
        self.rotation = nn.Linear(9, widths[0])
        self.head = nn.Conv2d(widths[-1], 1, 4, 1, 2)
        self.classes = nn.Linear(num_classes, widths[-1], bias=False) if num_classes else None
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                _start(module)

    def forward(
        self,
        pictures: Float[Tensor, "n channels height width"],
        rotations: Float[Tensor, "n 9"],
        classes: Int64[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n 1 rows columns"]:
        """Return logits of parts of the pictures: 31x31 at 224 px, 30x30 where classes are told.

        Args:
            pictures: In [0, 1].
            rotations: From object to camera, row by row.
            classes: Of the object, where classes are told.

        Raises:
            ValueError: if a shape does not fit, or classes are missing or not expected.
        """
        _check(self.channels, self.num_classes, pictures, rotations, classes)
        told = leaky_relu(self.rotation(rotations), _SLOPE)
        inside = pictures
        for place, convolution in enumerate(self.convolutions):
            inside = leaky_relu(convolution(inside), _SLOPE)
            inside = inside if place else _tell(inside, told)
        logits = self.head(inside)
        if self.classes is None or classes is None:
            return logits
        return logits[:, :, :-1, :-1] + _class_product(self.classes, self.num_classes, classes, inside)


class _ShiftedNorm(nn.Module):
    """Normalise over the batch and add a learned shift, without a learned scale."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(width))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, self.mean, self.variance, None, self.shift, self.training, momentum=0.1, eps=_CHAINER_EPS
        )


def _start(layer: nn.Conv2d | nn.Linear) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _normed(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    _start(layer)
    return spectral_norm(layer)


def _tell(inside: Tensor, told: Tensor) -> Tensor:
    return torch.cat([inside, told[:, :, None, None].expand(-1, -1, *inside.shape[2:])], dim=1)


def _class_product(layer: nn.Module, num_classes: int, classes: Tensor, inside: Tensor) -> Tensor:
    direction = layer(one_hot(classes, num_classes).to(inside))
    return (direction[:, :, None, None] * inside).sum(1, keepdim=True)


def _check(channels: int, num_classes: int, pictures: Tensor, told: Tensor, classes: Tensor | None) -> None:
    check_shape("pictures", pictures, (len(told), channels, None, None))
    if (classes is not None) != bool(num_classes):
        raise ValueError(f"classes must be told to a discriminator of classes alone; this one has {num_classes}.")
