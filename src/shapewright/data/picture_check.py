"""A check of pictures for single-view methods before training: what is wrong with a folder, in words."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from shapewright.data.capture import listed
from shapewright.data.check_report import CheckReport
from shapewright.data.hull_axes import LEAST_DIFFERENCE, VARIANTS, AxesScores, score_axes
from shapewright.data.kato_renders import MANIFEST, SPLITS, Split, kato_file, read_optional
from shapewright.data.picture_folders import FORMATS, PictureFormat, PictureOptions, empty_masks, picture_format
from shapewright.data.picture_scaling import OBJECTS_AT_ONCE
from shapewright.data.picture_sets import PictureSet
from shapewright.data.prepared_pictures import changed_files, stored_split
from shapewright.data.shapenet import class_title
from shapewright.errors import UserError
from shapewright.io.files import read_json

# Colours may exceed their mask by what rounding adds, twice.
SLACK = 2
# Hulls that agree this badly with the voxels come from other cameras, or other objects.
LEAST_HULL_IOU = 0.2


@dataclass
class PictureReport(CheckReport):
    """Collect what a check of pictures found.

    Args:
        axes: How well the voxels agree with the hulls of the masks, by class.
    """

    axes: dict[str, AxesScores] = field(default_factory=dict)

    def table(self) -> list[str]:
        """Return the agreement of hulls and voxels, one line a class."""
        if not self.axes:
            return []
        width = max(len("hull IoU"), *(len(class_title(name)) for name in self.axes))
        head = "  ".join(f"{name:>10}" for name in ("objects", *VARIANTS))
        lines = [f"{'hull IoU':<{width}}  {head}  axes"]
        for name, scores in self.axes.items():
            cells = [f"{len(scores.iou):>10}", *(f"{mean:>10.3f}" for mean in scores.iou.mean(0))]
            lines.append(f"{class_title(name):<{width}}  {'  '.join(cells)}  {scores.verdict()}")
        return lines


def is_picture_folder(path: Path) -> bool:
    """Tell if a folder holds pictures of many objects, in a format that can be trained on."""
    return path.is_dir() and picture_format(path) is not None


def check_picture_folder(path: Path, options: PictureOptions | None = None) -> PictureReport:
    """Return everything that is wrong with a folder of pictures.

    Args:
        path: The folder.
        options: How pictures are read; all classes and views are looked at, whatever it says of them.

    Raises:
        UserError: if the folder is of no known format.
    """
    form = picture_format(path)
    if form is None:
        raise UserError(
            f"{path} holds no pictures in a format that can be trained on.",
            f"Known formats: {', '.join(known.name for known in FORMATS)}.",
        )
    report = PictureReport(path)
    options = options or PictureOptions()
    ids: dict[str, list[tuple[Split, str]]] = defaultdict(list)
    contents: dict[bytes, list[tuple[Split, str]]] = defaultdict(list)
    facts = read_json(path / MANIFEST) if (path / MANIFEST).exists() else {}
    kinds = dict.fromkeys((str(facts.get("protocol", form.name)), form.name))
    report.facts.append(f"{path}: {', '.join(kinds)}; {_counts(form, path)}")
    if not form.classes(path, "train"):
        report.errors["there is no set to train on"].append("render or copy the set train too")
    for split in _own_splits(facts):
        for name in form.classes(path, split):
            try:
                pictures = form.read(path, name, split, options, None)
            except UserError as problem:
                report.errors["files cannot be read"].append(problem.message)
                continue
            _check_class(name, split, pictures, report)
            if form.name == "kato":
                _check_mask_file(path, name, split, pictures, report)
            _check_voxels(name, split, pictures, report)
            for number, object_id in enumerate(pictures.ids):
                ids[f"{name}/{object_id}"].append((split, object_id))
                contents[_fingerprint(pictures, number)].append((split, f"{name}/{object_id}"))
    _check_disjoint(ids, contents, report)
    _check_clusters(facts.get("clusters", {}), ids, report)
    _check_axes(report)
    _check_manifest(path, facts, report)
    return report


def _counts(form: PictureFormat, path: Path) -> str:
    """Say which classes and sets there are."""
    names = {split: form.classes(path, split) for split in SPLITS}
    titles = {split: listed([class_title(name) for name in found], 20) for split, found in names.items()}
    return "; ".join(f"{split}: {text or 'none'}" for split, text in titles.items())


def _own_splits(facts: dict[str, object]) -> list[Split]:
    """Return the sets that are not another one under a second name."""
    return [split for split in SPLITS if stored_split(facts, split) == split]


def _check_class(name: str, split: Split, pictures: PictureSet, report: PictureReport) -> None:
    """Look at the pictures and masks of one class in one set."""
    label = f"{name} {split}"
    seen = Counter(pictures.pose_bins.flatten().tolist())
    share, touching, bright, do_differ = _mask_facts(pictures)
    report.facts.append(
        f"{label}: {len(pictures)} objects, {pictures.num_views} views of {pictures.size} px, "
        f"{len(seen)} of {pictures.num_bins} bins of poses; masks cover {share.min():.1%} to {share.max():.1%} "
        f"(median {np.median(share):.1%})"
    )
    empty = empty_masks(pictures)
    if empty:
        report.errors["masks are empty: make these pictures anew; training skips them"] += [
            f"{label} {pictures.ids[number]} view {view}" for number, view in empty
        ]
    if len(empty) == share.size:
        report.errors["all masks are empty"].append(label)
    if touching:
        report.warnings["masks touch the border of their pictures: objects are cut off"].append(
            f"{label} ({touching} of {share.size})"
        )
    if bright:
        report.warnings["colours exceed their mask: the background is not black"].append(
            f"{label} ({bright} of {share.size} pictures)"
        )
    if not do_differ:
        report.errors["masks are the same in all pictures"].append(label)
    if len(seen) == 1 and split == "train":
        report.warnings["all poses are in one bin: there is nothing to confuse"].append(label)
    if not bool(pictures.views.world_from_camera.isfinite().all()):
        report.errors["cameras are not finite"].append(label)


def _mask_facts(pictures: PictureSet) -> tuple[np.ndarray, int, int, bool]:
    """Return shares of masks, how many touch the border, how many pictures exceed them, and if masks differ at all."""
    shares, touching, bright, first, differ = [], 0, 0, None, False
    for start in range(0, len(pictures), OBJECTS_AT_ONCE):
        some = slice(start, start + OBJECTS_AT_ONCE)
        images = np.asarray(pictures.images[some])
        masks = pictures.learned_masks(some)
        shares.append(masks.mean(axis=(2, 3)) / 255)
        rims = (masks[:, :, 0], masks[:, :, -1], masks[:, :, :, 0], masks[:, :, :, -1])
        touching += int((np.maximum.reduce([rim.max(axis=2) for rim in rims]) > 127).sum())
        if images.shape[2] == 4:
            excess = images[:, :, :3].max(axis=2).astype(np.int16) - images[:, :, 3]
            bright += int((excess > SLACK).any(axis=(2, 3)).sum())
        first = masks[0, 0] if first is None else first
        differ = differ or bool((masks != first).any()) or len(pictures) * pictures.num_views == 1
    return np.concatenate(shares), touching, bright, differ


def _check_mask_file(path: Path, name: str, split: Split, pictures: PictureSet, report: PictureReport) -> None:
    """Compare the masks that Kato's data sets may have as a file of their own."""
    file = kato_file(path, name, split, "masks")
    try:
        masks = read_optional(file, len(pictures))
    except UserError as problem:
        report.errors["files cannot be read"].append(problem.message)
        return
    if masks is None or pictures.size != masks.shape[-1]:
        return
    if masks.shape != pictures.images[:, :, 3].shape or (masks != pictures.images[:, :, 3]).any():
        report.warnings["masks differ from those in the pictures, which are used"].append(file.name)


