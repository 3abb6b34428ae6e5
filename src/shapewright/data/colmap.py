"""COLMAP models: cameras, images and points3D, text or binary."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from shapewright.data.capture import Capture, View, find_mask, fit_intrinsics, listed, require_views
from shapewright.errors import UserError
from shapewright.geometry.cameras import Cameras
from shapewright.io.images import has_alpha, list_images

MODEL_FOLDERS = ("sparse/0", "sparse", "colmap/sparse/0", "colmap", ".")
IMAGE_FOLDERS = ("images", "image", ".")
# Number in binary files -> name and count of parameters.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
}


@dataclass(frozen=True)
class Lens:
    """Hold one entry of COLMAP's cameras file."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]


@dataclass(frozen=True)
class Registered:
    """Hold one entry of COLMAP's images file: camera-from-world pose, lens and name."""

    quaternion: tuple[float, ...]
    translation: tuple[float, ...]
    lens: int
    name: str


def find_model(path: Path) -> Path | None:
    """Return the folder of the COLMAP model below ``path``, if there is one."""
    for folder in (path / name for name in MODEL_FOLDERS):
        if any(all((folder / f"{part}.{kind}").is_file() for part in ("cameras", "images")) for kind in ("bin", "txt")):
            return folder
    return None


def read_colmap(path: Path) -> Capture:
    """Return the capture of a COLMAP project: a model, and pictures in ``images``.

    COLMAP works on the pixels as stored, so EXIF orientations are ignored.

    Raises:
        UserError: if files are missing, cut short, or use a lens model that is not supported.
    """
    model = find_model(path)
    if model is None:
        raise UserError(f"There is no COLMAP model (cameras and images, .bin or .txt) in {path}.", "Check the path.")
    kind = "bin" if (model / "cameras.bin").is_file() else "txt"
    read_lenses, read_images = (_binary_lenses, _binary_images) if kind == "bin" else (_text_lenses, _text_images)
    lenses = read_lenses(model / f"cameras.{kind}")
    images = sorted(read_images(model / f"images.{kind}"), key=lambda image: image.name)
    folder = _image_folder(path, images)
    present = [image for image in images if (folder / image.name).is_file()]
    require_views(folder, len(present))
    file = model / f"cameras.{kind}"
    views = tuple(_view(path, folder, image, _lens(file, lenses, image)) for image in present)
    sizes = [view.size() for view in views]
    K = [
        _intrinsics(file, _lens(file, lenses, image), view.image_path, size)
        for image, view, size in zip(present, views, sizes, strict=True)
    ]
    cameras = Cameras.from_colmap(
        torch.tensor([image.quaternion for image in present], dtype=torch.float64),
        torch.tensor([image.translation for image in present], dtype=torch.float64),
        torch.from_numpy(np.stack(K)),
        torch.tensor(sizes),
    )
    notes = _notes(folder, images, present)
    return Capture("colmap", file, views, cameras, points=_points(model), notes=notes)


def _image_folder(path: Path, images: list[Registered]) -> Path:
    """Return the folder that holds the pictures of the model."""
    for folder in (path / name for name in IMAGE_FOLDERS):
        if any((folder / image.name).is_file() for image in images):
            return folder
    return path / IMAGE_FOLDERS[0]


def _lens(file: Path, lenses: dict[int, Lens], image: Registered) -> Lens:
    """Return the lens of an image, which must exist."""
    if image.lens not in lenses:
        raise UserError(f"{file} has no camera {image.lens}, which {image.name} uses.", "Export the model again.")
    return lenses[image.lens]


def _view(path: Path, folder: Path, image: Registered, lens: Lens) -> View:
    """Return one view with its mask and its lens distortion."""
    file = folder / image.name
    mask = find_mask(path, image.name)
    alpha = mask is None and has_alpha(file)
    return View(image.name, file, mask, alpha, distortion=_distortion(lens), upright=False)


def _distortion(lens: Lens) -> tuple[float, ...]:
    """Return ``k1, k2, p1, p2`` of a lens; empty if all are zero."""
    extra = {"SIMPLE_RADIAL": lens.parameters[3:], "RADIAL": lens.parameters[3:], "OPENCV": lens.parameters[4:]}
    coefficients = (*extra.get(lens.model, ()), 0.0, 0.0, 0.0, 0.0)[:4]
    return coefficients if any(coefficients) else ()


