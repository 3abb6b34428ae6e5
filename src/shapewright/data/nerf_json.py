"""NeRF and NGP captures: transforms*.json with OpenGL poses, pictures with or without alpha."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.data.capture import Capture, View, require_views
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.arrays import read_json
from shapewright.io.images import IMAGE_SUFFIXES, has_alpha

SPLITS = ("transforms_train.json", "transforms_test.json")
SINGLE = "transforms.json"


@dataclass(frozen=True)
class Frame:
    """Hold one entry of ``frames`` whose picture exists."""

    view: View
    world_from_camera_gl: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]


def is_nerf_json(path: Path) -> bool:
    """Return whether a folder looks like a NeRF or NGP capture, or a file like its JSON."""
    if path.is_file():
        return path.suffix == ".json"
    return (path / SPLITS[0]).is_file() or (path / SINGLE).is_file()


def read_nerf_json(path: Path, cameras_file: str | None = None) -> Capture:
    """Return the capture in a NeRF (train and test split) or NGP (single file) folder.

    Args:
        path: The folder, or its JSON file.
        cameras_file: Name of a JSON file in the folder to read alone.

    Raises:
        UserError: if files are missing or hold impossible cameras.
    """
    if path.is_file():
        path, cameras_file = path.parent, path.name
    split = cameras_file is None and (path / SPLITS[0]).is_file()
    names = [n for n in SPLITS if (path / n).is_file()] if split else [cameras_file or SINGLE]
    frames: list[Frame] = []
    notes: list[str] = []
    counts = []
    for name in names:
        found, missing = _read_frames(path / name)
        frames += found
        counts.append(len(found))
        if missing:
            notes.append(
                f"{name} lists {len(missing)} pictures that do not exist; they are skipped: "
                + ", ".join(missing[:10])
                + (", ..." if len(missing) > 10 else "")
            )
    require_views(path, len(frames))
    cameras = Cameras.from_opengl(
        torch.from_numpy(np.stack([frame.world_from_camera_gl for frame in frames])),
        torch.from_numpy(np.stack([frame.intrinsics for frame in frames])),
        torch.tensor([frame.size for frame in frames]),
    )
    train = tuple(range(counts[0])) if len(counts) > 1 else ()
    test = tuple(range(counts[0], len(frames))) if len(counts) > 1 else ()
    views = tuple(frame.view for frame in frames)
    return Capture("nerf_json", path / names[0], views, cameras, train=train, test=test, notes=tuple(notes))


def _read_frames(file: Path) -> tuple[list[Frame], list[str]]:
    """Return the frames of one JSON file, and the listed pictures that do not exist."""
    content = read_json(file)
    frames = content.get("frames")
    if not isinstance(frames, list):
        raise UserError(f"{file} has no list `frames`.", "Check that it is a NeRF or NGP transforms file.")
    found, missing = [], []
    for index, entry in enumerate(frames):
        if not isinstance(entry, dict) or "file_path" not in entry or "transform_matrix" not in entry:
            raise UserError(
                f"Frame {index} of {file} lacks file_path or transform_matrix.", "Write the file again."
            )
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
    """Build one frame from its entry over the settings of the whole file."""
    pose = _pose(file, image.name, settings["transform_matrix"])
    distortion = tuple(_number(file, settings, key, 0.0) for key in ("k1", "k2", "p1", "p2"))
    view = View(
        f"{image.parent.name}/{image.name}",
        image,
        uses_alpha=has_alpha(image),
        distortion=distortion if any(distortion) else (),
    )
    size = view.size()
    return Frame(view, pose, _intrinsics(file, image, settings, size), size)


def _pose(file: Path, name: str, rows: object) -> np.ndarray:
    """Return a checked camera-to-world matrix with OpenGL axes."""
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


def _intrinsics(file: Path, image: Path, settings: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return K for the picture's real size; the file's numbers are scaled to it."""
    width = _number(file, settings, "w", float(size[0]))
    height = _number(file, settings, "h", float(size[1]))
    if "fl_x" in settings:
        fx = _number(file, settings, "fl_x", 0.0)
    elif "camera_angle_x" in settings:
        fx = width / (2.0 * math.tan(_number(file, settings, "camera_angle_x", 0.0) / 2.0))
    else:
        raise UserError(f"{file} has neither fl_x nor camera_angle_x.", "Add the focal length in pixels as fl_x.")
    K = np.eye(3)
    K[0, 0], K[1, 1] = fx, _number(file, settings, "fl_y", fx)
    K[0, 2] = _number(file, settings, "cx", width / 2.0)
    K[1, 2] = _number(file, settings, "cy", height / 2.0)
    ratio = np.array([size[0] / width, size[1] / height])
    if abs(ratio[0] / ratio[1] - 1.0) > 0.01:
        raise UserError(
            f"{file} says {width:g}x{height:g}, but {image} is {size[0]}x{size[1]}: another shape.",
            "Use the pictures that the cameras were made for, or a uniformly resized copy.",
        )
    K[:2] *= ratio[:, None]
    return K


def _number(file: Path, settings: dict[str, Any], key: str, default: float) -> float:
    """Return a finite number of the file."""
    value = settings.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{key} in {file} is {value!r}, not a finite number.", "Correct the file.")
    return float(value)