def _check_voxels(name: str, split: Split, pictures: PictureSet, report: PictureReport) -> None:
    """Look at the voxels of one class in one set, and compare them with the masks."""
    label = f"{name} {split}"
    if pictures.voxels is None:
        report.warnings["there are no voxels: shapes cannot be judged"].append(label)
        return
    if len(pictures.voxels) != len(pictures):
        report.errors["voxels and pictures differ in number"].append(label)
        return
    counts = np.asarray(pictures.voxels).sum(axis=(1, 2, 3))
    for sentence, found, where in (
        ("voxels are empty", counts == 0, report.errors),
        ("voxels fill the whole grid", counts == 32**3, report.warnings),
    ):
        names = [f"{label} {pictures.ids[number]}" for number in np.flatnonzero(found)]
        if names:
            where[sentence] += names
    report.facts.append(f"{label}: {counts.min()} to {counts.max()} of {32**3} cells ({pictures.voxel_rule.name})")
    if pictures.num_views > 1:
        scores = score_axes(pictures, pictures.voxel_rule)
        report.axes[name] = report.axes[name].joined(scores) if name in report.axes else scores


def _fingerprint(pictures: PictureSet, number: int) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pictures.images[number]).tobytes()).digest()


def _check_disjoint(
    ids: dict[str, list[tuple[Split, str]]], contents: dict[bytes, list[tuple[Split, str]]], report: PictureReport
) -> None:
    """Report objects that are in two sets, by their names or by their pictures."""
    for name, places in ids.items():
        splits = sorted({split for split, _ in places})
        if len(splits) > 1:
            report.errors["objects are in several sets"].append(f"{name} ({', '.join(splits)})")
        elif len(places) > 1:
            report.errors["objects are named twice"].append(name)
    for places in contents.values():
        named = sorted({word for _, word in places})
        if len(named) < 2:
            continue
        both = " = ".join(f"{word} ({split})" for split, word in places)
        across = len({split for split, _ in places}) > 1
        (report.errors if across else report.warnings)[
            "objects of different sets have the same pictures" if across else "objects have the same pictures"
        ].append(both)


