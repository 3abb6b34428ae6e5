"""Middlebury multi-view stereo: *_par.txt with K, R, t a picture, and a box in README.txt."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from shapewright.data.capture import Capture, View, find_mask, listed, require_views
from shapewright.data.normalisation import MARGIN
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras

NUMBERS = 21


def find_par_file(path: Path) -> Path | None:
    """Return the camera file of a Middlebury folder, if there is one."""
    return next(iter(sorted(path.glob("*_par.txt"))), None) if path.is_dir() else None


def read_middlebury(path: Path) -> Capture:
    """Return the capture in a Middlebury folder.

    Each line of the camera file is ``name k11..k33 r11..r33 t1 t2 t3`` with
    ``P = K [R t]`` and integer pixel centres. Listed pictures that are not
    there are skipped. Without a mask folder, masks are made from the dark background.

    Raises:
        UserError: if files are missing or hold impossible cameras.
    """
    file = find_par_file(path)
    if file is None:
        raise UserError(f"There is no *_par.txt in {path}.", "Check the path.")
    rows = dict(_row(file, line) for line in _lines(file)[1:])
    present = [name for name in rows if (path / name).is_file()]
    require_views(path, len(present))
    views = tuple(_view(path, name) for name in present)
    numbers = torch.from_numpy(np.stack([rows[name] for name in present]))
    K = numbers[:, :9].reshape(-1, 3, 3).clone()
    K[:, :2, 2] += 0.5
    sizes = torch.tensor([view.size() for view in views])
    cameras = Cameras.from_krt(K, numbers[:, 9:18].reshape(-1, 3, 3), numbers[:, 18:], sizes)
    skipped = [name for name in rows if name not in present]
    notes = [f"{file.name} lists {len(skipped)} pictures that do not exist: {listed(skipped)}"] if skipped else []
    if any(view.dark_background for view in views):
        notes.append("there is no mask folder: masks are what is brighter than the dark background")
    return Capture("middlebury", file, views, cameras, _box_sphere(path), notes=tuple(notes))


def _lines(file: Path) -> list[str]:
    """Return the lines that are not empty."""
    return [line for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _row(file: Path, line: str) -> tuple[str, Float[np.ndarray, "21"]]:
    """Return name and numbers of one line, checked."""
    name, *fields = line.split()
    try:
        numbers = np.array([float(field) for field in fields])
    except ValueError:
        numbers = np.empty(0)
    if len(numbers) != NUMBERS or not np.isfinite(numbers).all():
        raise UserError(
            f"The line of {name} in {file} does not hold {NUMBERS} finite numbers.", "Download the file again."
        )
    R = numbers[9:18].reshape(3, 3)
    if np.abs(R.T @ R - np.eye(3)).max() > 1e-3 or np.linalg.det(R) < 0:
        raise UserError(
            f"The matrix R of {name} in {file} is no rotation (skewed or mirrored).", "Correct or remove this line."
        )
    return name, numbers


def _view(path: Path, name: str) -> View:
    """Return one view, with a mask file if there is one."""
    mask = find_mask(path, name)
    return View(name, path / name, mask_path=mask, dark_background=mask is None)


def _box_sphere(path: Path) -> tuple[float, Float[np.ndarray, "3"]] | None:
    """Return the sphere around the tight box that README.txt states, if it does."""
    readme = path / "README.txt"
    if not readme.is_file():
        return None
    number = r"\s*(-?\d*\.?\d+(?:e-?\d+)?)\s*"
    corner = r"\(" + r"[,\s]".join([number] * 3) + r"\)"
    match = re.search(r"bounding box.*?" + corner + r"\s*" + corner, readme.read_text(errors="replace"), re.S)
    if match is None:
        return None
    lower, upper = np.array([float(field) for field in match.groups()]).reshape(2, 3)
    return MARGIN * float(np.linalg.norm(upper - lower)) / 2, (lower + upper) / 2
