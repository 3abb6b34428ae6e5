"""Files of signed distance samples: DeepSDF's and NeoRender's layouts, splits, normalisations and the manifest.

DeepSDF (facebookresearch/DeepSDF, arXiv:1901.05103) keeps for each shape ``SdfSamples/<dataset>/<class>/<id>.npz`` with
``pos`` and ``neg`` [n, 4] = x, y, z, sdf, ``SurfaceSamples/.../<id>.ply`` in the units of the mesh file, and
``NormalizationParameters/.../<id>.npz``. NeoRender keeps ``SDFs/.../<id>/pos.npy`` and ``neg.npy``.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32

from shapewright.errors import UserError
from shapewright.geometry.sampling import Normalisation
from shapewright.io.arrays import read_npz, write_npz
from shapewright.io.files import atomic_write, read_json, write_json
from shapewright.io.point_clouds import read_point_cloud

SAMPLES, SURFACES, NORMALISATIONS = "SdfSamples", "SurfaceSamples", "NormalizationParameters"
MESHES, PREVIEWS = "Meshes", "Previews"
NEORENDER_SAMPLES = "SDFs"
MANIFEST, JOURNAL = "manifest.json", ".manifest.jsonl"
DATA_SOURCES = ".datasources.json"
SCHEMA = 1

Rows = Float32[np.ndarray, "rows 4"]


@dataclass(frozen=True, order=True)
class ShapeKey:
    """Name a shape: ``dataset/class/name``.

    Raises:
        ValueError: if a part is empty or would lead out of its folder.
    """

    dataset: str
    shape_class: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.dataset, self.shape_class, self.name):
            if not part or part in (".", "..") or "/" in part or "\\" in part or "\0" in part:
                raise ValueError(f"{part!r} cannot be a part of a shape's name.")

    def __str__(self) -> str:
        return f"{self.dataset}/{self.shape_class}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> ShapeKey:
        """Return the key that ``str`` wrote.

        Raises:
            ValueError: if there are not three parts.
        """
        parts = text.split("/")
        if len(parts) != 3:
            raise ValueError(f"{text!r} is no name of a shape: write dataset/class/name.")
        return cls(*parts)

    def file(self, root: Path, kind: str, suffix: str) -> Path:
        """Return where a file of this shape is kept, such as ``root/SdfSamples/dataset/class/name.npz``."""
        return root / kind / self.dataset / self.shape_class / f"{self.name}{suffix}"


@dataclass(frozen=True)
class SdfSamples:
    """Hold the samples of one shape; columns x, y, z, signed distance.

    Args:
        positive: Samples with a distance above 0.
        negative: The others.
    """

    positive: Rows
    negative: Rows

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            rows = getattr(self, name)
            if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype != np.float32:
                raise ValueError(f"{name} must be float32 [rows, 4], got {rows.dtype} {list(rows.shape)}.")

    @classmethod
    def from_rows(cls, rows: Rows) -> SdfSamples:
        """Split rows by their sign; a distance of 0 counts as negative and NaN as positive."""
        negative = rows[:, 3] <= 0
        return cls(rows[~negative], rows[negative])

    @property
    def count(self) -> int:
        """Return the number of samples."""
        return len(self.positive) + len(self.negative)

    def rows(self) -> Rows:
        """Return all samples, the positive ones first."""
        return np.concatenate([self.positive, self.negative])

    def finite(self) -> SdfSamples:
        """Return the samples without those that hold a NaN or an infinity."""
        return SdfSamples(self.positive[_is_finite(self.positive)], self.negative[_is_finite(self.negative)])


def read_samples(path: Path) -> SdfSamples:
    """Return the samples in a file or a folder, as they are.

    Args:
        path: An ``.npz`` with ``pos`` and ``neg``, an ``.npy`` with all rows, or NeoRender's folder of one shape with
            ``pos.npy`` and ``neg.npy``.

    Raises:
        UserError: if something is missing, damaged, or has other than four columns.
    """
    if path.is_dir():
        return _samples(path, *(_read_rows(path / f"{side}.npy") for side in ("pos", "neg")))
    if path.suffix == ".npy":
        return SdfSamples.from_rows(_samples(path, _read_rows(path), np.empty((0, 4), np.float32)).positive)
    arrays = read_npz(path)
    missing = [name for name in ("pos", "neg") if name not in arrays]
    if missing:
        raise UserError(
            f"{path} has no array {' and no '.join(missing)}, only {', '.join(arrays) or 'nothing'}.",
            "DeepSDF's sample files hold 'pos' and 'neg'; sample the mesh again with shapewright data sample-sdf.",
        )
    return _samples(path, arrays["pos"], arrays["neg"])


def write_samples(path: Path, samples: SdfSamples) -> None:
    """Write samples, each file whole or not at all: ``.npz``, ``.npy``, or a folder (no suffix) as NeoRender has.

    Equal samples give equal bytes.

    Raises:
        UserError: if a file cannot be written.
    """
    if path.suffix == ".npz":
        make_parent(path)
        write_npz(path, {"pos": samples.positive, "neg": samples.negative})
    elif path.suffix == ".npy":
        _write(path, _npy(samples.rows()))
    else:
        _write(path / "pos.npy", _npy(samples.positive))
        _write(path / "neg.npy", _npy(samples.negative))


def read_normalisation(path: Path) -> Normalisation:
    """Return what is in a file of ``NormalizationParameters``.

    Raises:
        UserError: if the file is missing, damaged, or not of this kind.
    """
    arrays = read_npz(path)
    try:
        offset, scale = arrays["offset"].astype(np.float64).reshape(3), float(arrays["scale"].reshape(()))
        if not (np.isfinite(offset).all() and np.isfinite(scale) and scale > 0):
            raise ValueError("a value is not finite or the scale not positive")
    except (KeyError, ValueError, TypeError) as problem:
        raise UserError(
            f"{path} does not hold a normalisation: {problem}.",
            "It needs the arrays 'offset' (three numbers) and 'scale' (one); sample the mesh again.",
        ) from None
    return Normalisation(torch.from_numpy(offset), scale)


def write_normalisation(path: Path, normalisation: Normalisation) -> None:
    """Write ``offset`` float32 [3] and ``scale`` float32 [1], as DeepSDF does.

    Raises:
        UserError: if the file cannot be written.
    """
    offset = normalisation.offset.numpy().astype(np.float32)
    make_parent(path)
    write_npz(path, {"offset": offset, "scale": np.array([normalisation.scale], dtype=np.float32)})


def read_split(path: Path) -> list[ShapeKey]:
    """Return the shapes that a split names, in its order: ``{dataset: {class: [name, ...]}}``.

    Raises:
        UserError: if the file is missing or damaged, or names a shape twice.
    """
    hint = 'A split is written {"dataset": {"class": ["name", ...]}}.'
    keys = []
    for dataset, classes in read_json(path).items():
        if not isinstance(classes, dict):
            raise UserError(f"{path}: the entry of {dataset!r} is not an object of classes.", hint)
        for shape_class, names in classes.items():
            if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
                raise UserError(f"{path}: the entry of {dataset}/{shape_class} is not a list of names.", hint)
            try:
                keys += [ShapeKey(dataset, shape_class, name) for name in names]
            except ValueError as problem:
                raise UserError(f"{path}: {problem}", hint) from None
    if not keys:
        raise UserError(f"{path} names no shape.", hint)
    if len(set(keys)) < len(keys):
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise UserError(f"{path} names {twice} twice.", "Remove one: each place in a split is one code.")
    return keys


def write_split(path: Path, keys: Iterable[ShapeKey]) -> None:
    """Write a split; the order within a class is kept, and classes follow each other as they first appear.

    Raises:
        UserError: if the file cannot be written.
    """
    split: dict[str, dict[str, list[str]]] = {}
    for key in keys:
        split.setdefault(key.dataset, {}).setdefault(key.shape_class, []).append(key.name)
    write_json(path, split)


@dataclass(frozen=True)
class SdfFolder:
    """Read a folder of samples, whichever program wrote it.

    Args:
        path: The folder that holds ``SdfSamples`` or ``SDFs``, or one of these itself.

    Raises:
        UserError: if there is no such folder.
    """

    path: Path
    root: Path = field(init=False)
    base: Path = field(init=False)

    def __post_init__(self) -> None:
        candidates = [self.path / SAMPLES, self.path / NEORENDER_SAMPLES, self.path / "data" / NEORENDER_SAMPLES]
        base = next((folder for folder in candidates if folder.is_dir()), None)
        if base is None and self.path.name in (SAMPLES, NEORENDER_SAMPLES) and self.path.is_dir():
            base = self.path
        if base is None:
            raise UserError(
                f"{self.path} holds no samples: there is no folder {SAMPLES} in it.",
                f"Make them: shapewright data sample-sdf MESHES --out {self.path}",
            )
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "root", base.parent)

    @cached_property
    def files(self) -> dict[ShapeKey, Path]:
        """Return the sample file, or NeoRender's folder, of each shape, sorted by name."""
        return dict(sorted((self._key(path), path) for path in self._sample_paths()))

    def keys(self) -> list[ShapeKey]:
        """Return the shapes that have samples, sorted."""
        return list(self.files)

    def samples(self, key: ShapeKey) -> SdfSamples:
        """Return the samples of a shape without those that are not finite.

        Raises:
            UserError: if there are none for this shape, or the file is damaged.
        """
        return read_samples(self.file(key)).finite()

    def file(self, key: ShapeKey) -> Path:
        """Return the file of a shape's samples.

        Raises:
            UserError: if there is none.
        """
        if key not in self.files:
            raise UserError(f"{self.path} has no samples of {key}.", f"It has {len(self.files)} shapes: {self._some()}")
        return self.files[key]

    def normalisation(self, key: ShapeKey) -> Normalisation | None:
        """Return what leads back to the units of the mesh file; None if it was not kept.

        Raises:
            UserError: if the file is damaged.
        """
        path = key.file(self.root, NORMALISATIONS, ".npz")
        return read_normalisation(path) if path.exists() else None

    def surface(self, key: ShapeKey) -> Float[np.ndarray, "points 3"] | None:
        """Return the surface samples of a shape in the units of its mesh file; None if there are none.

        Raises:
            UserError: if the file is damaged.
        """
        path = key.file(self.root, SURFACES, ".ply")
        return read_point_cloud(path).points.numpy().astype(np.float32) if path.exists() else None

    @cached_property
    def manifest(self) -> dict[str, dict[str, Any]]:
        """Return the entry of each shape by its name; shapes that other programs sampled have none."""
        return read_manifest(self.root)

    def select(self, split: Path) -> list[ShapeKey]:
        """Return the shapes that a split names, in its order.

        Raises:
            UserError: if one of them has no samples.
        """
        keys = read_split(split)
        missing = [str(key) for key in keys if key not in self.files]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise UserError(
                f"{split} names {len(missing)} of {len(keys)} shapes that {self.path} has no samples of: "
                f"{', '.join(missing[:3])}{more}.",
                "Sample them with shapewright data sample-sdf, or take them out of the split.",
            )
        return keys

    def _sample_paths(self) -> list[Path]:
        visible = (path for path in self.base.rglob("*.np[yz]") if not path.name.startswith("."))
        return list({path.parent if path.name in ("pos.npy", "neg.npy") else path for path in visible})

    def _key(self, path: Path) -> ShapeKey:
        """Return the name of a shape; absent levels get the folder's own name and the class ``all``."""
        name = path.name if path.is_dir() else path.stem
        above = list(path.parent.relative_to(self.base).parts)
        shape_class = above.pop() if above else "all"
        return ShapeKey(above.pop() if above else self.root.resolve().name, shape_class, name)

    def _some(self) -> str:
        names = [str(key) for key in self.files]
        return ", ".join(names[:3]) + (", ..." if len(names) > 3 else ".")


