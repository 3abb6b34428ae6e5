"""The files of rendered data sets: Kato's archives, LSM's folders, and a plain layout for free views."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from numpy.lib import format as npy_format
from scipy.io import savemat

from shapewright.data.render_object import RenderedObject, RenderProtocol
from shapewright.data.shapenet import class_title
from shapewright.geometry.cameras import intrinsic_matrices
from shapewright.geometry.solid_voxels import stored_axes
from shapewright.io.files import write_json
from shapewright.io.images import encode_image

# LSM's depth pictures: their largest value is this far away.
LSM_FAR = 10.0
MAT_HEADER = b"MATLAB 5.0 MAT-file"
MAT_HEADER_BYTES = 116


class ArraySpool:
    """Collect rows on disk, and write them as one array of an ``.npz`` archive, with little memory."""

    def __init__(self, path: Path, dtype: type, shape: Sequence[int]) -> None:
        """Prepare for rows of a shape; ``path`` is the archive, written by ``close``."""
        self.path, self.dtype, self.shape, self.rows = path, np.dtype(dtype), tuple(shape), 0
        self._raw = path.with_suffix(".raw")
        self._file = self._raw.open("wb")

    def add(self, row: Shaped[np.ndarray, "*shape"]) -> None:
        """Append one row."""
        if row.shape != self.shape:
            raise ValueError(f"row must be {list(self.shape)}, got {list(row.shape)}.")
        self._file.write(np.ascontiguousarray(row, dtype=self.dtype).tobytes())
        self.rows += 1

    def close(self) -> None:
        """Write the archive; equal rows give equal bytes."""
        self._file.close()
        header = {
            "descr": npy_format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.rows, *self.shape),
        }
        with (
            zipfile.ZipFile(self.path, "w", allowZip64=True) as archive,
            # A ZipInfo made by hand has no time of day.
            archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as member,
            self._raw.open("rb") as raw,
        ):
            npy_format.write_array_header_1_0(member, header)
            shutil.copyfileobj(raw, member, 1 << 20)
        self._raw.unlink()


class RenderWriter(ABC):
    """Write the objects of a data set, set by set.

    Args:
        folder: Where to; it exists.
        protocol: How objects are seen.
    """

    def __init__(self, folder: Path, protocol: RenderProtocol) -> None:
        self.folder, self.protocol = folder, protocol
        self._points: ArraySpool | None = None

    def open_set(self, shape_class: str, set_name: str) -> None:
        """Begin the objects of one set of a class."""
        self._points = ArraySpool(self.folder / f"{shape_class}_{set_name}_points.npz", np.float32, (10_000, 3))

    def add(self, shape_class: str, name: str, rendered: RenderedObject) -> None:
        """Write one object of the open set."""
        assert self._points is not None
        self._points.add(rendered.points)
        self._write(f"{shape_class}/{name}", rendered)

    def close_set(self) -> None:
        """End the open set."""
        assert self._points is not None
        self._points.close()

    @abstractmethod
    def _write(self, label: str, rendered: RenderedObject) -> None:
        """Write what only this format has; ``label`` is ``class/name``."""

    @abstractmethod
    def finish(self, objects: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write what lists all objects, given by class and set."""


