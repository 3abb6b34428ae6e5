"""A small category in Kato's format: ellipsoids of all proportions, seen from the ring of 24 views."""

import numpy as np
import torch

from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.orbit import kato_ring
from shapewright.kernels.voxel_ops import kato_voxels
from shapewright.methods.pose_invariant.config import NetworkConfig
from shapewright.rendering.projections import project_perspective
from shapewright.rendering.soft_silhouette import SilhouetteStyle, silhouette

# As small as networks can be that take pictures of 64 px.
SMALL = NetworkConfig(
    encoder_widths=(8, 8, 8),
    encoder_hidden=16,
    code_dim=8,
    decoder_hidden=(16,),
    discriminator_hidden=(8,),
    image_widths=(4, 4, 8, 8, 8),
)
SIZES = {"train": 6, "val": 3, "test": 3}


def write_ellipsoids(folder, seed=0, name="egg", sizes=None):
    """Write pictures, voxels and points of three splits; colours tell the sides apart."""
    random = np.random.default_rng(seed)
    sphere, cameras = icosphere(), kato_ring(64)
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (sizes or SIZES).items():
        images, voxels, points = [], [], []
        for _ in range(count):
            axes = torch.tensor(random.uniform(0.15, 0.5, 3), dtype=torch.float32)
            vertices = sphere.vertices * axes
            screen = project_perspective(vertices, cameras)
            mask = silhouette(screen, sphere.faces, 64, SilhouetteStyle("contour", 4)).numpy()
            tint = random.uniform(0.3, 1.0, (1, 3, 1, 1)) * np.linspace(0.5, 1.0, 24).reshape(-1, 1, 1, 1)
            images.append(np.concatenate([mask[:, None] * tint, mask[:, None]], axis=1))
            stored = kato_voxels(Mesh(vertices, sphere.faces)).numpy().transpose(1, 2, 0)[:, ::-1]
            voxels.append(stored)
            points.append(vertices.numpy())
        stem = f"{name}_{split}"
        np.savez_compressed(folder / f"{stem}_images.npz", (255 * np.stack(images)).round().astype(np.uint8))
        np.savez_compressed(folder / f"{stem}_voxels.npz", np.stack(voxels))
        np.savez_compressed(folder / f"{stem}_points.npz", np.stack(points).astype(np.float32))
    return folder
