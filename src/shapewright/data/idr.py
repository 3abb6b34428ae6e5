"""IDR and NeuS scenes: image/, mask/ and cameras*.npz with world_mat_i and scale_mat_i."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from shapewright.data.capture import Capture, View, require_views
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.arrays import read_npz
from shapewright.io.images import has_alpha, list_images

CAMERA_FILES = ("cameras.npz", "cameras_sphere.npz", "cameras_large.npz")


def is_idr(path: Path) -> bool:
    """Return whether a folder looks like an IDR or NeuS scene."""
    return any((path / name).is_file() for name in CAMERA_FILES)


def read_idr(path: Path, cameras_file: str | None = None, needs_scale: bool = True) -> Capture:
    """Return the capture in an IDR or NeuS folder.

    Args:
        path: The folder.
        cameras_file: Name of the archive; None takes the first of ``CAMERA_FILES``.
        needs_scale: Whether a missing ``scale_mat`` is an error.

    Raises:
        UserError: if files are missing, too few, or hold impossible cameras.
    """
    images = list_images(path / "image")
    require_views(path / "image", len(images))
    archive = path / (cameras_file or next(n for n in CAMERA_FILES if (path / n).is_file()))
    arrays = read_npz(archive)
    views = tuple(_views(path, images))
    world_mats = np.stack([_matrix(archive, arrays, f"world_mat_{i}", len(images)) for i in range(len(images))])
    sizes = torch.tensor([view.size() for view in views])
    scale_mat = _scale_mat(archive, arrays, len(images)) if needs_scale else None
    try:
        cameras = Cameras.from_projection(torch.from_numpy(world_mats), None, sizes)
    except ValueError as problem:
        raise UserError(f"The cameras in {archive} are impossible: {problem}", "Export them again.") from None
    capture = Capture("idr", archive, views, cameras)
    if scale_mat is None:
        return capture
    return Capture("idr", archive, views, cameras, float(scale_mat[0, 0]), scale_mat[:3, 3].copy())


def _views(path: Path, images: list[Path]) -> list[View]:
    """Pair pictures with masks in the order of their names."""
    masks = list_images(path / "mask")
    if masks and len(masks) != len(images):
        raise UserError(
            f"There are {len(images)} pictures in {path / 'image'}, but {len(masks)} masks in {path / 'mask'}.",
            "Each picture needs one mask; delete the folder `mask` to work without masks.",
        )
    if masks:
        return [View(i.name, i, m) for i, m in zip(images, masks, strict=True)]
    return [View(image.name, image, uses_alpha=has_alpha(image)) for image in images]


def _matrix(
    archive: Path, arrays: dict[str, np.ndarray], key: str, num_images: int
) -> Float[np.ndarray, "4 4"]:
    """Return one 4x4 matrix of the archive, checked."""
    if key not in arrays:
        count = sum(name.startswith("world_mat_") and "inv" not in name for name in arrays)
        raise UserError(
            f"{archive} has no {key}: it holds {count} cameras for {num_images} pictures.",
            "Remove the pictures without a camera, or export the cameras of all pictures.",
        )
    matrix = np.asarray(arrays[key], dtype=np.float64)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise UserError(
            f"{key} in {archive} has shape {matrix.shape}, expected (4, 4).", "Export the cameras again."
        )
    if not np.isfinite(matrix).all():
        raise UserError(
            f"{key} in {archive} holds a value that is not finite (NaN or infinity).",
            "Export this camera again, or remove it together with its picture.",
        )
    return np.vstack([matrix, [0.0, 0.0, 0.0, 1.0]])[:4]


def _scale_mat(
    archive: Path, arrays: dict[str, np.ndarray], num_images: int
) -> Float[np.ndarray, "4 4"]:
    """Return the map from normalised space to world: a positive scale and a translation."""
    if "scale_mat_0" not in arrays:
        raise UserError(
            f"{archive} has no scale_mat_0, so the place and size of the object are unknown.",
            "Carve them from the masks with `--normalise masks`.",
        )
    matrix = _matrix(archive, arrays, "scale_mat_0", num_images)
    scale = matrix[0, 0]
    if scale <= 0 or not np.allclose(matrix[:3, :3], scale * np.eye(3), atol=1e-6 * abs(scale)):
        raise UserError(
            f"scale_mat_0 in {archive} is not a positive scale and a translation: {matrix[:3, :3].tolist()}.",
            "Carve the place and size of the object from the masks with `--normalise masks`.",
        )
    return matrix
