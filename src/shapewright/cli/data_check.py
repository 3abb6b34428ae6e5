"""``shapewright data check SCENE``: what is wrong with a scene, in words and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from shapewright.cli.arguments import SceneFolder
from shapewright.cli.console import start_log
from shapewright.errors import UserError


def run(words: list[str]) -> None:
    """Run the verb."""
    tyro.cli(check, prog="shapewright data check", args=words)


def check(
    scene: SceneFolder,
    cameras: str | None = None,
    normalise: Literal["auto", "file", "masks", "points", "lookat", "camera"] = "auto",
    sheet: Path = Path("contact_sheet.png"),
) -> None:
    """Check pictures, masks and cameras before training, and draw them with the hull carved from the masks.

    Args:
        scene: Folder of the scene.
        cameras: Name of the cameras file inside the scene; none: the format's usual one.
        normalise: Take scale and centre from the file, the masks, the cloud of points, the point the cameras look at,
            or their mean; auto: the first of these that the scene has.
        sheet: Picture to write.
    """
    start_log()
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
