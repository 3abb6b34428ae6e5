"""Say what is wrong with a scene before an hour of training is spent on it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.data.capture import View, as_mask, listed
from shapewright.data.matching import Features, epipolar_errors, find_features
from shapewright.data.scene import Normalise, Scene, load_scene
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.rays import intersect_sphere
from shapewright.geometry.voxels import box_around, carve_box, resize_mask, silhouette_agreement

MOST_VIEWS = 60
MOST_PIXELS_ACROSS = 800
IOU_WARNING, IOU_ERROR, IOU_BAD_VIEW = 0.9, 0.8, 0.7
EPIPOLAR_WARNING_PX, EPIPOLAR_ERROR_PX = 1.0, 5.0


@dataclass(frozen=True)
class ViewRow:
    """Hold what was measured in one view.

    Args:
        name: The view.
        split: ``train`` or ``test``.
        width: Pixels across.
        height: Pixels down.
        distance: Of the camera from the middle of the unit sphere.
        mask_share: Share of the picture that the mask covers; None without masks.
        outside_share: Share of the mask that the unit sphere does not cover.
        hull_iou: Intersection over union of mask and carved hull.
        epipolar_px: Sampson error of feature matches with neighbouring views, in pictures 400 pixels wide;
            None where too few match.
    """

    name: str
    split: str
    width: int
    height: int
    distance: float
    mask_share: float | None = None
    outside_share: float | None = None
    hull_iou: float | None = None
    epipolar_px: float | None = None


@dataclass(frozen=True)
class Hull:
    """Hold a carved hull and its box in normalised space."""

    occupied: Bool[Tensor, "g g g"]
    lower: Float[Tensor, "3"]
    upper: Float[Tensor, "3"]


@dataclass
class SceneReport:
    """Collect what a check found.

    Args:
        path: The scene.
        facts: What the scene is.
        errors: What must be mended before training.
        warnings: What deserves a look.
        rows: One entry a view; empty if the scene could not be loaded.
        hull: The carved hull, for drawing.
    """

    path: Path
    facts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rows: list[ViewRow] = field(default_factory=list)
    hull: Hull | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing must be mended."""
        return not self.errors

    def lines(self) -> list[str]:
        """Return the report as sentences, the verdict last."""
        verdict = f"errors: {len(self.errors)}, warnings: {len(self.warnings)}; " + (
            "ready to train" if self.passed else "mend the errors before training"
        )
        return [
            *self.facts,
            *(f"warning: {sentence}" for sentence in self.warnings),
            *(f"error: {sentence}" for sentence in self.errors),
            verdict,
        ]


@dataclass(frozen=True)
class Looks:
    """Hold what was read from the pictures, masks and cameras no more than 800 pixels across."""

    cameras: Cameras
    masks: list[Bool[np.ndarray, "_ _"]]
    features: dict[int, Features]


def check_scene(
    scene: Scene | Path | str, cameras_file: str | None = None, normalise: Normalise = "auto"
) -> SceneReport:
    """Return everything that is wrong with a scene, in words; a scene that cannot be loaded is one error.

    Args:
        scene: A loaded scene, or its folder.
        cameras_file: As for ``load_scene``.
        normalise: As for ``load_scene``.
    """
    if not isinstance(scene, Scene):
        try:
            scene = load_scene(Path(scene), cameras_file, normalise=normalise)
        except UserError as problem:
            return SceneReport(Path(str(scene)), errors=[str(problem).replace("\n", " ")])
    report = SceneReport(scene.path, facts=_facts(scene), warnings=list(scene.notes))
    _check_files(scene, report)
    _check_cameras(scene, report)
    try:
        looks = _look(scene)
    except UserError as problem:
        report.errors.append(str(problem).replace("\n", " "))
        return report
    outside, agreement = [], []
    if looks.masks:
        _check_masks(scene, looks.masks, report)
        outside = _outside_shares(looks)
        agreement = _check_hull(scene, looks, report)
    errors_px = _matching_errors(looks)
    report.rows = _rows(scene, looks, outside, agreement, errors_px)
    _check_sphere(report)
    _check_matches(report, len(looks.features))
    return report


