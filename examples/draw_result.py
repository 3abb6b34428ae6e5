"""Draw held-out photos of a run beside their renders and normals: ``python examples/draw_result.py RUN OUT.jpg``."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from shapewright.io.images import write_image
from shapewright.methods.surface.pictures import draw
from shapewright.methods.surface.pipeline import open_run


def main(run: Path, out: Path) -> None:
    """Write one row for each of the first three held-out views."""
    _, surface, scene = open_run(run)
    rows = []
    for view in scene.test[:3]:
        picture = scene.picture(view)
        alpha = picture.alpha[..., None] / 255.0
        photo = (picture.rgb * alpha + 255.0 * (1.0 - alpha)).round().astype(np.uint8)
        rendering = surface.render_view(scene.cameras, view)
        rows.append(np.concatenate([photo, draw(rendering, "rgb"), draw(rendering, "normal")], axis=1))
    write_image(out, np.concatenate(rows, axis=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
