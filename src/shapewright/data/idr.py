"""IDR and NeuS scenes: image/, mask/ and cameras*.npz with world_mat_i and scale_mat_i."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from shapewright.data.capture import MASK_FOLDERS, Capture, View, listed, require_views
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras, nearest_point_to_axes
from shapewright.io.arrays import read_npz
from shapewright.io.files import read_json
from shapewright.io.images import has_alpha, list_images

CAMERA_FILES = ("cameras.npz", "cameras_sphere.npz", "cameras_large.npz")
SCENE_FILE = "scene.json"


def is_idr(path: Path) -> bool:
    """Return whether a folder looks like an IDR or NeuS scene."""
    return any((path / name).is_file() for name in CAMERA_FILES)


def read_idr(path: Path, cameras_file: str | None = None, needs_scale: bool = True) -> Capture:
    """Return the capture in an IDR or NeuS folder.

    Pictures, masks and matrices belong together by their position in the
    sorted order. ``scene.json``, where Shapewright wrote one, adds the split.

    Args:
        path: The folder.
        cameras_file: Name of the archive; None takes the first of ``CAMERA_FILES``.
        needs_scale: Whether a missing ``scale_mat`` is an error.

    Raises:
        UserError: if files are missing, too few, or hold impossible cameras.
    """
    images = list_images(path / "image")
    require_views(path / "image", len(images))
    file = path / (cameras_file or next(name for name in CAMERA_FILES if (path / name).is_file()))
    arrays = read_npz(file)
    _check_count(file, arrays, len(images))
    views = _views(path, images)
    world_mats = np.stack([_matrix(file, arrays, f"world_mat_{i}") for i in range(len(images))])
    sizes = torch.tensor([view.size() for view in views])
    try:
        cameras = Cameras.from_projection(torch.from_numpy(world_mats), None, sizes)
    except ValueError as problem:
        raise UserError(f"The cameras in {file} are impossible: {problem}", "Export them again.") from None
    sphere = _sphere(file, arrays) if needs_scale else None
    target = nearest_point_to_axes(cameras) if sphere is None else torch.from_numpy(sphere[1])
    _check_handedness(file, world_mats, cameras, target)
    train, test = _split(path, views)
    return Capture("idr", file, views, cameras, sphere, train, test)


def _views(path: Path, images: list[Path]) -> tuple[View, ...]:
    """Pair pictures with masks in the order of their names."""
    folder = next((path / name for name in MASK_FOLDERS if (path / name).is_dir()), path / MASK_FOLDERS[0])
    masks = list_images(folder)
    if masks and len(masks) != len(images):
        raise UserError(
            f"There are {len(images)} pictures in {path / 'image'}, but {len(masks)} masks in {folder}.",
            "Each picture needs one mask; remove the mask folder to work without masks.",
        )
    if masks:
        return tuple(View(image.name, image, mask) for image, mask in zip(images, masks, strict=True))
    return tuple(View(image.name, image, uses_alpha=has_alpha(image)) for image in images)


def _check_count(file: Path, arrays: dict[str, np.ndarray], num_images: int) -> None:
    """Raise unless there is one camera a picture: they belong together by position."""
    count = sum(name.removeprefix("world_mat_").isdigit() for name in arrays)
    if count != num_images:
        raise UserError(
            f"{file} holds {count} cameras, but there are {num_images} pictures in {file.parent / 'image'}.",
            "Remove the pictures without a camera, or export the cameras of exactly these pictures.",
        )


def _matrix(file: Path, arrays: dict[str, np.ndarray], key: str) -> Float[np.ndarray, "4 4"]:
    """Return one 4x4 matrix of the archive, checked."""
    if key not in arrays:
        raise UserError(f"{file} has no {key}: cameras must be numbered from 0.", "Export the cameras again.")
    matrix = np.asarray(arrays[key])
    if matrix.shape not in ((4, 4), (3, 4)) or matrix.dtype.kind not in "fiu":
        raise UserError(f"{key} in {file} is {matrix.dtype} {matrix.shape}, not a 4x4 matrix.", "Export it again.")
    if not np.isfinite(matrix).all():
        raise UserError(
            f"{key} in {file} holds a value that is not finite (NaN or infinity).",
            "Export this camera again, or remove it together with its picture.",
        )
    return np.vstack([matrix.astype(np.float64), [0.0, 0.0, 0.0, 1.0]])[:4]


def _sphere(file: Path, arrays: dict[str, np.ndarray]) -> tuple[float, Float[np.ndarray, "3"]]:
    """Return radius and centre in ``scale_mat_0``, which maps normalised space to world."""
    if "scale_mat_0" not in arrays:
        raise UserError(
            f"{file} has no scale_mat_0, so the place and size of the object are unknown.",
            "Carve them from the masks with `--normalise masks`.",
        )
    matrix = _matrix(file, arrays, "scale_mat_0")
    scale = float(matrix[0, 0])
    if scale <= 0 or not np.allclose(matrix[:3, :3], scale * np.eye(3), atol=1e-6 * abs(scale)):
        raise UserError(
            f"scale_mat_0 in {file} is not a positive scale and a translation: {matrix[:3, :3].tolist()}.",
            "Carve the place and size of the object from the masks with `--normalise masks`.",
        )
    return scale, matrix[:3, 3].copy()


def _check_handedness(
    file: Path, world_mats: Float[np.ndarray, "n 4 4"], cameras: Cameras, target: Float[torch.Tensor, "3"]
) -> None:
    """Raise if a camera is mirrored: det(K R) < 0, and with the sign changed it looks away from the object.

    The sign of a projection matrix is free, so the determinant alone says nothing.
    """
    negative = np.linalg.det(world_mats[:, :3, :3]) < 0
    depth = ((target - cameras.centers) * cameras.forward).sum(1).numpy()
    mirrored = [str(index) for index in np.flatnonzero(negative & (depth <= 0))]
    if mirrored:
        raise UserError(
            f"world_mat_i in {file} is mirrored (det(K R) < 0) for i = {listed(mirrored)}.",
            "Flip one image axis back: the format has x right, y down and z forward.",
        )


def _split(path: Path, views: tuple[View, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return training and held-out views as ``scene.json`` has them; empty without the file."""
    file = path / SCENE_FILE
    if not file.is_file():
        return (), ()
    content = read_json(file)
    entries = content.get("views") if isinstance(content, dict) else None
    try:
        splits = {entry["file"]: entry["split"] for entry in entries or []}
        chosen = [splits[f"{view.image_path.parent.name}/{view.image_path.name}"] for view in views]
    except (KeyError, TypeError):
        raise UserError(
            f"{file} does not list every picture in {path / 'image'} with its split.",
            "Delete the file to work without it, or write the scene again.",
        ) from None
    return (
        tuple(i for i, split in enumerate(chosen) if split != "test"),
        tuple(i for i, split in enumerate(chosen) if split == "test"),
    )
