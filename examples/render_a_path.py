"""Render a finished run from cameras of your own: python examples/render_a_path.py RUN FOLDER."""

import sys
from pathlib import Path

import torch

from shapewright.geometry.cameras import Cameras
from shapewright.io.images import write_image
from shapewright.methods.surface.pictures import draw
from shapewright.methods.surface.pipeline import open_run

_, surface, scene = open_run(Path(sys.argv[1]))
folder = Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)

# Fly from the first camera towards the second, in normalised space; the object is around the origin.
first, second = scene.cameras.centers[:2]
eyes = torch.stack([torch.lerp(first, second, share) for share in torch.linspace(0, 1, 5).tolist()])
up = -scene.cameras.world_from_camera[0, :, 1]
cameras = Cameras.from_look_at(eyes, torch.zeros(3, dtype=torch.float64), up, 40.0, torch.tensor([[320, 320]] * 5))
for view in range(len(cameras)):
    write_image(folder / f"{view:03d}.png", draw(surface.render_view(cameras, view), "rgb"))
    print(folder / f"{view:03d}.png")