def read_manifest(root: Path) -> dict[str, dict[str, Any]]:
    """Return the entries of ``manifest.json`` and of the journal that an interrupted job left beside it.

    Raises:
        UserError: if the manifest is damaged or of a newer version.
    """
    entries: dict[str, dict[str, Any]] = {}
    if (root / MANIFEST).exists():
        document = read_json(root / MANIFEST)
        if document.get("schema") != SCHEMA or not isinstance(document.get("shapes"), dict):
            raise UserError(
                f"{root / MANIFEST} has schema {document.get('schema')!r}; this program reads {SCHEMA}.",
                "Update Shapewright, or sample the meshes again into another folder.",
            )
        entries.update(document["shapes"])
    if (root / JOURNAL).exists():
        for line in (root / JOURNAL).read_text(encoding="utf-8").splitlines():
            try:
                entries.update(json.loads(line))
            except ValueError:  # the last line may have been cut by a crash; its shape is sampled again
                continue
    return entries


def write_manifest(root: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Write all entries in one step, and drop the journal.

    Raises:
        UserError: if the file cannot be written.
    """
    write_json(root / MANIFEST, {"schema": SCHEMA, "shapes": dict(sorted(entries.items()))})
    (root / JOURNAL).unlink(missing_ok=True)


def _samples(path: Path, positive: np.ndarray, negative: np.ndarray) -> SdfSamples:
    for rows in (positive, negative):
        if rows.ndim != 2 or rows.shape[1] != 4 or rows.dtype.kind != "f":
            raise UserError(
                f"{path} holds an array of {rows.dtype} {list(rows.shape)} where [rows, 4] numbers are expected.",
                "Columns are x, y, z and the signed distance; sample the mesh again.",
            )
    return SdfSamples(positive.astype(np.float32, copy=False), negative.astype(np.float32, copy=False))


def _read_rows(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"The file {path} does not exist.", "Both pos.npy and neg.npy are needed.") from None
    except (OSError, ValueError, EOFError) as problem:
        raise UserError(f"{path} cannot be read as a NumPy array: {problem}.", "Sample the mesh again.") from None


def _is_finite(rows: Rows) -> Bool[np.ndarray, " rows"]:
    return np.isfinite(rows).all(axis=1)


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def make_parent(path: Path) -> None:
    """Make the folder of a file.

    Raises:
        UserError: if that is impossible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"Cannot make the folder {path.parent}: {error.strerror}.", "Choose another folder.") from None


def _write(path: Path, data: bytes) -> None:
    make_parent(path)
    atomic_write(path, data)
