"""The plain folder of pictures that `data prepare` writes: ``dataset.json``, and arrays that are mapped, not loaded.

For each class and set there are ``{class}_{set}_images.npy``, ``_cameras.npy``, ``_voxels.npy`` in world axes, and
where the data set has them ``_pose_bins.npy``, ``_angles.npy``, ``_points.npy``, ``_targets.npy`` and others.
"""

from __future__ import annotations

import glob
import math
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8

from shapewright.data.kato_renders import MANIFEST, SPLITS, Split, named_objects
from shapewright.data.picture_sets import PictureSet, PictureViews, mirrored_row
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import LSM_ELEVATIONS_DEG, BinTable, count_view_bins, renumbered, view_bins
from shapewright.geometry.solid_voxels import KATO32, VoxelRule, rule_named
from shapewright.io.files import file_sha256, read_json, write_error, write_json

SCHEMA, LAYOUT = 1, "arrays"
FRAME = "right-handed, y up; cameras x right, y down, z forward"
# What the arrays of a class may be called; the rest of a prepared class are extras.
KNOWN = ("images", "cameras", "angles", "pose_bins", "voxels", "points", "targets")
REQUIRED = ("images", "cameras")
LSM_TABLE = BinTable(elevations_deg=LSM_ELEVATIONS_DEG)

Allocate = Callable[[tuple[int, ...]], UInt8[np.ndarray, "..."]]


@dataclass(frozen=True)
class BinWidths:
    """Say how wide bins of poses are, where a data set has no views of its own.

    Args:
        azimuth_deg: Around.
        elevation_deg: Up.
    """

    azimuth_deg: float = 15.0
    elevation_deg: float = 20.0


@dataclass(frozen=True)
class ClassArrays:
    """Hold the pictures of one class in one set, before poses are binned.

    Args:
        images: RGB times mask, then the mask; or RGB alone, with ``targets``.
        cameras: ``world_from_camera``; one row: shared by all objects.
        half_angle_deg: Half the field of view; None: orthographic.
        ids: Names of the objects.
        angles_deg: Azimuth and elevation of each picture, to be binned when the folder is opened; or
        pose_bins: the bins, if the data set has them, and
        num_bins: how many there are.
        bin_table: What bins are numbered by.
        voxels: Indexed by x, y, z of the world.
        points: On the surface.
        targets: Masks to be learned where they are not those of ``images``.
        extras: Other arrays that belong to the class, by name.
    """

    images: UInt8[np.ndarray, "objects views channels size size"]
    cameras: Float[np.ndarray, "rows views 3 4"]
    half_angle_deg: float | None
    ids: tuple[str, ...]
    angles_deg: Float[np.ndarray, "objects views 2"] | None = None
    pose_bins: Int64[np.ndarray, "objects views"] | None = None
    num_bins: int = 0
    bin_table: BinTable = LSM_TABLE
    voxels: Bool[np.ndarray, "objects 32 32 32"] | None = None
    points: Float[np.ndarray, "objects n 3"] | None = None
    targets: UInt8[np.ndarray, "objects views height width"] | None = None
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)

    @staticmethod
    def of_set(pictures: PictureSet) -> ClassArrays:
        """Return the arrays of a set whose views are its bins."""
        return ClassArrays(
            np.asarray(pictures.images),
            pictures.views.world_from_camera.numpy(),
            pictures.views.half_angle_deg,
            pictures.ids,
            pose_bins=pictures.pose_bins.numpy(),
            num_bins=pictures.num_bins,
            voxels=pictures.voxels,
            points=pictures.points,
            targets=None if pictures.targets is None else np.asarray(pictures.targets),
        )

    def picture_set(self, name: str, widths: BinWidths, table: BinTable | None = None) -> PictureSet:
        """Return the pictures with the bins of their poses.

        Args:
            name: The category.
            widths: Of the bins, where the data set has no views of its own.
            table: What bins are numbered by, as a run had it in training; none: as the data set has it.

        Raises:
            ValueError: if there are neither angles nor bins.
        """
        views = PictureViews(torch.from_numpy(np.array(self.cameras, np.float32)), self.half_angle_deg)
        table = self.bin_table.as_in(table)
        if self.pose_bins is not None:
            bins, num_bins = torch.from_numpy(np.array(self.pose_bins, np.int64)), self.num_bins
            if table.euler_bins is not None:
                bins, num_bins = renumbered(bins, torch.tensor(table.euler_bins)), len(table.euler_bins)
            order = mirrored_row(views.world_from_camera[0]) if views.is_shared else None
            mirrored = None if order is None else bins[:, order]
        elif self.angles_deg is not None:
            azimuth, elevation = torch.from_numpy(np.array(self.angles_deg, np.float64)).unbind(-1)
            assert table.elevations_deg is not None
            size = (widths.azimuth_deg, widths.elevation_deg, table.elevations_deg)
            bins, num_bins = view_bins(azimuth, elevation, *size), math.prod(count_view_bins(*size))
            mirrored = view_bins(-azimuth, elevation, *size)
        else:
            raise ValueError("angles_deg or pose_bins must be given.")
        is_by_view = self.pose_bins is not None and table.euler_bins is None
        return PictureSet(
            self.images,
            views,
            bins,
            num_bins,
            self.ids,
            (name,) * len(self.ids),
            self.voxels,
            self.points,
            self.targets,
            mirrored_bins=mirrored,
            bin_table=None if is_by_view else table,
        )

    def named(self) -> dict[str, np.ndarray]:
        """Return all arrays but the images, by the names of their files."""
        known = (self.cameras, self.angles_deg, self.pose_bins, self.voxels, self.points, self.targets)
        pairs = zip(KNOWN[1:], known, strict=True)
        return {**{name: array for name, array in pairs if array is not None}, **self.extras}


