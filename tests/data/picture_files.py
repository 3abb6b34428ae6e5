"""Small folders of pictures in the formats of the published data sets."""

import numpy as np


def disks(objects=3, views=24, size=64, seed=0):
    """Return pictures [objects, views, 4, size, size] of discs, each of its own colour and place."""
    random = np.random.default_rng(seed)
    grid = np.arange(size) + 0.5
    centre = random.uniform(0.4, 0.6, (objects, views, 2, 1, 1)) * size
    radius = random.uniform(0.15, 0.3, (objects, views, 1, 1)) * size
    mask = (grid - centre[:, :, 0]) ** 2 + (grid[:, None] - centre[:, :, 1]) ** 2 < radius**2
    colour = random.integers(50, 256, (objects, views, 3, 1, 1))
    return np.concatenate([colour * mask[:, :, None], 255 * mask[:, :, None]], axis=2).astype(np.uint8)


def grids(objects=3, seed=0):
    return np.random.default_rng(seed).random((objects, 32, 32, 32)) < 0.2


def write_kato(folder, name="02958343", split="train", objects=3, **changes):
    """Write the three files of a class as the download and the renderer have them; None leaves one out."""
    arrays = {
        "images": disks(objects, seed=len(name) + len(split)),
        "voxels": grids(objects),
        "points": np.random.default_rng(1).uniform(-0.5, 0.5, (objects, 50, 3)).astype(np.float32),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for kind, array in {**arrays, **changes}.items():
        if array is not None:
            np.savez_compressed(folder / f"{name}_{split}_{kind}.npz", array)
    return arrays
