"""The pixels that a tracing model is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapewright.data.capture import as_mask
from shapewright.data.scene import Scene
from shapewright.errors import UserError
from shapewright.methods.surface.tracing_config import TracingBatchConfig


@dataclass(frozen=True)
class PixelBatch:
    """Hold the pixels of one step: their rays, colours in [0, 1], and whether they show the object."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    colors: Float[Tensor, "rays 3"]
    is_object: Bool[Tensor, " rays"]


class TrainingPixels:
    """Keep the training pictures as bytes, and draw pixels from them.

    Args:
        scene: The scene, with masks.
        config: Which pixels make a step.
        device: Where the pictures are kept.
        generator: Draws the pixels; lives on the CPU.

    Raises:
        UserError: if a training picture has no mask, or no mask holds a pixel.
    """

    def __init__(
        self, scene: Scene, config: TracingBatchConfig, device: torch.device, generator: torch.Generator
    ) -> None:
        if not scene.has_masks:
            raise UserError(
                f"The scene {scene.path} has no masks, and tracing cannot be trained without them.",
                "Add a mask for each picture, or choose a preset that renders volumes.",
            )
        self._config = config
        self._generator = generator
        pictures = [scene.picture(view) for view in scene.train]
        alphas = [picture.alpha for picture in pictures if picture.alpha is not None]
        is_object = torch.cat([torch.tensor(as_mask(alpha)).reshape(-1) for alpha in alphas])
        self._colors = torch.cat([torch.tensor(picture.rgb).reshape(-1, 3) for picture in pictures]).to(device)
        self._is_object = is_object.to(device)
        self._object_pixels = is_object.nonzero().squeeze(-1)
        self._ends = torch.tensor([alpha.size for alpha in alphas]).cumsum(0)
        self._cameras = scene.cameras[list(scene.train)].to(device=device, dtype=torch.float32)
        self._round: Int[Tensor, " left"] = torch.empty(0, dtype=torch.int64)
        if not len(self._object_pixels):
            raise UserError(f"All masks of {scene.path} are empty.", "Check that the object is white in the masks.")

    def draw(self) -> PixelBatch:
        """Return the pixels of the next step."""
        if self._config.from_one_image:
            image = self._next_image()
            start = int(self._ends[image - 1]) if image else 0
            pixels = self._integers(self._config.num_rays, int(self._ends[image]) - start) + start
        else:
            num_inside = round(self._config.foreground_share * self._config.num_rays)
            inside = self._object_pixels[self._integers(num_inside, len(self._object_pixels))]
            anywhere = self._integers(self._config.num_rays - num_inside, int(self._ends[-1]))
            pixels = torch.cat([inside, anywhere])
        return self._batch(pixels)

    def state(self) -> Int[Tensor, " left"]:
        """Return the images that are left in this round."""
        return self._round

    def load_state(self, left: Int[Tensor, " left"]) -> None:
        """Go on with the images that are left in a round."""
        self._round = left

    def _next_image(self) -> int:
        if not len(self._round):
            self._round = torch.randperm(len(self._ends), generator=self._generator)
        image, self._round = int(self._round[0]), self._round[1:]
        return image

    def _integers(self, count: int, below: int) -> Int[Tensor, " count"]:
        return torch.randint(below, (count,), generator=self._generator)

    def _batch(self, pixels: Int[Tensor, " n"]) -> PixelBatch:
        """Return the pixels with the given numbers, counted through all pictures."""
        images = torch.searchsorted(self._ends, pixels, right=True)
        offsets = pixels - torch.where(images > 0, self._ends[images - 1], 0)
        device = self._colors.device
        images, offsets, pixels = images.to(device), offsets.to(device), pixels.to(device)
        widths = self._cameras.sizes[images, 0]
        uv = torch.stack([offsets % widths, offsets // widths], dim=-1) + 0.5
        origins, directions = self._cameras.rays(images, uv)
        return PixelBatch(origins, directions, self._colors[pixels] / 255.0, self._is_object[pixels])
