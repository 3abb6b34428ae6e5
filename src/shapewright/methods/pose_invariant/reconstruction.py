"""One picture in, one mesh out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from shapewright.io.files import make_folder, write_json
from shapewright.io.images import write_image
from shapewright.io.meshes import write_mesh
from shapewright.methods.pose_invariant.drawings import overlay, write_turntable
from shapewright.methods.pose_invariant.gallery import decoded
from shapewright.methods.pose_invariant.pose_search import search_pose
from shapewright.methods.pose_invariant.trained import TrainedRun

# Below this the mesh does not look like its picture from any side.
POOR_IOU = 0.6


def reconstruct(
    opened: TrainedRun,
    picture: Path,
    out: Path,
    mask: Path | None = None,
    framing: bool = True,
    category: str | None = None,
) -> dict[str, Any]:
    """Write the mesh of one picture, what it looks like from 24 sides, and from where it looks like the picture.

    The files are ``mesh.obj``, ``mesh.glb``, ``turntable.png``, ``turntable.gif``, ``input.png`` as the network saw it,
    ``overlay.png`` with the mesh over it from the pose that fits best, and ``result.json``.

    Args:
        opened: The run.
        picture: With transparency unless there is a mask.
        out: Folder to write.
        mask: A picture, bright where the object is.
        framing: Crop to the object and scale it as in training; otherwise the picture must be framed like the data.
        category: Of the object; none: the only one that was learned.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: if the picture cannot be used, or the category is unknown or must be named.
    """
    kind = opened.method.kind
    place = opened.category_place(category)
    given, seen = opened.read_picture(picture, mask, framing)
    with torch.no_grad():
        code = opened.method.judged.encode(given[None].to(opened.method.device))
    mesh = decoded(opened, code, place)[0]
    found = search_pose(mesh.vertices, mesh.faces, seen[3], opened.rig)
    shown = given if opened.is_of_photographs else seen
    make_folder(out)
    write_mesh(out / "mesh.obj", mesh)
    write_mesh(out / "mesh.glb", mesh)
    write_turntable(out, mesh)
    write_image(out / "input.png", (255 * shown.permute(1, 2, 0).numpy()).round().astype(np.uint8))
    write_image(out / "overlay.png", overlay(seen, mesh, found.world_from_camera, kind.half_angle_deg))
    pose = {name: value for name, value in asdict(found).items() if name != "world_from_camera"}
    result = {
        "schema": 1,
        "method": "pose_invariant",
        "picture": str(picture),
        "category": kind.classes[place],
        "checkpoint": opened.step,
        "pose": {**pose, "is_poor": found.iou < POOR_IOU},
        "world_from_camera": found.world_from_camera.tolist(),
    }
    write_json(out / "result.json", result)
    return result
