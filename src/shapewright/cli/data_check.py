"""``shapewright data check FOLDER``: what is wrong with a scene, samples of signed distances, or pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from shapewright.cli.arguments import SceneFolder
from shapewright.cli.console import start_log
from shapewright.errors import UserError

Normalise = Literal["auto", "file", "masks", "points", "lookat", "camera"]


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(check, prog="shapewright data check", args=words)


def check(
    scene: SceneFolder,
    cameras: str | None = None,
    normalise: Normalise = "auto",
    sheet: Path = Path("contact_sheet.png"),
    split: Path | None = None,
    samples_per_shape: int = 1024,
) -> None:
    """Check data before training.

    A scene: pictures, masks and cameras, drawn with the hull carved from the masks. A folder that `data sample-sdf` or
    DeepSDF's preprocessing wrote: counts, signs, scale and flags of its samples; the exit status is 1 if something must
    be mended. Pictures of a category, as `data render` and `data prepare` write them: files, masks, splits, and whether
    the voxels lie as they should, by the hulls of the masks.

    Args:
        scene: Folder of the scene, of the samples, or of the pictures.
        cameras: Name of the cameras file inside the scene; none: the format's usual one.
        normalise: Take scale and centre from the file, the masks, the cloud of points, the point the cameras look at,
            or their mean; auto: the first of these that the scene has.
        sheet: Picture to write.
        split: Check the samples of the shapes that this JSON file names only.
        samples_per_shape: Samples that training draws from a shape in a step.
    """
    start_log()
    from shapewright.data.picture_check import check_picture_folder, is_picture_folder
    from shapewright.data.sdf_check import check_sdf_folder, is_sdf_folder

    if is_picture_folder(scene):
        pictures = check_picture_folder(scene)
        print("\n".join(pictures.lines()))
        raise SystemExit(0 if pictures.passed else 1)
    if is_sdf_folder(scene):
        samples = check_sdf_folder(scene, split, samples_per_shape)
        print("\n".join(samples.lines()))
        raise SystemExit(0 if samples.passed else 1)
    _check_scene(scene, cameras, normalise, sheet)


def _check_scene(scene: Path, cameras: str | None, normalise: Normalise, sheet: Path) -> None:
    """Check a scene and draw it."""
    from shapewright.data.check import check_scene
    from shapewright.data.contact_sheet import draw_contact_sheet
    from shapewright.data.scene import load_scene
    from shapewright.io.images import write_image

    loaded = load_scene(scene, cameras, normalise=normalise)
    report = check_scene(loaded)
    for line in report.lines():
        print(line)
    if report.rows:
        write_image(sheet, draw_contact_sheet(loaded, report))
        print(f"Drawn: {sheet}")
    if not report.passed:
        raise UserError(f"{scene} is not ready to train: see the errors above.", "Mend them, then check again.")
