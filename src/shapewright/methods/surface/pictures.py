"""Pictures and videos of a trained surface."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.scene import Scene
from shapewright.engine.run_dir import RunDir
from shapewright.export.pictures import depth_picture, normal_picture
from shapewright.geometry.cameras import Cameras
from shapewright.io.images import write_image
from shapewright.io.video import write_video
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.rendering.rendering import Rendering

_ORBIT_SIZE = 480


def as_bytes(image: torch.Tensor) -> np.ndarray:
    """Return a picture in [0, 1] as bytes."""
    return (image.clamp(0.0, 1.0) * 255.0 + 0.5).to(torch.uint8).cpu().numpy()


def draw(rendering: Rendering, what: str) -> np.ndarray:
    """Return one kind of picture of a rendering: ``rgb`` on white, ``normal``, ``depth`` or ``mask``."""
    if what == "rgb":
        return as_bytes(rendering.rgb + 1.0 - rendering.opacity[..., None])
    if what == "normal":
        return normal_picture(rendering.normal)
    if what == "depth":
        return depth_picture(rendering.depth)
    return as_bytes(rendering.opacity[..., None].expand(-1, -1, 3))


def mean_up(scene: Scene) -> Float[Tensor, "3"]:
    """Return the unit direction that is up in the training pictures, on average."""
    up = -scene.cameras[list(scene.train)].world_from_camera[:, :, 1].double().mean(0)
    return up / up.norm()


def orbit_cameras(scene: Scene, frames: int) -> Cameras:
    """Return cameras on a circle around the object, at the mean distance and height of the real ones.

    The circle's axis is the mean up direction of the pictures, so the object stands upright.
    """
    centers = scene.cameras[list(scene.train)].centers.double()
    up = mean_up(scene)
    height = (centers @ up).mean()
    radius = float((centers - (centers @ up)[:, None] * up).norm(dim=1).mean())
    side = torch.linalg.cross(up, centers[0] / centers[0].norm())
    side = side / side.norm()
    front = torch.linalg.cross(side, up)
    angles = torch.linspace(0.0, 2.0 * torch.pi, frames + 1, dtype=torch.float64)[:-1]
    eyes = height * up + radius * (torch.cos(angles)[:, None] * front + torch.sin(angles)[:, None] * side)
    distance = float(eyes.norm(dim=1).mean())
    # The unit sphere fills nine tenths of the picture.
    fov_deg = float(torch.rad2deg(2.0 * torch.asin(torch.tensor(min(0.95, 1.1 / distance)))))
    sizes = torch.full((frames, 2), _ORBIT_SIZE)
    return Cameras.from_look_at(eyes, torch.zeros(3, dtype=torch.float64), up, sizes=sizes, fov_deg=fov_deg)


def write_pictures(
    run: RunDir, method: SurfaceMethod, cameras: Cameras, names: Sequence[str], what: Sequence[str], video: bool
) -> list[Path]:
    """Render every camera, write a PNG for each kind of picture, and a video for each kind when asked for one."""
    written: list[Path] = []
    frames: dict[str, list[np.ndarray]] = {kind: [] for kind in what}
    for index, name in enumerate(names):
        rendering = method.render_view(cameras, index)
        for kind in what:
            frames[kind].append(draw(rendering, kind))
            if not video:
                written.append(run.media / f"{Path(name).stem}_{kind}.png")
                write_image(written[-1], frames[kind][-1])
    if video:
        for kind in what:
            suffix = ".mp4" if importlib.util.find_spec("av") else ".gif"
            written.append(run.media / f"{names[0].split('_')[0]}_{kind}{suffix}")
            write_video(written[-1], frames[kind])
    return written