def _facts(scene: Scene) -> list[str]:
    """Describe the scene in a few sentences."""
    sizes = Counter(f"{width}x{height}" for width, height in scene.cameras.sizes.tolist())
    pictures = listed([f"{count} of {size}" if len(sizes) > 1 else size for size, count in sizes.items()])
    return [
        f"{scene.path}: {len(scene.views)} views ({scene.format}), {pictures}; "
        f"{len(scene.train)} to train on, {len(scene.test)} held out; masks: {_mask_source(scene.views[0])}",
        *scene.normalisation.lines(),
    ]


def _mask_source(view: View) -> str:
    """Say where the masks come from."""
    if view.mask_path is not None:
        return f"files in {view.mask_path.parent.name}"
    if view.uses_alpha:
        return "alpha channel"
    return "brighter than the background" if view.dark_background else "none"


def _check_files(scene: Scene, report: SceneReport) -> None:
    """Warn about files beside the pictures and masks that no view uses."""
    used = {view.image_path for view in scene.views} | {view.mask_path for view in scene.views}
    folders = {path.parent for path in used if path is not None and scene.format == "idr"}
    extra = sorted(
        f"{file.parent.name}/{file.name}"
        for folder in folders
        for file in folder.iterdir()
        if file not in used and not file.name.startswith(".")
    )
    if extra:
        report.warnings.append(f"{len(extra)} files are not used: {listed(extra)}")


def _check_cameras(scene: Scene, report: SceneReport) -> None:
    """Look for cameras that cannot be right, without looking at pictures."""
    cameras, names = scene.cameras, [view.name for view in scene.views]
    R, K = cameras.world_from_camera[:, :, :3], cameras.intrinsics
    sizes = cameras.sizes.double()
    skewed = (R.transpose(1, 2) @ R - torch.eye(3).to(R)).abs().amax((1, 2)) > 1e-4
    mirrored = torch.linalg.det(K @ R.transpose(1, 2)) < 0
    inside = cameras.centers.norm(dim=1) < 1
    depth = -(cameras.centers * cameras.forward).sum(1)
    origin = cameras.projections()[:, :, 3]
    pixel = origin[:, :2] / origin[:, 2:]
    off_image = (depth > 0) & ((pixel < 0) | (pixel > sizes)).any(1)
    stretched = (K[:, 0, 0] / K[:, 1, 1]).log().abs() > 0.1
    sheared = (K[:, 0, 1] / K[:, 0, 0]).abs() > 0.01
    off_center = ((K[:, :2, 2] / sizes - 0.5).abs() > 0.5).any(1)
    for sentence, found in (
        ("the rotation is not orthonormal", skewed),
        ("the camera is mirrored (det K R < 0)", mirrored),
        ("the camera is inside the unit sphere, where the object should be", inside),
        ("the camera looks away from the unit sphere", (depth <= 0) & ~inside),
    ):
        _add(report.errors, sentence, found, names)
    for sentence, found in (
        ("the middle of the unit sphere is outside the picture", off_image),
        ("pixels are far from square (fx and fy differ by more than 10 %)", stretched),
        ("the camera has skew, which real lenses do not", sheared),
        ("the principal point is outside the picture", off_center),
    ):
        _add(report.warnings, sentence, found, names)


def _add(sentences: list[str], sentence: str, found: Bool[Tensor, " views"], names: list[str]) -> None:
    """Add a sentence with the views that it is true of, if there are any."""
    views = [names[view] for view in found.nonzero().flatten().tolist()]
    if views:
        sentences.append(f"{sentence} in {len(views)} of {len(names)} views: {listed(views)}")


