"""Conversion of downloaded data sets of pictures into the plain folder that training maps into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from shapewright.data.kato_renders import MANIFEST, SPLITS, Split, kato_classes, read_kato_class
from shapewright.data.lsm import SPLIT_FILE, LsmAxes, lsm_classes, read_lsm_class
from shapewright.data.pascal3d import pascal_classes, pascal_table, read_pascal_class
from shapewright.data.picture_folders import chosen_classes, resized
from shapewright.data.prepared_pictures import Allocate, ClassArrays, PreparedWriter
from shapewright.data.view_prior_pack import read_vpl_class, vpl_classes
from shapewright.errors import UserError
from shapewright.geometry.solid_voxels import KATO32, PASCAL32, VPL32
from shapewright.io.files import read_json

logger = logging.getLogger(__name__)

SourceFormat = Literal["kato", "lsm", "vpl", "pascal3d"]
# What the published runs learn from; kato is stored as it is.
USUAL_SIZES = {"lsm": 64, "vpl": 224, "pascal3d": 224}

CLASSES: dict[str, Callable[[Path, Split], list[str]]] = {
    "kato": kato_classes,
    "lsm": lsm_classes,
    "vpl": vpl_classes,
    "pascal3d": pascal_classes,
}
EXPECTED = {
    "kato": "{class}_{set}_images.npz",
    "lsm": f"{SPLIT_FILE} and renders/{{class}}/{{id}}",
    "vpl": "{class}_{set}.pkl",
    "pascal3d": "{class}_{set}.npz",
}
# Which rule made the voxels: scores of predictions depend on it.
VOXEL_RULES = {"kato": KATO32.name, "lsm": KATO32.name, "vpl": VPL32.name, "pascal3d": PASCAL32.name}


@dataclass(frozen=True, kw_only=True)
class PrepareJob:
    """Say what to convert.

    Args:
        source: Folder of the download.
        out: Folder to write; it appears when it is complete.
        source_format: Of the download.
        size: Pixels along each side; none: as they are for kato, 64 for lsm, 224 for vpl and pascal3d.
        classes: Which ones; none: all.
        lsm_axes: How LSM's voxels are read: x, y, z of the world, or mirrored as the original method has them.
    """

    source: Path
    out: Path
    source_format: SourceFormat
    size: int | None = None
    classes: tuple[str, ...] = ()
    lsm_axes: LsmAxes = "x y z"


def prepare_pictures(job: PrepareJob) -> dict[str, dict[str, list[str]]]:
    """Convert a download, and return the names of its objects by class and set.

    Raises:
        UserError: if the source is not of the format or damaged, ``out`` is there already, or the disk is full.
    """
    batches = _batches(job)
    writer = PreparedWriter(job.out, _facts(job))
    try:
        for name, split in batches:
            logger.info("%s %s", name, split)
            writer.add(name, split, _reader(job, name, split))
        writer.finish()
    finally:
        writer.discard()
    return writer.objects


def _batches(job: PrepareJob) -> list[tuple[str, Split]]:
    """Return the classes and sets to convert; Pascal3D+ has one set for validation and test."""
    if not job.source.is_dir():
        raise UserError(f"The folder {job.source} does not exist.", "Check the path of the download.")
    splits = SPLITS[:2] if job.source_format == "pascal3d" else SPLITS
    there = {split: CLASSES[job.source_format](job.source, split) for split in splits}
    every = sorted({name for names in there.values() for name in names})
    if not every:
        raise UserError(
            f"{job.source} holds nothing of the format {job.source_format}: there is no {EXPECTED[job.source_format]}.",
            "Check the folder, and --format.",
        )
    names = chosen_classes(job.source, "train", every, job.classes)
    return [(name, split) for name in names for split in splits if name in there[split]]


def _facts(job: PrepareJob) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "protocol": job.source_format,
        "size": job.size or USUAL_SIZES.get(job.source_format),
        "voxel_rule": VOXEL_RULES[job.source_format],
    }
    rendered = read_json(job.source / MANIFEST) if (job.source / MANIFEST).is_file() else {}
    if "clusters" in rendered:
        facts["clusters"] = rendered["clusters"]
    if job.source_format == "lsm":
        facts["lsm_axes"] = job.lsm_axes
    if job.source_format == "pascal3d":
        facts["same_as"] = {"test": "val"}
    return facts


def _reader(job: PrepareJob, name: str, split: Split) -> Callable[[Allocate], ClassArrays]:
    """Return how one class of one set is read."""
    if job.source_format == "kato":
        return lambda _: _read_kato(job, name, split)
    size = job.size or USUAL_SIZES[job.source_format]
    if job.source_format == "lsm":
        return partial(read_lsm_class, job.source, name, split, size, job.lsm_axes)
    if job.source_format == "vpl":
        return partial(read_vpl_class, job.source, name, split, size)
    return lambda _: read_pascal_class(job.source, name, split, size, pascal_table(job.source, name))


def _read_kato(job: PrepareJob, name: str, split: Split) -> ClassArrays:
    pictures = read_kato_class(job.source, name, split)
    return ClassArrays.of_set(pictures if job.size is None else resized(pictures, job.size))
