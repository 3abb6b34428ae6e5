"""How well the cameras agree with what the pictures show: epipolar errors of feature matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage.feature import SIFT, match_descriptors
from skimage.transform import resize
from torch import Tensor

from shapewright.geometry.cameras import Cameras
from shapewright.geometry.epipolar import consistent_matches, fundamental_matrix, sampson_distance

WIDTH = 400
FEWEST_MATCHES = 15


@dataclass(frozen=True)
class Features:
    """Hold the SIFT features of one picture resized to ``WIDTH``.

    Args:
        pixels: Column and row, the first pixel's centre at (0.5, 0.5).
        descriptors: One row a feature.
    """

    pixels: Float[np.ndarray, "n 2"]
    descriptors: UInt8[np.ndarray, "n 128"]


def find_features(rgb: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"] | None) -> Features:
    """Return the features of a picture that lie on the object; a moving background would mislead."""
    height = max(1, round(WIDTH * rgb.shape[0] / rgb.shape[1]))
    grey = resize(rgb.mean(axis=2) / 255.0, (height, WIDTH), anti_aliasing=True)
    sift = SIFT()
    try:
        sift.detect_and_extract(grey)
    except RuntimeError:  # skimage raises it for a picture without features
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.uint8))
    pixels = sift.keypoints[:, ::-1] + 0.5
    keep = np.ones(len(pixels), dtype=bool)
    if mask is not None:
        inner = ndimage.minimum_filter(mask, size=5)
        at = (pixels * [mask.shape[1] / WIDTH, mask.shape[0] / height]).astype(int)
        keep = inner[at[:, 1].clip(0, mask.shape[0] - 1), at[:, 0].clip(0, mask.shape[1] - 1)]
    return Features(pixels[keep], sift.descriptors[keep])


def neighbouring_pairs(cameras: Cameras, neighbours: int = 2) -> list[tuple[int, int]]:
    """Return each view with the views whose line of sight differs least, without repetitions."""
    forward = cameras.forward
    turn = torch.arccos((forward @ forward.T).clamp(-1, 1))
    turn.fill_diagonal_(torch.inf)
    nearest = turn.argsort(dim=1)[:, : min(neighbours, len(cameras) - 1)]
    pairs = {(min(i, j), max(i, j)) for i, row in enumerate(nearest.tolist()) for j in row}
    return sorted(pairs)


def epipolar_errors(cameras: Cameras, features: list[Features]) -> list[Float[np.ndarray, " pairs"]]:
    """Return, for each view, the median Sampson error of its matches with each neighbouring view.

    Pixels are those of pictures ``WIDTH`` wide. Matches are mutual nearest
    neighbours with a distance ratio below 0.8 that agree on some epipolar
    geometry; a pair in which less than half of them do says nothing about its
    cameras (repeated patterns, views too different) and is left out.
    """
    sizes = torch.stack([torch.full_like(s, WIDTH) * s / s[0] for s in cameras.sizes.double()])
    small = cameras.resized(sizes.round().long())
    generator = torch.Generator().manual_seed(0)
    errors: list[list[float]] = [[] for _ in features]
    for i, j in neighbouring_pairs(cameras):
        first, second = match_features(features[i], features[j])
        agree = consistent_matches(first, second, generator)
        if int(agree.sum()) < max(FEWEST_MATCHES, 0.5 * len(agree)):
            continue
        distance = sampson_distance(fundamental_matrix(small, i, j), first[agree], second[agree])
        for view in (i, j):
            errors[view].append(float(distance.median()))
    return [np.array(medians) for medians in errors]


def match_features(a: Features, b: Features) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Return the pixels of mutual nearest neighbours that are clearly nearer than the second nearest."""
    if min(len(a.pixels), len(b.pixels)) < FEWEST_MATCHES:
        return torch.zeros(0, 2), torch.zeros(0, 2)
    pairs = match_descriptors(a.descriptors, b.descriptors, max_ratio=0.8, cross_check=True)
    return torch.from_numpy(a.pixels[pairs[:, 0]]), torch.from_numpy(b.pixels[pairs[:, 1]])