def _look(scene: Scene) -> Looks:
    """Read every picture once, keep small masks, and the features of up to ``MOST_VIEWS`` views."""
    stride = -(-len(scene.views) // MOST_VIEWS)
    masks, features = [], {}
    ratio = (MOST_PIXELS_ACROSS / scene.cameras.sizes.amax(1)).clamp(max=1)
    sizes = (scene.cameras.sizes * ratio[:, None]).round().long()
    for view in range(len(scene.views)):
        picture = scene.picture(view)
        mask = None if picture.alpha is None else as_mask(picture.alpha)
        if view % stride == 0:
            features[view] = find_features(picture.rgb, mask)
        if mask is not None:
            width, height = sizes[view].tolist()
            masks.append(resize_mask(torch.from_numpy(mask), width, height).numpy())
    return Looks(scene.cameras.resized(sizes), masks, features)


def _check_masks(scene: Scene, masks: list[Bool[np.ndarray, "_ _"]], report: SceneReport) -> None:
    """Look for masks that are empty, full or tiny."""
    names = [view.name for view in scene.views]
    share = torch.tensor([mask.mean() for mask in masks])
    report.facts.append(
        f"masks cover {share.min():.1%} to {share.max():.1%} of their pictures (median {share.median():.1%})"
    )
    _add(report.errors, "the mask is black (no object)", share == 0, names)
    _add(report.warnings, "the mask is white all over", share == 1, names)
    _add(report.warnings, "the mask covers less than 0.2 % of the picture", (share > 0) & (share < 0.002), names)


def _outside_shares(looks: Looks) -> list[float]:
    """Return which share of each mask the unit sphere does not cover."""
    shares = []
    for view, mask in enumerate(looks.masks):
        origins, directions = looks.cameras.image_rays(view, step=4)
        small = torch.from_numpy(mask[::4, ::4].copy()).flatten()
        hits = intersect_sphere(origins, directions)[2]
        shares.append(float((small & ~hits).sum() / small.sum().clamp(min=1)))
    return shares


def _check_hull(scene: Scene, looks: Looks, report: SceneReport) -> list[float]:
    """Carve the object, and return how well its outline agrees with each mask.

    First every mask counts. If that agrees badly, nine masks in ten are
    enough, which tells single bad views from a scene that does not fit at all.
    """
    chosen = [view for view in looks.features if view in scene.train]
    masks = [torch.from_numpy(mask) for mask in looks.masks]
    agreement = [0.0] * len(masks)
    for needed in (1.0, 0.9):
        hull = _carve(looks.cameras[chosen], [masks[view] for view in chosen], needed)
        if hull is not None:
            report.hull = hull
            agreement = silhouette_agreement(hull.occupied, hull.lower, hull.upper, looks.cameras, masks)
        median = float(np.median(agreement))
        if median >= IOU_WARNING:
            break
    report.facts.append(f"hull and masks agree with a median IoU of {median:.3f}, at least {min(agreement):.3f}")
    if median < IOU_ERROR:
        report.errors.append(
            f"masks and cameras do not fit together: the hull carved from them agrees with the masks with a median "
            f"IoU of {median:.2f} (good scenes: above {IOU_WARNING}). Pictures, masks and cameras are probably not in "
            "the same order, or masks or cameras are wrong"
        )
    elif median < IOU_WARNING:
        report.warnings.append(f"hull and masks agree with a median IoU of {median:.2f} (good scenes: above 0.9)")
    else:
        bad = torch.tensor(agreement) < IOU_BAD_VIEW
        _add(report.warnings, "mask and hull disagree (IoU below 0.7)", bad, [view.name for view in scene.views])
    return agreement


def _carve(cameras: Cameras, masks: list[Bool[Tensor, "_ _"]], needed: float) -> Hull | None:
    """Carve the unit cube roughly, then the box of what is left finely."""
    upper = torch.ones(3, dtype=torch.float64)
    lower = -upper
    for resolution in (48, 96):
        hull = carve_box(cameras, masks, lower, upper, resolution, needed)
        if not bool(hull.any()):
            return None
        if resolution == 48:
            lower, upper = box_around(hull, lower, upper)
    return Hull(hull, lower, upper)


def _matching_errors(looks: Looks) -> dict[int, float]:
    """Return the epipolar error of each view with enough matches.

    It is the lower median over the neighbours: a wrong camera beside a right one does not spoil both.
    """
    views = list(looks.features)
    errors = epipolar_errors(looks.cameras[views], list(looks.features.values()))
    return {
        view: float(np.quantile(medians, 0.5, method="lower"))
        for view, medians in zip(views, errors, strict=True)
        if len(medians)
    }


def _rows(
    scene: Scene,
    looks: Looks,
    outside: list[float],
    agreement: list[float],
    errors_px: dict[int, float],
) -> list[ViewRow]:
    """Collect the measurements by view."""
    rows = []
    for view, (width, height) in enumerate(scene.cameras.sizes.tolist()):
        rows.append(
            ViewRow(
                name=scene.views[view].name,
                split="test" if view in scene.test else "train",
                width=width,
                height=height,
                distance=float(scene.cameras.centers[view].norm()),
                mask_share=float(looks.masks[view].mean()) if looks.masks else None,
                outside_share=outside[view] if outside else None,
                hull_iou=agreement[view] if agreement else None,
                epipolar_px=errors_px.get(view),
            )
        )
    return rows


def _check_sphere(report: SceneReport) -> None:
    """Warn where masks reach beyond the unit sphere: that part cannot be reconstructed."""
    beyond = [row for row in report.rows if (row.outside_share or 0.0) > 0.02]
    if beyond:
        worst = max(row.outside_share or 0.0 for row in beyond)
        report.warnings.append(
            f"the mask reaches outside the unit sphere in {len(beyond)} of {len(report.rows)} views (by up to "
            f"{worst:.0%} of its area); what lies there is cut off. `--normalise masks` makes the sphere larger"
        )


def _check_matches(report: SceneReport, num_looked_at: int) -> None:
    """Judge the cameras by the epipolar errors of the views that have enough matches."""
    judged = {row.name: row.epipolar_px for row in report.rows if row.epipolar_px is not None}
    if not judged:
        report.facts.append("too few features match between neighbouring views to judge the cameras by the pictures")
        return
    median = float(np.median(list(judged.values())))
    report.facts.append(f"epipolar error of feature matches: median {median:.2f} px at 400 px width")
    if len(judged) < 0.7 * num_looked_at:
        report.warnings.append(
            f"only {len(judged)} of {num_looked_at} views match their neighbours: the object has little texture, the "
            "views are far apart, or pictures and cameras are not in the same order"
        )
    wrong = [name for name, error in judged.items() if error > EPIPOLAR_ERROR_PX]
    doubtful = [name for name, error in judged.items() if EPIPOLAR_WARNING_PX < error <= EPIPOLAR_ERROR_PX]
    if len(wrong) > 0.2 * len(judged):
        report.errors.append(
            f"pictures and cameras do not fit together: features of {len(wrong)} of {len(judged)} views are more than "
            f"{EPIPOLAR_ERROR_PX:g} px away from where the cameras allow them (at 400 px width). Pictures and cameras "
            "are probably not in the same order, or the cameras belong to other pictures"
        )
    elif wrong:
        # One view alone may be misled by a pattern that repeats around the object; then its outline still fits.
        fits = {row.name for row in report.rows if row.hull_iou is not None and row.hull_iou >= IOU_WARNING}
        misled = len(wrong) == 1 and wrong[0] in fits
        (report.warnings if misled else report.errors).append(
            f"the camera is wrong (epipolar error above {EPIPOLAR_ERROR_PX:g} px) in {len(wrong)} of {len(judged)} "
            f"views: {listed(wrong)}" + (", or a pattern that repeats misleads the matches" if misled else "")
        )
    if doubtful:
        report.warnings.append(
            f"the camera is inexact (epipolar error of 1 to 5 px) in {len(doubtful)} of {len(judged)} views: "
            f"{listed(doubtful)}"
        )
