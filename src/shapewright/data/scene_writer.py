"""Writing of a scene in IDR's layout, plus scene.json for what that layout cannot say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from shapewright.data.idr import SCENE_FILE
from shapewright.data.scene import Scene
from shapewright.errors import UserError
from shapewright.io.arrays import write_npz
from shapewright.io.files import write_json
from shapewright.io.images import write_image


def write_scene(scene: Scene, folder: Path) -> None:
    """Write pictures, masks and cameras so that IDR, NeuS and Shapewright can read them.

    Pictures are written undistorted as PNG. ``cameras.npz`` is written last
    but one and ``scene.json`` last: a folder with it is complete.

    Raises:
        UserError: if the folder holds files already, or cannot be written to.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"The folder {folder} is not empty.", "Choose another folder, or empty it.")
    for name in ("image", "mask") if scene.has_masks else ("image",):
        (folder / name).mkdir(parents=True, exist_ok=True)
    entries = [_write_view(scene, view, folder) for view in range(len(scene.views))]
    write_npz(folder / "cameras.npz", camera_arrays(scene))
    normalisation = {
        "method": scene.normalisation.method,
        "scale": scene.scale,
        "translation": scene.translation.tolist(),
    }
    write_json(folder / SCENE_FILE, {"schema": 1, "normalisation": normalisation, "views": entries})


def camera_arrays(scene: Scene) -> dict[str, Float[np.ndarray, "4 4"]]:
    """Return ``world_mat_i`` and ``scale_mat_i`` with IDR's integer pixel centres."""
    scale_mat = np.diag([scene.scale, scene.scale, scene.scale, 1.0])
    scale_mat[:3, 3] = scene.translation
    shift = np.array([[1.0, 0.0, -0.5], [0.0, 1.0, -0.5], [0.0, 0.0, 1.0]])
    arrays = {}
    for view, projection in enumerate(scene.cameras.projections().double().numpy()):
        normalised = np.vstack([shift @ projection, [0.0, 0.0, 0.0, 1.0]])
        # P maps normalised points, world_mat world points; depth keeps its world units.
        world_mat = normalised @ np.linalg.inv(scale_mat)
        world_mat[:3] *= scene.scale
        arrays[f"world_mat_{view}"], arrays[f"scale_mat_{view}"] = world_mat, scale_mat
    return arrays


def _write_view(scene: Scene, view: int, folder: Path) -> dict[str, Any]:
    """Write one picture and its mask, and return their entry in ``scene.json``."""
    picture, name = scene.picture(view), f"{view:06d}.png"
    write_image(folder / "image" / name, picture.rgb)
    if scene.has_masks and picture.alpha is not None:
        write_image(folder / "mask" / name, picture.alpha)
    source = scene.views[view]
    return {
        "file": f"image/{name}",
        "mask": f"mask/{name}" if scene.has_masks else None,
        "width": picture.rgb.shape[1],
        "height": picture.rgb.shape[0],
        "split": "test" if view in scene.test else "train",
        "source": source.name,
        "undistorted": bool(source.distortion),
    }
