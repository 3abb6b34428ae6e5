"""A scene: pictures, masks and cameras of one object, in normalised space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float

from shapewright.data.capture import Capture, Picture, View, as_mask, listed
from shapewright.data.colmap import find_model, read_colmap
from shapewright.data.idr import is_idr, read_idr
from shapewright.data.middlebury import find_par_file, read_middlebury
from shapewright.data.nerf_json import is_nerf_json, read_nerf_json
from shapewright.data.normalisation import (
    NormalisationReport,
    normalise_by_cameras,
    normalise_by_masks,
    normalise_by_points,
)
from shapewright.data.undistort import undistort
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.voxels import carve_box
from shapewright.io.images import list_images

Normalise = Literal["auto", "file", "masks", "points", "lookat", "camera"]


@dataclass(frozen=True)
class Scene:
    """Hold everything that training needs to know about one object's pictures.

    Args:
        path: Where the scene was loaded from.
        format: The name of its format.
        views: One entry a picture.
        cameras: One pinhole a view, float64, in normalised space: the object
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
        """Whether the object's outline is known in every view."""
        return all(view.has_mask for view in self.views)

    def picture(self, view: int) -> Picture:
        """Return the pixels of one view, undistorted, read from its files at each call.

        Raises:
            UserError: if a file is missing or damaged.
        """
        picture = self.views[view].read()
        coefficients = self.views[view].distortion
        if not coefficients:
            return picture
        rgb = undistort(picture.rgb, self.cameras.intrinsics[view], coefficients)
        return Picture(rgb, None if picture.alpha is None else self._undistort_alpha(view, picture.alpha))

    def mask(self, view: int) -> Bool[np.ndarray, "h w"]:
        """Return where one view shows the object, undistorted.

        Raises:
            ValueError: if the view has no mask.
            UserError: if a file is missing or damaged.
        """
        alpha = self.views[view].read_alpha()
        return as_mask(self._undistort_alpha(view, alpha) if self.views[view].distortion else alpha)

    def _undistort_alpha(self, view: int, alpha: np.ndarray) -> np.ndarray:
        """Return a mask undistorted; beyond the picture there is no object."""
        K = self.cameras.intrinsics[view]
        return undistort(alpha[..., None], K, self.views[view].distortion, outside="zeros")[..., 0]


def load_scene(
    path: Path, cameras_file: str | None = None, holdout_every: int = 8, normalise: Normalise = "auto"
) -> Scene:
    """Return the scene in a folder (or JSON file), whatever its format.

    Args:
        path: The folder.
        cameras_file: Which of several camera files to use.
        holdout_every: Hold out views 0, n, 2n, ... unless the format has its own split; 0 holds none out.
        normalise: ``file`` takes the object's sphere from the camera file, ``masks`` carves it,
            ``points``, ``lookat`` and ``camera`` do without masks; ``auto`` takes the first that it can.

    Raises:
        ValueError: if ``normalise`` is none of these.
        UserError: if anything is missing, damaged or impossible.
    """
    if normalise not in get_args(Normalise):
        raise ValueError(f"normalise must be one of {get_args(Normalise)}, got {normalise!r}.")
    path = Path(path)
    capture = read_capture(path, cameras_file, needs_scale=normalise in ("auto", "file"))
    train, test = _split(capture, holdout_every)
    unit = NormalisationReport("none", 1.0, np.zeros(3))
    world = _scene(path, capture, (train, test), unit)
    _check_masks_complete(world)
    masks = [world.mask(view) for view in train] if world.has_masks else []
    _check_masks(world, masks)
    scene = _scene(path, capture, (train, test), _normalise(capture, world, masks, normalise))
    if masks and scene.normalisation.method == "file":
        _check_object_in_sphere(scene, masks)
    return scene


def read_capture(path: Path, cameras_file: str | None = None, needs_scale: bool = True) -> Capture:
    """Detect the format of a folder and read it, without normalising.

    Args:
        path: The folder, or a JSON file of NeRF or NGP.
        cameras_file: Which of several camera files to use.
        needs_scale: Whether a format that stores the object's sphere must have it.

    Raises:
        UserError: if no format fits, or the reader finds a mistake.
    """
    if not path.exists():
        raise UserError(f"The scene {path} does not exist.", "Check the path.")
    if is_idr(path) or (cameras_file or "").endswith(".npz"):
        return read_idr(path, cameras_file, needs_scale)
    if is_nerf_json(path):
        return read_nerf_json(path, cameras_file)
    if find_model(path) is not None:
        return read_colmap(path)
    if find_par_file(path) is not None:
        return read_middlebury(path)
    pictures = sum(len(list_images(folder)) for folder in (path, path / "image", path / "images"))
    found = (
        f"There are {pictures} pictures in {path}, but no cameras" if pictures else f"There are no pictures in {path}"
    )
    raise UserError(
        f"{found}.",
        "Expected pictures and cameras.npz (IDR, NeuS), transforms.json (NeRF, NGP), "
        "a COLMAP model in sparse/0, or *_par.txt (Middlebury).",
    )


