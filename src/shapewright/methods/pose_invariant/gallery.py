"""Pictures of a run: the way from one picture's shape to another's, a map of codes, and meshes of the data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.analysis.interpolate import interpolate_codes
from shapewright.analysis.pose_map import map_poses, write_pose_map
from shapewright.data.picture_sets import PictureSet
from shapewright.engine.config import suggestion
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.files import make_folder
from shapewright.io.images import write_image
from shapewright.io.meshes import write_mesh
from shapewright.io.video import write_video
from shapewright.methods.pose_invariant.drawings import draw_strip, draw_views
from shapewright.methods.pose_invariant.judging import judge_codes, predict
from shapewright.methods.pose_invariant.trained import Split, TrainedRun

FRAMES_PER_SECOND = 8.0


def interpolate(
    opened: TrainedRun,
    names: tuple[str, str],
    out: Path,
    steps: int = 6,
    kind: Literal["linear", "slerp"] = "linear",
    category: str | None = None,
) -> list[Path]:
    """Write the shapes on the way from one picture's code to another's; return the files.

    They are a mesh each, a sheet of each from 24 sides, a strip from one side, and a video there and back.

    Args:
        opened: The run.
        names: Two pictures: files, or NAME:VIEW of the run's data.
        out: Folder to write.
        steps: Shapes, both ends included.
        kind: Along a line or a great circle.
        category: Of the objects in files; none: the only one that was learned.

    Raises:
        UserError: if there is no such picture, a category is unknown or must be named, or the run tells its decoder
            the category and the two differ.
    """
    method = opened.method
    (first, own), (second, other) = (_picture(opened, name, category) for name in names)
    if own != other and method.judged.num_told:
        classes = method.kind.classes
        raise UserError(
            f"{names[0]} and {names[1]} are of two categories, {classes[own]} and {classes[other]}; "
            "this run's decoder is told one.",
            "Choose two pictures of one category.",
        )
    with torch.no_grad():
        ends = method.judged.encode(torch.stack([first, second]).to(method.device)).cpu()
    codes = interpolate_codes(ends[0], ends[1], steps, kind)
    make_folder(out)
    written, meshes = [], decoded(opened, torch.stack(list(codes)), own)
    for place, mesh in enumerate(meshes):
        write_mesh(out / f"step_{place:03d}.glb", mesh)
        write_image(out / f"views_{place:03d}.png", draw_views(mesh))
        written += [out / f"step_{place:03d}.glb", out / f"views_{place:03d}.png"]
    strip, frames = draw_strip(meshes)
    write_image(out / "interpolation.png", strip)
    write_video(out / "interpolation.gif", frames + frames[-2:0:-1], FRAMES_PER_SECOND)
    return [*written, out / "interpolation.png", out / "interpolation.gif"]


def embed(
    opened: TrainedRun,
    stem: Path,
    method: Literal["tsne", "pca"] = "tsne",
    split: Split | None = None,
    seed: int = 0,
) -> tuple[dict[str, float], list[Path]]:
    """Write a map of the codes of all pictures of a set, coloured by pose and by object.

    Args:
        opened: The run.
        stem: Of the files: PNG, PDF and the coordinates.
        method: t-SNE (needs the extra ``analysis``), or projection on the two main axes.
        split: Which objects; none: those to judge by.
        seed: Of t-SNE.

    Returns:
        metrics: How much of the pose the codes keep.
        paths: What was written.

    Raises:
        UserError: if the pictures are missing, there are too few, or scikit-learn is missing.
    """
    pictures = opened.pictures(split or opened.test_split())
    found = predict(opened.method, pictures)
    metrics, notes = judge_codes(pictures, found)
    objects = torch.arange(len(pictures)).repeat_interleave(pictures.num_views)
    views = torch.arange(pictures.num_views).repeat(len(pictures))
    plot = map_poses(found.codes.flatten(0, 1), azimuths_deg(pictures), objects, method, seed)
    title = f"{opened.run.path.name}: codes of {len(views)} pictures ({opened.config.mode}, step {opened.step})"
    told = [f"{name} {metrics[name]:.3f}" for name in ("mmd", "mmd_floor", "pose_probe") if name in metrics]
    note = "  ".join(told + notes)
    make_folder(stem.parent)
    return metrics, write_pose_map(stem, plot, title, note)


def azimuths_deg(pictures: PictureSet) -> Float[Tensor, " pictures"]:
    """Return from where each picture was taken, around the vertical axis, from +x towards +z, in [0, 360)."""
    objects = torch.arange(len(pictures)).repeat_interleave(pictures.num_views)
    directions = pictures.directions(objects, torch.arange(pictures.num_views).repeat(len(pictures)))
    return torch.atan2(directions[:, 2], directions[:, 0]).rad2deg() % 360


def export(
    opened: TrainedRun, formats: Sequence[str], ids: Sequence[str] = (), split: Split | None = None, view: int = 0
) -> list[Path]:
    """Write the meshes that one picture of each object makes, in every format; return the files.

    Args:
        opened: The run.
        formats: ``glb``, ``ply``, ``obj``.
        ids: Names of objects; none: all.
        split: Which set; none: the one to judge by.
        view: Which picture of each.

    Raises:
        UserError: if there is no such object or view.
    """
    pictures = opened.pictures(split or opened.test_split())
    if not 0 <= view < pictures.num_views:
        raise UserError(f"There is no view {view}: objects have {pictures.num_views}.", "Count from 0.")
    unknown = [name for name in ids if name not in pictures.ids]
    if unknown:
        raise UserError(f"There is no object {unknown[0]!r}.", suggestion(unknown[0], pictures.ids))
    found = predict(opened.method, pictures)
    written = []
    for place, name in enumerate(pictures.ids):
        if not ids or name in ids:
            for suffix in formats:
                written.append(opened.run.meshes / f"{pictures.file_names[place]}.{suffix}")
                write_mesh(written[-1], found.mesh(place, view))
    return written


def decoded(opened: TrainedRun, codes: Float[Tensor, "n code"], category: int = 0) -> list[Mesh]:
    """Return one mesh a code, with colours where the run makes them."""
    model, skin = opened.method.judged, opened.method.skin
    with torch.no_grad():
        codes = codes.to(opened.method.device)
        classes = torch.full((len(codes),), category, device=codes.device)
        vertices = model.decode(codes, classes).cpu()
        told = model.tell(codes, classes)
        colors = [None] * len(codes) if skin is None else list(skin.eval().vertex_colors(skin(told)).cpu())
    return [Mesh(one, model.faces.cpu(), vertex_colors=color) for one, color in zip(vertices, colors, strict=True)]


def _picture(opened: TrainedRun, name: str, category: str | None) -> tuple[Float[Tensor, "channels size size"], int]:
    """Return a picture that a person names, and the place of its category.

    Args:
        opened: The run.
        name: A file, or an object of the run's data and one of its views.
        category: Of the object in a file.
    """
    if Path(name).is_file():
        place = opened.category_place(category)
        return opened.read_picture(Path(name))[0], place
    stem, _, view = name.rpartition(":")
    known: list[str] = []
    for split in opened.splits():
        pictures = opened.pictures(split)
        known += pictures.ids
        if stem in pictures.ids and view.isdecimal() and int(view) < pictures.num_views:
            number = pictures.ids.index(stem)
            learned = pictures.categories[number] if opened.method.judged.num_told else None
            picture = pictures.pictures(torch.tensor([number]), torch.tensor([int(view)]))[0]
            return picture, opened.category_place(learned)
    raise UserError(f"{name!r} is neither a file nor NAME:VIEW of the run's pictures.", suggestion(stem or name, known))
