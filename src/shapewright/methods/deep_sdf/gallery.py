"""Pictures of a shape space: the way from one shape to another, and a map of all codes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.analysis.embed import embed_codes
from shapewright.analysis.embedding_picture import EmbeddingPlot, write_embedding
from shapewright.analysis.interpolate import interpolate_codes
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import make_folder, write_json
from shapewright.io.images import write_image
from shapewright.io.meshes import write_mesh
from shapewright.io.video import write_video
from shapewright.methods.deep_sdf.config import MeshConfig
from shapewright.methods.deep_sdf.results import read_code
from shapewright.methods.deep_sdf.shapes import VARIANT_MARK
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.rendering.mesh_pictures import draw_grid, draw_mesh
from shapewright.rendering.picture_camera import MeshView

VIEW = MeshView(center=(0.0, 0.0, 0.0), radius=1.0, size_px=280)
THUMBNAIL = MeshView(center=(0.0, 0.0, 0.0), radius=1.0, size_px=72)
THUMBNAIL_MESH = MeshConfig(resolution=96, components="all")
FRAMES_PER_SECOND = 12.0


def interpolate(
    space: ShapeSpace,
    names: tuple[str, str],
    out: Path,
    steps: int = 8,
    kind: Literal["linear", "slerp"] = "linear",
) -> list[Path]:
    """Write the shapes on the way from one code to another: meshes, a strip of pictures, and a video there and back.

    Args:
        space: The shape space.
        names: Two shapes: learned, fitted, or files of codes.
        out: Folder to write.
        steps: Shapes, both ends included.
        kind: Along a line or a great circle.

    Raises:
        UserError: if a shape is unknown, or a code on the way has no surface.
    """
    codes = interpolate_codes(space.code(names[0]), space.code(names[1]), steps, kind)
    make_folder(out)
    written, frames = [], []
    for place, code in enumerate(codes):
        mesh = _surface(space, code)
        path = out / f"step_{place:03d}.glb"
        write_mesh(path, mesh)
        written.append(path)
        frames.append(draw_mesh(mesh, VIEW))
    captions = [f"{place / (steps - 1):.2f}" for place in range(steps)]
    write_image(out / "interpolation.png", draw_grid([frames], captions))
    write_video(out / "interpolation.gif", frames + frames[-2:0:-1], FRAMES_PER_SECOND)
    return [*written, out / "interpolation.png", out / "interpolation.gif"]


def _surface(space: ShapeSpace, code: Float[Tensor, " code"], config: MeshConfig | None = None) -> Mesh:
    """Return the largest part of a code's surface: between two shapes there are no samples to support the others."""
    import dataclasses

    return space.mesh(code, config=config or dataclasses.replace(space.config.mesh, components="largest"))


def embed(
    space: ShapeSpace,
    out: Path,
    method: Literal["tsne", "pca"] = "tsne",
    thumbnails: bool = True,
    seed: int = 0,
) -> list[Path]:
    """Draw all codes of a run on a plane: learned shapes, their variants, and shapes fitted later.

    Args:
        space: The shape space.
        out: Picture to write, PNG or SVG; positions go to a JSON file of the same name.
        method: t-SNE (needs the extra ``analysis``) or projection on the two main axes.
        thumbnails: Draw each shape in its place instead of a dot.
        seed: Start of all random numbers.

    Raises:
        UserError: if there are fewer than four codes, or scikit-learn is missing.
    """
    names = [str(key) for key in space.shapes.train]
    labels = ["deformed" if VARIANT_MARK in name else "learned" for name in names]
    codes = [space.codes.cpu()]
    for path in sorted((space.run.path / "codes").glob("*.npz")):
        codes.append(read_code(path, space.codes.shape[1]).code[None])
        names.append(path.stem)
        labels.append("fitted")
    every = torch.cat(codes)
    perplexity = min(30.0, (len(every) - 1) / 3)
    positions = np.asarray(embed_codes(every, method, perplexity, seed))
    shown = range(len(every))
    pictures: Sequence[np.ndarray] = ()
    if thumbnails:
        shown = [place for place in shown if labels[place] != "deformed"]  # type: ignore[assignment]
        pictures = [draw_mesh(_thumbnail(space, every[place]), THUMBNAIL) for place in shown]
    chosen = list(shown)
    plot = EmbeddingPlot(
        positions[chosen], [names[place] for place in chosen], [labels[place] for place in chosen], pictures
    )
    write_embedding(out, plot)
    table = {name: place.tolist() for name, place in zip(names, positions, strict=True)}
    write_json(out.with_suffix(".json"), table)
    return [out, out.with_suffix(".json")]


def _thumbnail(space: ShapeSpace, code: Float[Tensor, " code"]) -> Mesh:
    """Return a coarse mesh of a code, a point where there is no surface."""
    try:
        return _surface(space, code, THUMBNAIL_MESH)
    except UserError:
        return Mesh(torch.zeros(3, 3), torch.tensor([[0, 1, 2]]))
