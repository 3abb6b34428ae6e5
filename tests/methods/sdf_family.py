"""A family of shapes with known distances: balls whose radius is the one thing that differs."""

import numpy as np
import torch

from shapewright.data.sdf_samples import (
    NORMALISATIONS,
    SAMPLES,
    SdfSamples,
    ShapeKey,
    write_normalisation,
    write_samples,
)
from shapewright.geometry.sampling import Normalisation


def ball_rows(radius, count=4000, seed=0):
    """Return samples around a ball: half near its surface, half anywhere."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(count // 2, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    near = directions * (radius + 0.1 * rng.normal(size=(count // 2, 1)))
    points = np.concatenate([near, rng.uniform(-1, 1, size=(count - count // 2, 3))])
    sdf = np.linalg.norm(points, axis=1, keepdims=True) - radius
    return np.concatenate([points, sdf], axis=1).astype(np.float32)


def write_balls(folder, radii):
    """Write the samples of balls as a folder that `train deep_sdf` reads."""
    for place, radius in enumerate(radii):
        key = ShapeKey("toy", "balls", f"ball{place:02d}")
        write_samples(key.file(folder, SAMPLES, ".npz"), SdfSamples.from_rows(ball_rows(radius, seed=place)))
        to_unit = Normalisation(torch.zeros(3, dtype=torch.float64), 0.5)
        write_normalisation(key.file(folder, NORMALISATIONS, ".npz"), to_unit)
    return folder
