"""The method ``surface``: one of two renderers over one field, trained on the pictures of one object."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.scene import Scene
from shapewright.engine.schedule import Moment
from shapewright.geometry.cameras import Cameras
from shapewright.methods.surface.config import SurfaceConfig
from shapewright.methods.surface.tracing import TracingModel
from shapewright.methods.surface.volume import VolumeModel
from shapewright.methods.surface.volume_torch import TorchVolumeModel
from shapewright.rendering.rendering import Rendering


class SurfaceMethod:
    """Train and render the surface of one object in normalised space.

    Args:
        model: What ``start`` or ``restore`` made for the renderer of the settings.
    """

    def __init__(self, model: VolumeModel | TracingModel) -> None:
        self.model = model

    @staticmethod
    def start(config: SurfaceConfig, scene: Scene, device: torch.device, seed: int) -> SurfaceMethod:
        """Return an untrained method for a scene.

        Raises:
            UserError: if the scene lacks what the renderer needs.
        """
        if config.renderer == "tracing":
            return SurfaceMethod(TracingModel(config.tracing, scene, device, seed))
        return SurfaceMethod(_place(VolumeModel.start(config.volume, scene, seed, torch.get_num_threads()), device))

    @staticmethod
    def restore(
        config: SurfaceConfig, tensors: dict[str, Tensor], device: torch.device, scene: Scene | None = None
    ) -> SurfaceMethod:
        """Return the method that ``state_dict`` described; with a scene it can be trained on."""
        if config.renderer == "tracing":
            tracing = TracingModel(config.tracing, scene, device, 0)
            tracing.load_state_dict(tensors)
            return SurfaceMethod(tracing)
        volume = VolumeModel.restore(config.volume, tensors, torch.get_num_threads())
        if scene is not None:
            volume.read_pixels(scene)
        return SurfaceMethod(_place(volume, device))

    def next_batch(self, moment: Moment) -> Any:
        """Return the rays of the next step."""
        return self.model.next_batch(moment)

    def train_step(self, batch: Any, moment: Moment) -> dict[str, float | Tensor]:
        """Make one step and return its losses."""
        return dict(self.model.train_step(batch, moment))

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        return self.model.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        self.model.load_state_dict(tensors)

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return the signed distance, negative inside, without gradient."""
        return self.model.sdf(points)

    def sdf_and_normal(self, points: Float[Tensor, "n 3"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return the signed distance and its gradient."""
        return self.model.sdf_and_normal(points)

    def color(
        self, points: Float[Tensor, "n 3"], directions: Float[Tensor, "n 3"] | None = None
    ) -> Float[Tensor, "n 3"]:
        """Return colours in [0, 1] of surface points.

        Args:
            points: Points on the surface.
            directions: Unit directions of sight, away from the camera; by default against the normal.
        """
        if directions is None:
            directions = -torch.nn.functional.normalize(self.sdf_and_normal(points)[1], dim=1)
        return self.model.color(points, directions)

    def render_view(self, cameras: Cameras, view: int, step: int = 1) -> Rendering:
        """Return what every ``step``-th pixel of one camera sees."""
        return self.model.render_view(cameras, view, step)


def _place(model: VolumeModel, device: torch.device) -> VolumeModel:
    """Return the model on its device: hand-written kernels on the CPU, autograd elsewhere."""
    return model if device.type == "cpu" else TorchVolumeModel(model, device)
