"""Encoders of larger pictures: two kinds of ResNet-18, learned from scratch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import relu

from shapewright.checks import check_range, check_shape

WIDTHS = (64, 128, 256, 512)
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# Chainer's, where view prior learning was made.
_CHAINER_EPS = 2e-5


class ResidualEncoder(nn.Module):
    """Turn a picture into a code by a ResNet-18 (arXiv:1512.03385) and the mean over its last pictures.

    Colours are normalised by the mean and the deviation of ImageNet; a mask is taken as it is.

    Args:
        channels: Of the picture; colours first, then perhaps a mask.
        code_dim: Length of the code; another one than the last width takes one more fully connected layer.
        widths: Channels of the four stages.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, channels: int = 3, code_dim: int = 512, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        check_range("channels", channels, 3)
        self.channels = channels
        beyond = channels - 3
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN + (0.0,) * beyond), persistent=False)
        self.register_buffer("deviation", torch.tensor(_IMAGENET_STD + (1.0,) * beyond), persistent=False)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks: list[nn.Module] = []
        for before, after in zip((widths[0], *widths), widths, strict=False):
            blocks += [_Block(before, after, 1 if not blocks else 2), _Block(after, after, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Identity() if code_dim == widths[-1] else nn.Linear(widths[-1], code_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, pictures: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n code"]:
        """Return the codes of pictures in [0, 1]."""
        check_shape("pictures", pictures, (None, self.channels, None, None))
        pictures = (pictures - self.mean[:, None, None]) / self.deviation[:, None, None]
        return self.head(self.blocks(self.stem(pictures)).mean((2, 3)))


class PreactivationEncoder(nn.Module):
    """Turn a picture into a code by a ResNet-18 with normalisation before convolutions (arXiv:1603.05027).

    As view prior learning (arXiv:1811.10719) has it: no padding where the first pictures are pooled, shortcuts from the
    raw input of a block, and a fully connected layer from all of the last pictures. Premultiplied colours c become
    ``2 c - mask``, in [-1, 1] inside the mask and 0 outside; without a mask ``2 c - 1``.

    Args:
        channels: What is convolved: 3, as published, colours; 4: the mask too.
        size: Pixels along each side.
        code_dim: Length of the code.
        widths: Channels of the four stages.
    """

    def __init__(self, channels: int = 3, size: int = 224, code_dim: int = 512, widths: Sequence[int] = WIDTHS) -> None:
        super().__init__()
        check_range("channels", channels, 3, 4)
        check_range("size", size, 8)
        self.channels, self.size = channels, size
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(widths[0], _CHAINER_EPS),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        )
        blocks: list[nn.Module] = []
        for before, after in zip((widths[0], *widths), widths, strict=False):
            # What comes out of the stem is activated already.
            blocks += [_PreactivationBlock(before, after, 1 if not blocks else 2, bool(blocks))]
            blocks += [_PreactivationBlock(after, after, 1, True)]
        self.blocks = nn.Sequential(*blocks, nn.BatchNorm2d(widths[-1], _CHAINER_EPS), nn.ReLU())
        side = -(-((size + 1) // 2 - 3) // 2) + 1
        for _ in widths[1:]:
            side = (side + 1) // 2
        self.head = nn.Linear(widths[-1] * side**2, code_dim)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="linear")
        nn.init.zeros_(self.head.bias)

    def forward(self, pictures: Float[Tensor, "n given size size"]) -> Float[Tensor, "n code"]:
        """Return the codes of pictures in [0, 1], colours premultiplied by the mask where there is one."""
        has_mask = pictures.dim() == 4 and pictures.shape[1] == 4
        check_shape("pictures", pictures, (None, 4 if has_mask else self.channels, self.size, self.size))
        colors, mask = pictures[:, :3], pictures[:, 3:]
        pictures = torch.cat([2 * colors - (mask if has_mask else 1), mask], dim=1)[:, : self.channels]
        return self.head(self.blocks(self.stem(pictures)).flatten(1))


class _Block(nn.Module):
    """Add two convolutions, each normalised, to the input or to a narrower and smaller form of it."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        is_plain = stride == 1 and before == after
        shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
        self.shortcut = nn.Identity() if is_plain else shortcut

    def forward(self, x: Tensor) -> Tensor:
        inside = self.second_norm(self.second(relu(self.first_norm(self.first(x)))))
        return relu(inside + self.shortcut(x))


class _PreactivationBlock(nn.Module):
    """Add two convolutions, each of normalised and rectified values, to the input or to a convolution of it."""

    def __init__(self, before: int, after: int, stride: int, leads: bool) -> None:
        super().__init__()
        self.lead = nn.Sequential(nn.BatchNorm2d(before, _CHAINER_EPS), nn.ReLU()) if leads else nn.Identity()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(after, _CHAINER_EPS)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        is_plain = stride == 1 and before == after
        self.shortcut = nn.Identity() if is_plain else nn.Conv2d(before, after, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(relu(self.norm(self.first(self.lead(x))))) + self.shortcut(x)