def in_memory(shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Return zeros, for a reader that is to keep pictures in memory."""
    return np.zeros(shape, np.uint8)


class PreparedWriter:
    """Write a plain folder, class by class; it takes its name when it is complete.

    Args:
        out: Folder to write.
        facts: What ``dataset.json`` says besides: protocol, voxel rule and so on.

    Raises:
        UserError: if ``out`` is there already, or cannot be written.
    """

    def __init__(self, out: Path, facts: Mapping[str, Any]) -> None:
        if out.exists() and not (out.is_dir() and not any(out.iterdir())):
            raise UserError(f"{out} is there already.", "Choose another --out, or remove it first.")
        self.out, self.facts = out.absolute(), dict(facts)
        self.folder = self.out.with_name(f".{self.out.name}.{os.getpid()}.tmp")
        self.objects: dict[str, dict[str, list[str]]] = {}
        self._poses: dict[str, Any] = {}
        self._distances: list[float] = []
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise write_error(out, error) from error

    def add(self, name: str, split: Split, read: Callable[[Allocate], ClassArrays]) -> None:
        """Write one class of one set.

        Args:
            name: The class.
            split: The set.
            read: Return its arrays; large pictures go into what its argument allocates, which is on the disk.

        Raises:
            UserError: if the disk is full, or what ``read`` raises.
        """
        stem = f"{name}_{split}"
        path = self.folder / f"{stem}_images.npy"
        arrays = read(lambda shape: _reserve(path, shape))
        try:
            if not path.exists():
                np.save(path, arrays.images)
            for kind, array in arrays.named().items():
                np.save(self.folder / f"{stem}_{kind}.npy", array)
        except OSError as error:
            raise write_error(path, error) from error
        self.objects.setdefault(name, {})[split] = list(arrays.ids)
        self._note(name, arrays)

    def finish(self) -> None:
        """Write ``dataset.json`` and give the folder its name.

        Raises:
            UserError: if nothing was added, or the folder cannot be written.
        """
        if not self.objects:
            raise UserError("There is no class to write.", "Check the folder to prepare, and --classes.")
        files = sorted(path for path in self.folder.iterdir())
        write_json(
            self.folder / MANIFEST,
            {
                "schema": SCHEMA,
                "layout": LAYOUT,
                **self.facts,
                "frame": FRAME,
                "distances": self._distances,
                "voxel_axes": "X Y Z",
                "classes": list(self.objects),
                "objects": self.objects,
                "pose_bins": self._poses,
                "files": {path.name: file_sha256(path) for path in files},
            },
        )
        try:
            if self.out.exists():
                self.out.rmdir()
            self.folder.rename(self.out)
        except OSError as error:
            raise write_error(self.out, error) from error

    def discard(self) -> None:
        """Remove what was written, if the folder is not complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _note(self, name: str, arrays: ClassArrays) -> None:
        """Remember what ``dataset.json`` says about the poses of a class."""
        self.facts.setdefault("half_angle_deg", arrays.half_angle_deg)
        away = np.linalg.norm(arrays.cameras[..., 3], axis=-1)
        ends = [*self._distances, round(float(away.min()), 6), round(float(away.max()), 6)]
        self._distances = [min(ends), max(ends)]
        if arrays.pose_bins is not None:
            self._poses[name] = {"count": arrays.num_bins}
            if arrays.bin_table.euler_bins is not None:
                self._poses[name]["euler_bins"] = list(arrays.bin_table.euler_bins)
        else:
            assert arrays.bin_table.elevations_deg is not None
            self._poses[name] = {"elevations_deg": list(arrays.bin_table.elevations_deg)}


def is_prepared(folder: Path) -> bool:
    """Tell if `data prepare` wrote a folder."""
    manifest = folder / MANIFEST
    return manifest.is_file() and read_json(manifest).get("layout") == LAYOUT


def prepared_classes(folder: Path, split: Split) -> list[str]:
    """Return the classes of a split, sorted; empty if the folder has another format."""
    if not is_prepared(folder):
        return []
    manifest = read_json(folder / MANIFEST)
    source = stored_split(manifest, split)
    return sorted(name for name, sets in named_objects(folder).items() if sets.get(source))


def prepared_voxel_rule(folder: Path) -> VoxelRule:
    """Return the rule by which the voxels of a folder were made.

    Raises:
        UserError: if ``dataset.json`` names another than the published ones.
    """
    name = str(read_json(folder / MANIFEST).get("voxel_rule", KATO32.name))
    try:
        return rule_named(name)
    except ValueError as error:
        raise UserError(f"{folder / MANIFEST}: {error}", "Prepare the folder again.") from error


def stored_split(manifest: Mapping[str, Any], split: Split) -> Split:
    """Return the set in which a split lies: Pascal3D+ has one set for validation and test."""
    named = manifest.get("same_as", {}).get(split, split)
    return next((known for known in SPLITS if known == named), split)


def read_prepared_class(folder: Path, name: str, split: Split) -> ClassArrays:
    """Return the arrays of one class, mapped from their files.

    Raises:
        UserError: if a file is missing, damaged or does not fit the others.
    """
    manifest = read_json(folder / MANIFEST)
    source = stored_split(manifest, split)
    ids = tuple(named_objects(folder).get(name, {}).get(source, ()))
    if not ids:
        raise UserError(f"{folder / MANIFEST} names no object of {name} in {split}.", "Check the class and the set.")
    stem = f"{name}_{source}_"
    paths = {path.stem.removeprefix(stem): path for path in sorted(folder.glob(f"{glob.escape(stem)}*.npy"))}
    for kind in REQUIRED:
        if kind not in paths:
            raise UserError(f"{folder / f'{stem}{kind}.npy'} is missing.", "Prepare the folder again.")
    arrays = {kind: mapped(path) for kind, path in paths.items()}
    _check_arrays(folder / stem, arrays, len(ids))
    poses = manifest.get("pose_bins", {}).get(name, {})
    half_angle_deg = manifest.get("half_angle_deg")
    if half_angle_deg is not None:
        check_half_angle(folder / MANIFEST, half_angle_deg)
    _check_poses(folder / stem, arrays, poses)
    return ClassArrays(
        arrays["images"],
        arrays["cameras"],
        half_angle_deg,
        ids,
        arrays.get("angles"),
        arrays.get("pose_bins"),
        int(poses.get("count", 0)),
        _bin_table(poses),
        arrays.get("voxels"),
        arrays.get("points"),
        arrays.get("targets"),
        {kind: array for kind, array in arrays.items() if kind not in KNOWN},
    )


def check_half_angle(path: Path, value: Any) -> None:
    """Raise unless a value of a file can be half a field of view, in degrees."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 90:
        raise UserError(f"{path} has half_angle_deg {value!r}: it must lie between 0 and 90.", "Correct it.")


def _check_poses(stem: Path, arrays: Mapping[str, np.ndarray], poses: Mapping[str, Any]) -> None:
    """Raise unless cameras and angles are numbers, and bins are among those that ``dataset.json`` counts.

    Bins of a table are numbered by it later.
    """
    for kind in ("cameras", "angles"):
        if kind in arrays and not np.isfinite(arrays[kind]).all():
            raise UserError(f"{stem}{kind}.npy holds values that are not finite.", "Prepare the folder again.")
    bins, num_bins = arrays.get("pose_bins"), int(poses.get("count", 0))
    if bins is not None and "euler_bins" not in poses and not ((bins >= 0) & (bins < num_bins)).all():
        raise UserError(
            f"{stem}pose_bins.npy holds bins from {bins.min()} to {bins.max()}, but {MANIFEST} counts {num_bins}.",
            "Prepare the folder again.",
        )


def _bin_table(poses: Mapping[str, Any]) -> BinTable:
    """Return what ``dataset.json`` says of the poses of a class."""
    if "euler_bins" in poses:
        return BinTable(euler_bins=tuple(poses["euler_bins"]))
    return BinTable(elevations_deg=tuple(poses.get("elevations_deg", LSM_ELEVATIONS_DEG)))


def mapped(path: Path) -> np.ndarray:
    """Return an array that is read from its file piece by piece, as it is needed.

    Raises:
        UserError: if the file is missing, damaged or holds objects.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError, EOFError) as problem:
        raise UserError(f"{path} cannot be read: {problem}.", "Prepare the folder again.") from None


