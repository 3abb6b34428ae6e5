"""Pictures of signs: slices through a shape, and its samples as coloured points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from shapewright.geometry.point_cloud import PointCloud

SIDE_PX = 224
GAP_PX = 8
BAND = 0.1
MOST_POINTS_PER_SIDE = 20_000
INSIDE, OUTSIDE, DOUBTFUL = (0.84, 0.25, 0.16), (0.16, 0.36, 0.72), (0.98, 0.85, 0.30)

Answer = Callable[[Float[Tensor, "points 3"]], tuple[Float[Tensor, " points"], Bool[Tensor, " points"]]]


def draw_slices(distances: Answer) -> UInt8[np.ndarray, "h w 3"]:
    """Return the planes x = 0, y = 0 and z = 0 of the box [-1, 1]^3 side by side.

    Red is inside and blue outside, lighter with every tenth of distance, and yellowish where the sign is doubtful. The
    axes that run right and up are (z, y), (x, z) and (x, y).

    Args:
        distances: Returns the signed distances at points, and whether these are sure.
    """
    panels = [_panel(distances, *axes) for axes in ((2, 1), (0, 2), (0, 1))]
    gap = np.ones((SIDE_PX, GAP_PX, 3))
    row = np.concatenate([panels[0], gap, panels[1], gap, panels[2]], axis=1)
    return np.round(255 * row).astype(np.uint8)


def sign_cloud(rows: Float[np.ndarray, "rows 4"], seed: int = 0) -> PointCloud:
    """Return some of the samples of each side, red inside and blue outside.

    Args:
        rows: x, y, z and signed distance.
        seed: Chooses the samples where there are more than are shown.
    """
    random = np.random.default_rng(seed)
    points, colors = [], []
    for inside, color in ((True, INSIDE), (False, OUTSIDE)):
        side = rows[(rows[:, 3] <= 0) == inside]
        if len(side) > MOST_POINTS_PER_SIDE:
            side = side[random.choice(len(side), MOST_POINTS_PER_SIDE, replace=False)]
        points.append(side[:, :3])
        colors.append(np.broadcast_to(np.array(color), (len(side), 3)))
    return PointCloud(torch.from_numpy(np.concatenate(points)), colors=torch.from_numpy(np.concatenate(colors)))


def _panel(distances: Answer, across: int, up: int) -> Float[np.ndarray, "side side 3"]:
    """Draw the plane through the origin that two axes span."""
    steps = (2 * torch.arange(SIDE_PX, dtype=torch.float32) + 1) / SIDE_PX - 1
    points = torch.zeros(SIDE_PX, SIDE_PX, 3)
    points[..., across] = steps
    points[..., up] = -steps[:, None]
    sdf, sure = distances(points.reshape(-1, 3))
    depth = sdf.abs().double().numpy()
    color = np.where((sdf <= 0).numpy()[:, None], INSIDE, OUTSIDE)
    light = 0.6 * (np.floor(depth / BAND) * BAND).clip(0, 1)[:, None]
    color = color + light * (1 - color)
    color = np.where(sure.numpy()[:, None], color, 0.4 * color + 0.6 * np.array(DOUBTFUL))
    color[depth < 1 / SIDE_PX] = 0
    return color.reshape(SIDE_PX, SIDE_PX, 3)
