"""NeRF and NGP captures: transforms*.json with OpenGL poses, pictures with or without alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from shapewright.data.capture import Capture, View, find_mask, fit_intrinsics, listed, require_views
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.files import read_json
from shapewright.io.images import IMAGE_SUFFIXES, has_alpha

TRAIN, TEST, SINGLE = "transforms_train.json", "transforms_test.json", "transforms.json"
DISTORTION = ("k1", "k2", "p1", "p2", "k3")


@dataclass(frozen=True)
class Frame:
    """Hold one entry of ``frames`` whose picture exists."""

    view: View
    world_from_camera_gl: Float[np.ndarray, "3 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    size: tuple[int, int]


def is_nerf_json(path: Path) -> bool:
    """Return whether a folder looks like a NeRF or NGP capture, or a file like its JSON."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / TRAIN).is_file() or (path / SINGLE).is_file()


def read_nerf_json(path: Path, cameras_file: str | None = None) -> Capture:
    """Return the capture in a NeRF (train and test split) or NGP (single file) folder.

    Listed pictures that do not exist are skipped and named in the notes.

    Args:
        path: The folder, or its JSON file.
        cameras_file: Name of a JSON file in the folder to read alone.

    Raises:
        UserError: if files are missing or hold impossible cameras.
    """
    folder, name = (path.parent, path.name) if path.is_file() else (path, cameras_file)
    if name is None and (folder / TRAIN).is_file():
        names = [name for name in (TRAIN, TEST) if (folder / name).is_file()]
    else:
        names = [name or SINGLE]
    parts = [_read_frames(folder / name) for name in names]
    frames = [frame for found, _ in parts for frame in found]
    require_views(folder, len(frames))
    cameras = Cameras.from_opengl(
        torch.from_numpy(np.stack([frame.world_from_camera_gl for frame in frames])),
        torch.from_numpy(np.stack([frame.intrinsics for frame in frames])),
        torch.tensor([frame.size for frame in frames]),
    )
    num_train = len(parts[0][0])
    has_split = len(parts) == 2 and 0 < num_train < len(frames)
    return Capture(
        "nerf_json",
        folder / names[0],
        tuple(frame.view for frame in frames),
        cameras,
        train=tuple(range(num_train)) if has_split else (),
        test=tuple(range(num_train, len(frames))) if has_split else (),
        notes=tuple(
            f"{name} lists {len(missing)} pictures that do not exist: {listed(missing)}"
            for name, (_, missing) in zip(names, parts, strict=True)
            if missing
        ),
    )


def _read_frames(file: Path) -> tuple[list[Frame], list[str]]:
    """Return the frames of one JSON file, and the listed pictures that do not exist."""
    content = read_json(file)
    entries = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{file} has no list `frames`.", "Check that it is a NeRF or NGP transforms file.")
    found, missing = [], []
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict) or not {"file_path", "transform_matrix"} <= entry.keys():
            raise UserError(f"Frame {index} of {file} lacks file_path or transform_matrix.", "Write the file again.")
        image = _find_picture(file.parent, str(entry["file_path"]))
        if image is None:
            missing.append(str(entry["file_path"]))
        else:
            found.append(_frame(file, image, {**content, **entry}))
    return found, missing


def _find_picture(folder: Path, file_path: str) -> Path | None:
    """Return the picture of a frame; NeRF's files leave its suffix out."""
    stem = folder / file_path
    candidates = [stem, *(stem.parent / (stem.name + suffix) for suffix in IMAGE_SUFFIXES)]
    return next((path for path in candidates if path.is_file()), None)


def _frame(file: Path, image: Path, settings: dict[str, Any]) -> Frame:
    """Build one frame from its entry laid over the settings of the whole file."""
    mask = _mask(file.parent, image, settings.get("mask_path"))
    view = View(
        f"{image.parent.name}/{image.name}",
        image,
        mask,
        uses_alpha=mask is None and has_alpha(image),
        distortion=_distortion(file, settings),
    )
    size = view.size()
    pose = _pose(file, image.name, settings["transform_matrix"])
    return Frame(view, pose, _intrinsics(file, image, settings, size), size)


def _mask(folder: Path, image: Path, mask_path: object) -> Path | None:
    """Return the mask file of a frame: its own entry, or the one in the mask folder."""
    if isinstance(mask_path, str):
        return folder / mask_path
    return find_mask(folder, image.name)


def _distortion(file: Path, settings: dict[str, Any]) -> tuple[float, ...]:
    """Return the lens coefficients; empty if all are zero."""
    if settings.get("is_fisheye") or "FISHEYE" in str(settings.get("camera_model", "")) or settings.get("k4"):
        raise UserError(f"{file} uses a fisheye lens model, which is not supported.", "Undistort the pictures first.")
    coefficients = tuple(_number(file, settings, key, 0.0) for key in DISTORTION)
    return coefficients if any(coefficients) else ()


def _pose(file: Path, name: str, rows: object) -> Float[np.ndarray, "3 4"]:
    """Return a checked camera-to-world matrix with OpenGL axes, its rotation exactly orthonormal."""
    try:
        pose = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        pose = np.empty(0)
    if pose.shape not in ((4, 4), (3, 4)) or not np.isfinite(pose).all():
        raise UserError(
            f"transform_matrix of {name} in {file} is not a 4x4 matrix of finite numbers.",
            "Export this camera again, or remove the frame.",
        )
    R = pose[:3, :3]
    error = np.abs(R.T @ R - np.eye(3)).max()
    if error > 1e-3:
        raise UserError(
            f"transform_matrix of {name} in {file} is no rotation: R^T R differs from 1 by {error:.3g}.",
            "Remove the scale from the matrices, or export the cameras again.",
        )
    if np.linalg.det(R) < 0:
        raise UserError(
            f"transform_matrix of {name} in {file} is mirrored (its determinant is negative).",
            "Flip one axis back: the format has x right, y up and z backwards.",
        )
    u, _, vt = np.linalg.svd(R)
    return np.concatenate([u @ vt, pose[:3, 3:]], axis=1)


def _intrinsics(file: Path, image: Path, settings: dict[str, Any], size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Return K for the picture's actual size; ``w`` and ``h`` may be floats or missing."""
    width = _number(file, settings, "w", float(size[0]))
    height = _number(file, settings, "h", float(size[1]))
    if "fl_x" in settings:
        fx = _number(file, settings, "fl_x", 0.0)
    elif "camera_angle_x" in settings:
        angle = min(max(_number(file, settings, "camera_angle_x", 0.0), 0.0), math.pi)
        fx = width / (2.0 * math.tan(angle / 2.0)) if angle > 0 else 0.0
    else:
        raise UserError(f"{file} has neither fl_x nor camera_angle_x.", "Add the focal length in pixels as fl_x.")
    fy = _number(file, settings, "fl_y", fx)
    if min(fx, fy, width, height) <= 0:
        raise UserError(f"{file}: focal lengths and size of {image.name} must be positive.", "Correct the file.")
    cx = _number(file, settings, "cx", width / 2.0)
    cy = _number(file, settings, "cy", height / 2.0)
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return fit_intrinsics(K, (width, height), size, image, file)


def _number(file: Path, settings: dict[str, Any], key: str, default: float) -> float:
    """Return a finite number of the file."""
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{key} in {file} is {value!r}, not a finite number.", "Correct the file.")
    return float(value)
