"""The capture that ships with the package: 28 pictures of a painted bird whose surface is known."""

from __future__ import annotations

from pathlib import Path

from shapewright.data.toy import write_toy_mesh, write_toy_scene

NUM_VIEWS = 28
SIZE = (224, 224)
TRUE_MESH = "true_mesh.ply"


def demo_capture_path() -> Path:
    """Return the folder of the capture: an IDR scene with its true surface beside it."""
    return Path(__file__).parent / "demo_capture"


def write_demo_capture(folder: Path) -> None:
    """Make the capture anew: ``image/``, ``mask/``, ``cameras.npz`` and ``true_mesh.ply`` (about five minutes).

    Args:
        folder: Where to write; made if missing, files of the same names are replaced.
    """
    write_toy_scene(folder, "demo", NUM_VIEWS, SIZE, supersample=3)
    write_toy_mesh(folder / TRUE_MESH, "demo", resolution=448, num_faces=44000)
