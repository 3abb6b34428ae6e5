"""All pixels of a scene's pictures in flat arrays, from which rays are drawn."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from shapewright.geometry.voxels import dilate
from shapewright.kernels.cpu.marching import gather_rays

if TYPE_CHECKING:
    from shapewright.data.scene import Scene
    from shapewright.geometry.cameras import Cameras


@dataclass(frozen=True)
class CameraArrays:
    """Hold cameras as the plain arrays that the ray kernel reads."""

    first_pixel: Int[np.ndarray, " views+1"]
    widths: Int[np.ndarray, " views"]
    intrinsics: Float[np.ndarray, "views 5"]
    rotations: Float[np.ndarray, "views 3 3"]
    centers: Float[np.ndarray, "views 3"]

    @staticmethod
    def from_cameras(cameras: Cameras) -> CameraArrays:
        """Return the arrays of a batch of cameras; pixels are numbered through all pictures."""
        k = cameras.intrinsics.double().numpy()
        sizes = cameras.sizes.numpy()
        first = np.concatenate([[0], np.cumsum(sizes[:, 0] * sizes[:, 1])]).astype(np.int64)
        return CameraArrays(
            first,
            sizes[:, 0].astype(np.int64).copy(),
            np.ascontiguousarray(np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2], k[:, 0, 1]], axis=1)),
            np.ascontiguousarray(cameras.world_from_camera[:, :, :3].double().numpy()),
            np.ascontiguousarray(cameras.centers.double().numpy()),
        )

    def rays(self, pixels: Int[Tensor, " n"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return origins, unit directions (float32) and the picture of each pixel."""
        n = len(pixels)
        origins, directions = torch.empty(n, 3), torch.empty(n, 3)
        views = torch.empty(n, dtype=torch.int64)
        gather_rays(
            pixels.numpy(), self.first_pixel, self.widths, self.intrinsics, self.rotations, self.centers,
            origins.numpy(), directions.numpy(), views.numpy(),
        )  # fmt: skip
        return origins, directions, views


@dataclass(frozen=True)
class PixelPool:
    """Hold the pixels of the training pictures as bytes, and which of them are near the object.

    Attributes:
        rgb: ``uint8 [pixels, 3]``; alpha: ``uint8 [pixels]``.
        near: The widened mask of each picture.
        candidates: numbers of the pixels inside the widened masks.
    """

    cameras: CameraArrays
    rgb: Tensor
    alpha: Tensor
    near: list[Bool[Tensor, "h w"]]
    candidates: Int[Tensor, " n"]

    @staticmethod
    def from_scene(scene: Scene, margin_px: int) -> PixelPool:
        """Read the training pictures of a scene that has masks, several at a time."""

        def read(view: int) -> tuple[Tensor, Tensor, Tensor]:
            picture = scene.picture(view)
            assert picture.alpha is not None
            alpha = torch.from_numpy(picture.alpha.copy())
            return torch.from_numpy(picture.rgb.copy()).view(-1, 3), alpha.reshape(-1), dilate(alpha > 0, margin_px)

        with ThreadPoolExecutor(torch.get_num_threads()) as executor:
            rgb, alpha, near = zip(*executor.map(read, scene.train), strict=True)
        return PixelPool(
            CameraArrays.from_cameras(scene.cameras[list(scene.train)]),
            torch.cat(rgb),
            torch.cat(alpha),
            list(near),
            torch.cat([mask.reshape(-1) for mask in near]).nonzero().squeeze(1),
        )

    def draw(self, count: int, generator: torch.Generator) -> Int[Tensor, " n"]:
        """Return the numbers of pixels drawn uniformly, with replacement, from the candidates."""
        return self.candidates[torch.randint(len(self.candidates), (count,), generator=generator)]