def _scene(
    path: Path, capture: Capture, split: tuple[tuple[int, ...], tuple[int, ...]], report: NormalisationReport
) -> Scene:
    """Put a capture into the normalised space of a report."""
    return Scene(
        path=path,
        format=capture.format,
        views=capture.views,
        cameras=capture.cameras.transformed(report.scale, torch.from_numpy(report.translation)),
        scale=report.scale,
        translation=report.translation,
        train=split[0],
        test=split[1],
        normalisation=report,
        notes=capture.notes,
    )


def _split(capture: Capture, holdout_every: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return training and held-out views; fewer than four views are all trained on."""
    views = range(len(capture.views))
    if capture.train:
        return capture.train, capture.test
    if holdout_every <= 1 or len(views) < 4:
        return tuple(views), ()
    return tuple(i for i in views if i % holdout_every), tuple(views[::holdout_every])


def _normalise(
    capture: Capture, world: Scene, masks: list[Bool[np.ndarray, "_ _"]], normalise: Normalise
) -> NormalisationReport:
    """Return the object's sphere by the wanted method, or by the first possible one."""
    if capture.sphere is not None and normalise in ("auto", "file"):
        return NormalisationReport("file", *capture.sphere)
    if normalise == "file":
        raise UserError(
            f"{capture.cameras_file} does not say where the object is.", "Leave `--normalise file` out to find it."
        )
    if normalise == "masks" and not masks:
        raise UserError(
            f"{world.path} has no masks to carve the object from.", "Add masks, or use `--normalise lookat`."
        )
    if masks and normalise in ("auto", "masks"):
        return normalise_by_masks(world.cameras[world.train], masks, [world.views[view].name for view in world.train])
    has_points = capture.points is not None and len(capture.points) > 0
    if normalise == "points" or (normalise == "auto" and has_points):
        return normalise_by_points(np.zeros((0, 3)) if capture.points is None else capture.points)
    return normalise_by_cameras(world.cameras[world.train], "camera" if normalise == "camera" else "lookat")


def _check_masks_complete(scene: Scene) -> None:
    """Raise if some views have a mask and others do not."""
    without = [view.name for view in scene.views if not view.has_mask]
    if without and len(without) < len(scene.views):
        raise UserError(
            f"{len(without)} of {len(scene.views)} pictures in {scene.path} have no mask: {listed(without)}.",
            "Add the missing masks, or remove all masks to work without them.",
        )


def _check_masks(scene: Scene, masks: list[Bool[np.ndarray, "_ _"]]) -> None:
    """Raise if a mask is empty, all of them are full, or most are inverted."""
    empty = [scene.views[scene.train[index]].name for index, mask in enumerate(masks) if not mask.any()]
    if empty:
        highest = max(int(scene.views[view].read_alpha().max()) for view in scene.train)
        many = "All masks are" if len(empty) == len(masks) else f"{len(empty)} of {len(masks)} masks are"
        raise UserError(
            f"{many} black in {scene.path}: {listed(empty)} (the object is where a mask exceeds 127; "
            f"the highest value in any mask is {highest}).",
            "Paint the object white (255) in these masks, or remove the pictures that do not show it.",
        )
    if masks and all(mask.all() for mask in masks):
        raise UserError(
            f"All masks in {scene.path} are white: they do not say where the object is.",
            "Remove the mask folder to work without masks, or make masks that are black around the object.",
        )
    border = np.array([np.concatenate([m[0], m[-1], m[:, 0], m[:, -1]]).mean() for m in masks])
    inverted = int((border > 0.9).sum())
    if inverted > len(masks) / 2:
        raise UserError(
            f"The masks in {scene.path} look inverted: {inverted} of {len(masks)} cover the border of their picture.",
            "Invert them: masks are white (255) on the object and black (0) around it.",
        )


def _check_object_in_sphere(scene: Scene, masks: list[Bool[np.ndarray, "_ _"]]) -> None:
    """Raise if the stored sphere holds nothing that the masks allow."""
    corner = torch.ones(3, dtype=torch.float64)
    silhouettes = [torch.from_numpy(mask) for mask in masks]
    hull = carve_box(scene.cameras[scene.train], silhouettes, -corner, corner, 32, agreement=0.75)
    if not bool(hull.any()):
        raise UserError(
            f"The sphere that scale_mat describes (radius {scene.scale:.5g} around "
            f"{np.array2string(scene.translation, precision=4)}) holds no part of the object that the masks show.",
            "Carve the place and size of the object from the masks with `--normalise masks`.",
        )
