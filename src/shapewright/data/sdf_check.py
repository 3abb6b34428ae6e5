"""A check of signed distance samples before training: what is wrong with a folder, in words."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from shapewright.data.capture import listed
from shapewright.data.check_report import CheckReport
from shapewright.data.sdf_samples import (
    NEORENDER_SAMPLES,
    NORMALISATIONS,
    SAMPLES,
    SdfFolder,
    SdfSamples,
    ShapeKey,
    read_samples,
    read_split,
)
from shapewright.data.shapenet import class_title
from shapewright.errors import UserError

# A normalised shape reaches a radius of 1 / 1.03; extraction looks for it in the box [-1, 1]^3.
SMALLEST_RADIUS, LARGEST_RADIUS = 0.9, 1.05
SLACK = 1e-3


def is_sdf_folder(path: Path) -> bool:
    """Tell if a folder holds signed distance samples, rather than pictures."""
    named = path.name in (SAMPLES, NEORENDER_SAMPLES) and path.is_dir()
    return named or any((path / name).is_dir() for name in (SAMPLES, NEORENDER_SAMPLES, f"data/{NEORENDER_SAMPLES}"))


def check_sdf_folder(path: Path, split: Path | None = None, samples_per_shape: int = 1024) -> CheckReport:
    """Return everything that is wrong with a folder of samples.

    Args:
        path: The folder.
        split: Look at the shapes that this file names only, and that all of them are there.
        samples_per_shape: What training draws from a shape in a step, half of it from either side.

    Raises:
        UserError: if the folder holds no samples, or the split or the manifest is damaged.
    """
    folder = SdfFolder(path)
    report = CheckReport(path)
    keys = folder.keys()
    if split is not None:
        named = read_split(split)
        report.errors.update(_absent(split, [key for key in named if key not in folder.files]))
        report.facts.append(f"{split} names {len(named)} of {len(keys)} shapes")
        keys = [key for key in named if key in folder.files]
    if not keys:
        report.errors["there is no shape"].append(str(path))
    _check_manifest(folder, keys, report)
    counts, by_content = [], defaultdict(list)
    for key in keys:
        samples = _read(folder, key, report)
        if samples is None:
            continue
        counts.append((len(samples.positive), len(samples.negative)))
        by_content[_fingerprint(samples)].append(str(key))
        _check_shape(folder, key, samples, samples_per_shape, report)
    for names in by_content.values():
        if len(names) > 1:
            report.warnings["shapes have the same samples"].append(" = ".join(names))
    report.facts[:0] = _facts(path, keys, counts)
    return report


def _facts(path: Path, keys: list[ShapeKey], counts: list[tuple[int, int]]) -> list[str]:
    """Describe the folder."""
    classes = Counter(f"{key.dataset}/{class_title(key.shape_class)}" for key in keys)
    facts = [f"{path}: {len(keys)} shapes; " + listed([f"{count} of {name}" for name, count in classes.items()])]
    for side, name in enumerate(("outside", "inside")):
        numbers = sorted(count[side] for count in counts)
        if numbers:
            middle = numbers[len(numbers) // 2]
            facts.append(f"samples {name}: {numbers[0]} to {numbers[-1]} a shape, median {middle}")
    return facts


def _absent(split: Path, missing: list[ShapeKey]) -> dict[str, list[str]]:
    return {f"{split} names shapes without samples": [str(key) for key in missing]} if missing else {}


def _check_manifest(folder: SdfFolder, keys: list[ShapeKey], report: CheckReport) -> None:
    """Report what the sampling said about the shapes."""
    names = {str(key) for key in keys}
    for name, entry in folder.manifest.items():
        reasons = "; ".join(entry.get("reasons", []))
        if entry["state"] == "failed":
            report.warnings["meshes could not be sampled"].append(f"{name} ({reasons})")
        elif entry["state"] == "flagged" and name in names:
            report.warnings["shapes are flagged"].append(f"{name} ({reasons})")
        elif entry["state"] == "ok" and ShapeKey.parse(name) not in folder.files:
            report.errors["samples are gone that the manifest lists"].append(name)
    foreign = len([name for name in names if name not in folder.manifest])
    if folder.manifest and foreign:
        report.facts.append(f"{foreign} shapes are not in the manifest: another program sampled them")


def _read(folder: SdfFolder, key: ShapeKey, report: CheckReport) -> SdfSamples | None:
    """Return the samples of a shape that are finite; report what cannot be read."""
    try:
        samples = read_samples(folder.file(key))
    except UserError as problem:
        report.errors["samples cannot be read"].append(f"{key} ({problem.message})")
        return None
    finite = samples.finite()
    if finite.count < samples.count:
        share = f"{key} ({samples.count - finite.count} of {samples.count})"
        report.warnings["samples are not finite; they are left out"].append(share)
    return finite


def _check_shape(
    folder: SdfFolder, key: ShapeKey, samples: SdfSamples, samples_per_shape: int, report: CheckReport
) -> None:
    """Look at the numbers of one shape."""
    entry = folder.manifest.get(str(key), {})
    if entry.get("options", {}).get("sign") != "unsigned":
        _check_sides(key, samples, samples_per_shape, report)
    if not key.file(folder.root, NORMALISATIONS, ".npz").exists():
        report.warnings["shapes have no normalisation: results stay in normalised units"].append(str(key))
    if not samples.count:
        return
    rows = samples.rows()
    norms, distances = np.linalg.norm(rows[:, :3], axis=1), np.abs(rows[:, 3])
    # The surface is at most |sdf| away from a sample: this bound of its radius is tight with many samples.
    radius = float((norms - distances).max())
    if radius > LARGEST_RADIUS:
        report.errors["shapes leave the unit sphere: they are not normalised"].append(f"{key} (radius {radius:.3g})")
    elif radius < SMALLEST_RADIUS:
        report.warnings["shapes do not fill the unit sphere: they are not normalised"].append(
            f"{key} (radius {radius:.3g})"
        )
    elif (distances > norms + LARGEST_RADIUS + SLACK).any():
        report.errors["distances are longer than the way to the shape: their scale is wrong"].append(str(key))


def _check_sides(key: ShapeKey, samples: SdfSamples, samples_per_shape: int, report: CheckReport) -> None:
    """Look at the signs and at the number of samples of each."""
    if (samples.positive[:, 3] < 0).any() or (samples.negative[:, 3] > 0).any():
        report.errors["samples have the sign of the other side"].append(str(key))
    for name, rows in (("inside", samples.negative), ("outside", samples.positive)):
        if not len(rows):
            report.errors[f"shapes have no sample {name}"].append(str(key))
        elif len(rows) < samples_per_shape / 2:
            report.warnings[f"shapes have fewer than {samples_per_shape // 2} samples {name}"].append(
                f"{key} ({len(rows)})"
            )


def _fingerprint(samples: SdfSamples) -> bytes:
    digest = hashlib.sha256(samples.positive.tobytes())
    digest.update(samples.negative.tobytes())
    return digest.digest()