def _intrinsics(file: Path, lens: Lens, image: Path, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    """Return K of a lens for the picture's actual size."""
    values = lens.parameters
    if lens.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        fx, fy, cx, cy = values[0], values[0], values[1], values[2]
    elif lens.model in ("PINHOLE", "OPENCV"):
        fx, fy, cx, cy = values[:4]
    else:
        raise UserError(
            f"{file} uses the lens model {lens.model}, which is not supported.",
            "Run `colmap image_undistorter` and give its output folder.",
        )
    if not (np.isfinite(values).all() and min(fx, fy) > 0 and lens.width > 0 and lens.height > 0):
        raise UserError(f"{file} holds an impossible camera for {image.name}: {values}.", "Export the model again.")
    K = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return fit_intrinsics(K, (float(lens.width), float(lens.height)), size, image, file)


def _notes(folder: Path, images: list[Registered], present: list[Registered]) -> tuple[str, ...]:
    """Say which registered pictures are missing and which pictures are not registered."""
    names = {image.name for image in images}
    missing = sorted(names - {image.name for image in present})
    unregistered = [file.name for file in list_images(folder) if file.name not in names]
    notes = []
    if missing:
        notes.append(f"the model lists {len(missing)} pictures that are not in {folder.name}: {listed(missing)}")
    if unregistered:
        notes.append(f"{len(unregistered)} pictures have no camera in the model: {listed(unregistered)}")
    return tuple(notes)


def _points(model: Path) -> Float[np.ndarray, "n 3"] | None:
    """Return the sparse points of a model, if it has them."""
    if (model / "points3D.bin").is_file():
        return _binary_points(model / "points3D.bin")
    if (model / "points3D.txt").is_file():
        rows = [[float(f) for f in fields[1:4]] for fields in _fields(model / "points3D.txt")]
        return np.array(rows).reshape(-1, 3)
    return None


def _fields(file: Path) -> list[list[str]]:
    """Return the fields of each line that is no comment and not empty."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.split() for line in lines if line.strip() and not line.startswith("#")]


def _text_lenses(file: Path) -> dict[int, Lens]:
    """Read cameras.txt: ``id model width height parameters...``."""
    try:
        return {
            int(f[0]): Lens(f[1], int(f[2]), int(f[3]), tuple(float(value) for value in f[4:])) for f in _fields(file)
        }
    except (ValueError, IndexError):
        raise UserError(f"{file} is not a COLMAP cameras file.", "Export the model again.") from None


def _text_images(file: Path) -> list[Registered]:
    """Read images.txt: two lines an image, the second of which (its points) may be empty."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    rows = [line for line in lines if not line.startswith("#")][::2]
    try:
        return [_registered(line.split(maxsplit=9)) for line in rows if line.strip()]
    except (ValueError, IndexError):
        raise UserError(f"{file} is not a COLMAP images file.", "Export the model again.") from None


def _registered(fields: list[str]) -> Registered:
    """Return one image from ``id qw qx qy qz tx ty tz camera name``."""
    numbers = tuple(float(value) for value in fields[1:8])
    if not np.isfinite(numbers).all():
        raise UserError(f"The pose of {fields[9]} holds a value that is not finite.", "Remove this image.")
    return Registered(numbers[:4], numbers[4:], int(fields[8]), fields[9].strip())


@dataclass
class _Cursor:
    """Read a binary file from front to back; reading past its end is a ``UserError``."""

    file: Path
    data: bytes = field(init=False)
    position: int = 0

    def __post_init__(self) -> None:
        self.data = self.file.read_bytes()

    def take(self, layout: str) -> tuple[float, ...]:
        """Return the next little-endian values of a ``struct`` layout."""
        try:
            values = struct.unpack_from("<" + layout, self.data, self.position)
        except struct.error:
            raise UserError(f"{self.file} is cut short.", "Export the model again.") from None
        self.position += struct.calcsize("<" + layout)
        return values

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        self.position += count

    def text(self) -> str:
        """Return the next null-terminated string."""
        end = self.data.find(b"\0", self.position)
        if end < 0:
            raise UserError(f"{self.file} is cut short.", "Export the model again.")
        start, self.position = self.position, end + 1
        return self.data[start:end].decode("utf-8", errors="replace")


def _binary_lenses(file: Path) -> dict[int, Lens]:
    """Read cameras.bin."""
    cursor = _Cursor(file)
    lenses = {}
    for _ in range(int(cursor.take("Q")[0])):
        identity, model, width, height = (int(value) for value in cursor.take("IiQQ"))
        if model not in MODELS:
            raise UserError(f"{file} uses an unknown lens model (number {model}).", "Export the model again.")
        name, count = MODELS[model]
        lenses[identity] = Lens(name, width, height, tuple(float(v) for v in cursor.take(f"{count}d")))
    return lenses


def _binary_images(file: Path) -> list[Registered]:
    """Read images.bin; the observed points are skipped."""
    cursor = _Cursor(file)
    images = []
    for _ in range(int(cursor.take("Q")[0])):
        numbers = cursor.take("I7dI")
        name = cursor.text()
        cursor.skip(24 * int(cursor.take("Q")[0]))
        images.append(_registered([*(str(value) for value in numbers), name]))
    return images


def _binary_points(file: Path) -> Float[np.ndarray, "n 3"]:
    """Read the positions in points3D.bin."""
    cursor = _Cursor(file)
    points = []
    for _ in range(int(cursor.take("Q")[0])):
        points.append(cursor.take("Q3d3Bd")[1:4])
        cursor.skip(8 * int(cursor.take("Q")[0]))
    return np.array(points, dtype=np.float64).reshape(-1, 3)