def changed_files(folder: Path, names: Iterable[str] | None = None) -> list[str]:
    """Return the files that are not as ``dataset.json`` says, or are gone.

    Args:
        folder: Of pictures, with ``dataset.json``.
        names: Which files; none: all that it lists.
    """
    listed = read_json(folder / MANIFEST).get("files", {})
    wanted = listed if names is None else [name for name in names if name in listed]
    return [name for name in wanted if not (folder / name).is_file() or file_sha256(folder / name) != listed[name]]


def _reserve(path: Path, shape: tuple[int, ...]) -> UInt8[np.ndarray, "..."]:
    """Return an array in a file, whose space on the disk is taken at once: a full disk is seen here, not later."""
    try:
        array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        with path.open("r+b") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        raise write_error(path, error) from error
    return array


def _check_arrays(stem: Path, arrays: Mapping[str, np.ndarray], count: int) -> None:
    """Raise unless all arrays have the sizes and types that belong together."""
    images, cameras = arrays["images"], arrays["cameras"]
    views = images.shape[1] if images.ndim == 5 else 0
    size = images.shape[-1] if images.ndim == 5 else 0
    wanted: dict[str, tuple[type, tuple[int | None, ...]]] = {
        "images": (np.uint8, (count, views, None, size, size)),
        "cameras": (np.floating, (None, views, 3, 4)),
        "angles": (np.floating, (count, views, 2)),
        "pose_bins": (np.int64, (count, views)),
        "voxels": (np.bool_, (count, 32, 32, 32)),
        "points": (np.floating, (count, None, 3)),
        "targets": (np.uint8, (count, views, None, None)),
    }
    for kind, (dtype, shape) in wanted.items():
        array = arrays.get(kind)
        if array is None:
            continue
        fits = array.ndim == len(shape) and all(
            want in (None, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if not fits or not np.issubdtype(array.dtype, dtype):
            raise UserError(
                f"{stem}{kind}.npy holds {array.dtype} {list(array.shape)}, which does not fit the {count} objects "
                f"that {MANIFEST} names.",
                "Prepare the folder again.",
            )
    if images.shape[2] != 4 and not ("targets" in arrays and images.shape[2] == 3):
        raise UserError(f"{stem}images.npy has {images.shape[2]} channels: the mask is missing.", "Prepare it again.")
    if len(cameras) not in (1, count):
        raise UserError(f"{stem}cameras.npy has {len(cameras)} rows for {count} objects.", "Prepare it again.")
    if "angles" not in arrays and "pose_bins" not in arrays:
        raise UserError(f"{stem}pose_bins.npy is missing, and {stem}angles.npy too.", "Prepare the folder again.")
