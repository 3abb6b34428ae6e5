"""A scene: pictures, masks and cameras of one object, in normalised space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float

from shapewright.data.capture import Capture, Picture, View, as_mask
from shapewright.data.idr import is_idr, read_idr
from shapewright.data.nerf_json import is_nerf_json, read_nerf_json
from shapewright.data.normalisation import NormalisationReport, normalise_by_masks
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras

Normalise = Literal["auto", "file", "masks"]


@dataclass(frozen=True)
class Scene:
    """Hold everything that training needs to know about one object's pictures.

    Args:
        path: Where the scene was loaded from.
        format: The name of its format.
        views: One entry a picture.
        cameras: One camera a view, float64, in normalised space: the object
            lies inside the unit sphere, ``x_world = scale * x + translation``.
        scale: World units in one normalised unit.
        translation: The world point at the normalised origin.
        train: Views to train on.
        test: Views held out for evaluation.
        normalisation: How scale and translation were found.
        notes: Sentences about what was skipped or adapted while reading.
    """

    path: Path
    format: str
    views: tuple[View, ...]
    cameras: Cameras
    scale: float
    translation: Float[np.ndarray, "3"]
    train: tuple[int, ...]
    test: tuple[int, ...]
    normalisation: NormalisationReport
    notes: tuple[str, ...] = ()

    @property
    def has_masks(self) -> bool:
        """Whether every view has a mask."""
        return all(view.has_mask for view in self.views)

    def picture(self, view: int) -> Picture:
        """Return the pixels of one view, read from its files at each call.

        Raises:
            UserError: if a file is missing or damaged.
        """
        return self.views[view].read()

    def mask(self, view: int) -> Bool[np.ndarray, "h w"]:
        """Return where one view shows the object.

        Raises:
            ValueError: if the view has no mask.
            UserError: if a file is missing or damaged.
        """
        return as_mask(self.views[view].read_alpha())


def load_scene(
    path: Path,
    cameras_file: str | None = None,
    holdout_every: int = 8,
    normalise: Normalise = "auto",
) -> Scene:
    """Return the scene in a folder (or JSON file), whatever its format.

    Args:
        path: The folder.
        cameras_file: Which of several camera files to use.
        holdout_every: Hold out views 0, n, 2n, ... unless the format has its own split; 0 holds none out.
        normalise: ``file`` takes the object's sphere from the camera file, ``masks`` carves it;
            ``auto`` carves only where the format has no such numbers.

    Raises:
        UserError: if anything is missing, damaged or impossible.
    """
    path = Path(path)
    capture = _read_capture(path, cameras_file, normalise)
    train, test = _split(capture, holdout_every)
    if capture.scale is not None and capture.translation is not None and normalise != "masks":
        report = NormalisationReport("file", capture.scale, capture.translation)
    else:
        masks = [as_mask(capture.views[i].read_alpha()) for i in train]
        report = normalise_by_masks(capture.cameras[train], masks)
    cameras = capture.cameras.transformed(report.scale, torch.from_numpy(report.translation))
    return Scene(
        path=path,
        format=capture.format,
        views=capture.views,
        cameras=cameras,
        scale=report.scale,
        translation=report.translation,
        train=train,
        test=test,
        normalisation=report,
        notes=capture.notes,
    )


def _read_capture(path: Path, cameras_file: str | None, normalise: Normalise) -> Capture:
    """Detect the format and read it."""
    if not path.exists():
        raise UserError(f"The scene {path} does not exist.", "Check the path.")
    if is_idr(path) or (cameras_file or "").endswith(".npz"):
        return read_idr(path, cameras_file, needs_scale=normalise != "masks")
    if is_nerf_json(path):
        return read_nerf_json(path, cameras_file)
    raise UserError(
        f"No cameras were found in {path}.",
        "Expected cameras.npz (IDR, NeuS), transforms.json (NeRF, NGP), a COLMAP model or *_par.txt (Middlebury).",
    )


def _split(capture: Capture, holdout_every: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return training and held-out views."""
    if capture.train:
        return capture.train, capture.test
    every = range(len(capture.views))
    if holdout_every <= 0 or len(capture.views) < 3:
        return tuple(every), ()
    return (
        tuple(i for i in every if i % holdout_every != 0),
        tuple(i for i in every if i % holdout_every == 0),
    )
