"""The shapes of a run: which are learned, which are held out, their samples and their true surfaces."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from shapewright.data.sdf_samples import MESHES, SdfFolder, ShapeKey, read_split, write_split
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.sampling import Normalisation, normalisation
from shapewright.io.meshes import read_mesh
from shapewright.methods.deep_sdf.config import DataConfig
from shapewright.methods.deep_sdf.samples import SampleStore

TRAIN_SPLIT, TEST_SPLIT = "train_split.json", "test_split.json"
VARIANT_MARK = "~"
RAM_SHARE = 0.5


@dataclass(frozen=True)
class TrueShape:
    """Hold the surface of a shape in the unit sphere, and the way back to the units of its file."""

    mesh: Mesh
    to_unit: Normalisation


@dataclass(frozen=True)
class ShapeSet:
    """Hold the shapes of a run.

    Args:
        folder: Their samples.
        train: The learned shapes; the place in this list is the place of the code.
        test: The shapes held out.
    """

    folder: SdfFolder
    train: list[ShapeKey]
    test: list[ShapeKey]

    @staticmethod
    def choose(folder: SdfFolder, config: DataConfig, seed: int) -> ShapeSet:
        """Return the shapes that the settings name; without splits, ``test_share`` of all is drawn at random.

        A deformed variant always goes with the shape that it was made from.

        Raises:
            UserError: if a split names a shape without samples, both splits share one, or nothing is left to learn.
        """
        train = _split(folder, config.train_split)
        test = _split(folder, config.test_split) or []
        if train is None:
            rest = [key for key in folder.files if _original(key) not in {_original(held) for held in test}]
            drawn = set() if test else _drawn(rest, config.test_share, seed)
            train = [key for key in rest if _original(key) not in drawn]
            test = test or [key for key in rest if key in drawn]
        shared = set(train) & set(test)
        if shared:
            raise UserError(
                f"{len(shared)} shapes are in both splits, such as {min(shared)}.",
                "Take them out of one of the splits.",
            )
        if not train:
            raise UserError(f"No shape of {folder.path} is left to learn.", "Lower --data.test-share.")
        return ShapeSet(folder, train, test)

    @staticmethod
    def of_run(run: RunDir) -> ShapeSet:
        """Return the shapes of an existing run.

        Raises:
            UserError: if the samples are gone.
        """
        keys = [read_split(path) if path.exists() else [] for path in (run.path / TRAIN_SPLIT, run.path / TEST_SPLIT)]
        return ShapeSet(SdfFolder(Path(run.info["data"])), *keys)

    def write(self, run: RunDir) -> None:
        """Keep the splits in the run's folder."""
        write_split(run.path / TRAIN_SPLIT, self.train)
        if self.test:
            write_split(run.path / TEST_SPLIT, self.test)

    @cached_property
    def originals(self) -> list[int]:
        """Return the places of the training shapes that are no deformed variants."""
        return [place for place, key in enumerate(self.train) if _original(key) == key]

    def store(self, config: DataConfig, seed: int) -> SampleStore:
        """Return the samples of the training shapes.

        Raises:
            UserError: if a file is damaged, or a shape has no sample on one side: all such shapes are named.
        """
        mapped = config.cache == "mmap" or (config.cache == "auto" and not self._fits_in_memory())
        positive, negative, lacking = [], [], []
        for key in self.train:
            samples = self.folder.samples(key)
            if not len(samples.positive) or not len(samples.negative):
                lacking.append(f"{key} ({'inside' if len(samples.positive) else 'outside'})")
            positive.append(_mapped(samples.positive) if mapped else samples.positive)
            negative.append(_mapped(samples.negative) if mapped else samples.negative)
        if lacking:
            more = f" and {len(lacking) - 5} more" if len(lacking) > 5 else ""
            raise UserError(
                f"{len(lacking)} of {len(self.train)} shapes have no sample on one side: "
                f"{', '.join(lacking[:5])}{more}.",
                "They have no clear inside: sample with --skip-flagged, or leave them out of the training split.",
            )
        return SampleStore(positive, negative, seed)

    def _fits_in_memory(self) -> bool:
        import os

        total = sum(self.folder.file(key).stat().st_size for key in self.train if self.folder.file(key).is_file())
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1 << 33
        return total < RAM_SHARE * pages

    def truth(self, key: ShapeKey) -> TrueShape | None:
        """Return the surface of a shape from the mesh that was sampled; none if that mesh is gone.

        Raises:
            UserError: if the mesh can no longer be read.
        """
        path = key.file(self.folder.root, MESHES, ".ply")
        if not path.exists():
            source = self.folder.manifest.get(str(key), {}).get("source")
            if source is None or not Path(source).exists() or _original(key) != key:
                return None
            path = Path(source)
        mesh = read_mesh(path)
        to_unit = self.folder.normalisation(key) or normalisation(mesh)
        return TrueShape(to_unit.apply_to(mesh), to_unit)


def _split(folder: SdfFolder, name: str | None) -> list[ShapeKey] | None:
    """Return the shapes of a split file, looked for beside the samples and then as a path of its own."""
    if name is None:
        return None
    inside = folder.root / name
    return folder.select(inside if inside.exists() else Path(name))


def _original(key: ShapeKey) -> ShapeKey:
    return ShapeKey(key.dataset, key.shape_class, key.name.partition(VARIANT_MARK)[0] or key.name)


def _drawn(keys: Sequence[ShapeKey], share: float, seed: int) -> set[ShapeKey]:
    """Return a random share of the shapes, variants left out."""
    originals = sorted({_original(key) for key in keys})
    return set(random.Random(seed).sample(originals, round(share * len(originals))))


def _mapped(rows: np.ndarray) -> np.ndarray:
    """Return rows that live in an unlinked file of the system's temporary folder instead of memory."""
    import tempfile

    if not len(rows):
        return rows
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, dtype=rows.dtype, mode="w+", shape=rows.shape)
        mapped[:] = rows
        return mapped