class KatoWriter(RenderWriter):
    """Write ``{class}_{set}_images.npz`` and ``_voxels.npz``."""

    def open_set(self, shape_class: str, set_name: str) -> None:
        """Begin the archives of one set."""
        super().open_set(shape_class, set_name)
        stem, size = f"{shape_class}_{set_name}", self.protocol.size
        self._images = ArraySpool(self.folder / f"{stem}_images.npz", np.uint8, (self.protocol.views, 4, size, size))
        self._voxels = ArraySpool(self.folder / f"{stem}_voxels.npz", np.bool_, (32, 32, 32))

    def _write(self, label: str, rendered: RenderedObject) -> None:  # noqa: ARG002
        self._images.add(rendered.pictures.images)
        self._voxels.add(stored_axes(rendered.voxels, "kato"))

    def close_set(self) -> None:
        """End the archives."""
        super().close_set()
        self._images.close()
        self._voxels.close()

    def finish(self, objects: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Do nothing: the archives are complete."""


class LsmWriter(RenderWriter):
    """Write ``renders/{class}/{id}/...``, ``voxels/modelVoxels32/{class}/{id}.mat`` and ``splits.json``."""

    def _write(self, label: str, rendered: RenderedObject) -> None:
        folder = self.folder / "renders" / label
        folder.mkdir(parents=True)
        rows = []
        for view, (azimuth, elevation) in enumerate(rendered.angles_deg):
            (folder / f"render_{view}.png").write_bytes(encode_image(straight_alpha(rendered.pictures.images[view])))
            depth = np.clip(rendered.pictures.depth[view] / LSM_FAR, 0, 1) * 65535
            (folder / f"depth_{view}.png").write_bytes(encode_image(depth.round().astype(np.uint16)))
            pose = square(rendered.world_from_camera[view])
            self._write_camera(folder / f"camera_{view}.mat", pose)
            # Its azimuth goes from +x towards -z.
            rows.append(f"{-azimuth:.6f} {elevation:.6f} 0 {self.protocol.distance:.6f}\n")
        (folder / "view.txt").write_text("".join(rows), encoding="ascii")
        voxels = self.folder / "voxels" / "modelVoxels32" / f"{label}.mat"
        voxels.parent.mkdir(parents=True, exist_ok=True)
        voxels.write_bytes(mat_bytes({"Volume": stored_axes(rendered.voxels, "lsm").astype(np.uint8)}))

    def _write_camera(self, path: Path, world_from_camera: Float[np.ndarray, "4 4"]) -> None:
        extrinsic = np.linalg.inv(world_from_camera.astype(np.float64))
        values = {"K": intrinsics(self.protocol), "extrinsic": extrinsic, "quat": quaternion(extrinsic[:3, :3])}
        path.write_bytes(mat_bytes(values))

    def finish(self, objects: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write the split."""
        titles = {name: class_title(name).split("(")[-1].rstrip(")") for name in objects}
        write_json(self.folder / "splits.json", {name: {"name": titles[name], **objects[name]} for name in objects})


class FreeWriter(RenderWriter):
    """Write ``images/{id}_{view}.png``, ``cameras.json`` and ``voxels.npz``."""

    def __init__(self, folder: Path, protocol: RenderProtocol) -> None:
        """Prepare the folder of pictures."""
        super().__init__(folder, protocol)
        (folder / "images").mkdir()
        self._voxels = ArraySpool(folder / "voxels.npz", np.bool_, (32, 32, 32))
        self._cameras: dict[str, Any] = {}

    def _write(self, label: str, rendered: RenderedObject) -> None:
        name = label.split("/")[1]
        for view, image in enumerate(rendered.pictures.images):
            path = self.folder / "images" / f"{name}_{view}.png"
            path.write_bytes(encode_image(straight_alpha(image)))
        self._voxels.add(rendered.voxels)
        poses = [square(pose).astype(np.float64).round(9).tolist() for pose in rendered.world_from_camera]
        self._cameras[name] = {"world_from_camera": poses}

    def finish(self, objects: Mapping[str, Mapping[str, Sequence[str]]]) -> None:
        """Write the voxels and the cameras."""
        self._voxels.close()
        size = self.protocol.size
        head = {"size": [size, size], "K": intrinsics(self.protocol).tolist()}
        names = [name for sets in objects.values() for members in sets.values() for name in members]
        cameras = {name: self._cameras[name] for name in names}
        text = json.dumps({**head, "half_angle_deg": self.protocol.half_angle_deg, "objects": cameras})
        (self.folder / "cameras.json").write_text(text + "\n", encoding="utf-8")


WRITERS: dict[str, type[RenderWriter]] = {"kato": KatoWriter, "lsm": LsmWriter, "free": FreeWriter}


def intrinsics(protocol: RenderProtocol) -> Float[np.ndarray, "3 3"]:
    """Return K of the pictures of a protocol."""
    focal = torch.tensor([protocol.size / (2 * np.tan(np.radians(protocol.half_angle_deg)))], dtype=torch.float64)
    middle = torch.full_like(focal, protocol.size / 2)
    return intrinsic_matrices(focal, focal, middle, middle)[0].numpy()


def square(pose: Float32[np.ndarray, "3 4"]) -> Float32[np.ndarray, "4 4"]:
    """Return a pose with its last row."""
    return np.concatenate([pose, np.array([[0, 0, 0, 1]], pose.dtype)])


def quaternion(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 4"]:
    """Return the unit quaternion (w, x, y, z) of a rotation, w not negative."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return np.array([w, x, y, z]) * (1 if w >= 0 else -1)


def straight_alpha(image: UInt8[np.ndarray, "4 h w"]) -> UInt8[np.ndarray, "h w 4"]:
    """Return a picture as PNG files have it: colours that are not yet multiplied with the mask."""
    rgb, mask = 255.0 * image[:3].astype(np.float64), image[3:].astype(np.float64)
    rgb = np.divide(rgb, mask, out=np.zeros_like(rgb), where=mask > 0)
    return np.concatenate([rgb.round().clip(0, 255).astype(np.uint8), image[3:]]).transpose(1, 2, 0)


def mat_bytes(values: Mapping[str, Shaped[np.ndarray, "..."]]) -> bytes:
    """Return a MATLAB 5 file without the time of day in its header."""
    buffer = io.BytesIO()
    savemat(buffer, dict(values))
    return MAT_HEADER.ljust(MAT_HEADER_BYTES) + buffer.getvalue()[MAT_HEADER_BYTES:]