def _check_clusters(clusters: dict[str, str], ids: dict[str, list[tuple[Split, str]]], report: PictureReport) -> None:
    """Report near copies, which ``dataset.json`` may name, that are in different sets."""
    splits: dict[str, set[str]] = defaultdict(set)
    for name, cluster in clusters.items():
        splits[str(cluster)] |= {split for split, _ in ids.get(name, [])}
    apart = [f"{cluster} ({', '.join(sorted(found))})" for cluster, found in splits.items() if len(found) > 1]
    if apart:
        report.errors["near copies are in several sets"] += apart


def _check_axes(report: PictureReport) -> None:
    """Judge whether voxels, masks and cameras belong together."""
    for name, scores in report.axes.items():
        better = scores.better_than_declared()
        if better:
            report.errors[
                f"voxels do not lie as they should: on the objects that tell (by more than {LEAST_DIFFERENCE:g}), the "
                "hulls of the masks agree better with"
            ].append(f"{', '.join(better)} ({name}; for LSM's files see `data prepare --lsm-axes`)")
        elif scores.iou[:, 0].mean() < LEAST_HULL_IOU:
            report.errors[
                "the hulls of the masks do not agree with the voxels: pictures and voxels are not in the same order, "
                "or the cameras are wrong"
            ].append(f"{name} (IoU {scores.iou[:, 0].mean():.2f})")


def _check_manifest(path: Path, facts: dict[str, object], report: PictureReport) -> None:
    """Compare the files with what ``dataset.json`` says."""
    if not facts:
        report.facts.append(f"there is no {MANIFEST}: objects have no names, and files are not compared with it")
        return
    changed = changed_files(path)
    if changed:
        report.errors[f"files are not as {MANIFEST} says: damaged, or changed since"] += changed
