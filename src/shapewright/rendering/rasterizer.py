"""Which face each sample of a picture shows, and what is drawn on it: attributes, light, pixels.

The picture of a face is differentiable through the barycentric coordinates, computed in torch from the face ids, to any
order; where one face gives way to another is not: silhouettes have their own gradients (``rendering.soft_silhouette``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d

from shapewright.checks import check_range, check_shape
from shapewright.geometry.mesh import clockwise_areas
from shapewright.kernels import raster_ops
from shapewright.kernels.raster_ops import RasterRule


@dataclass(frozen=True)
class Fragments:
    """Hold what every sample of a batch of pictures shows.

    Args:
        face_id: The nearest face; -1 where there is none.
        depth: Of that face, without gradient; infinite where there is none.
        faces: Vertex indices of all faces.
        supersample: Samples along each side of a pixel.
        is_parallel: Whether the projection is orthographic or weak perspective.
        num_dropped: Faces of each picture left out because a vertex lies before the near plane or is not finite.
    """

    face_id: Int32[Tensor, "images samples samples"]
    depth: Float32[Tensor, "images samples samples"]
    faces: Int64[Tensor, "faces 3"]
    supersample: int
    is_parallel: bool
    num_dropped: Int64[Tensor, " images"]

    @property
    def is_covered(self) -> Bool[Tensor, "images samples samples"]:
        """Return which samples show a face."""
        return self.face_id >= 0

    def corners(
        self, attributes: Float[Tensor, "images vertices channels"]
    ) -> Float[Tensor, "images samples samples 3 channels"]:
        """Return the attributes of the three vertices of the face at each sample; those of vertex 0 where none is."""
        images = len(self.face_id)
        check_shape("attributes", attributes, (images, None, None))
        if not self.faces.numel():
            return attributes.new_zeros(*self.face_id.shape, 3, attributes.shape[2])
        seen = self.faces[self.face_id.clamp(min=0).long()]
        seen = torch.where(self.is_covered[..., None], seen, 0)
        image = torch.arange(images, device=seen.device)[:, None, None, None]
        return attributes[image, seen]

    def is_back(self, screen: Float[Tensor, "images vertices 3"]) -> Bool[Tensor, "images samples samples"]:
        """Return which samples show a face from behind: its vertices go clockwise round on the screen.

        Args:
            screen: As it was rasterised, x and y in pixels.
        """
        if not self.faces.numel():
            return torch.zeros_like(self.is_covered)
        is_clockwise = clockwise_areas(screen, self.faces) > 0
        seen = self.face_id.clamp(min=0).flatten(1).long()
        return is_clockwise.gather(1, seen).view_as(self.face_id) & self.is_covered

    def barycentrics(self, screen: Float[Tensor, "images vertices 3"]) -> Float[Tensor, "images samples samples 3"]:
        """Return the share of each vertex in the sample, differentiable by the screen; 0 where there is no face.

        With the edge functions e_k and the area A of the rasteriser's rule they are ``(e_k / 2A) (z / z_k)``, and in
        parallel projections ``e_k / 2A``.

        Args:
            screen: As it was rasterised, x and y in pixels.
        """
        corners = self.corners(screen)
        covered = self.is_covered[..., None]
        # Elsewhere stands a triangle with harmless derivatives.
        harmless = screen.new_tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
        corners = torch.where(covered[..., None], corners, harmless)
        size = self.face_id.shape[1]
        centers = (torch.arange(size, device=screen.device, dtype=screen.dtype) + 0.5) / self.supersample
        p = torch.stack(torch.meshgrid(centers, centers, indexing="xy"), dim=-1)
        return torch.where(covered, _shares(corners, p, self.is_parallel), 0.0)


def rasterize(
    screen: Float[Tensor, "images vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    size: int,
    supersample: int = 1,
    near: float | None = 0.1,
    cull: Literal["none", "back"] = "none",
) -> Fragments:
    """Return the nearest face at each sample of square pictures.

    Args:
        screen: x and y of the vertices in pixels, pixel centres at +0.5, and their depth; one row an image.
        faces: Vertex indices, shared by all images.
        size: Pixels along each side.
        supersample: Samples along each side of a pixel.
        near: Least depth; a face with a vertex before it is left out, not clipped. None in parallel projections,
            where depth is linear on the screen and may be negative.
        cull: ``back`` leaves out faces whose vertices go clockwise round on the screen.

    Raises:
        ValueError: if a shape does not fit, a face names a missing vertex, or an option does not exist.
    """
    check_range("size", size, 1)
    check_range("supersample", supersample, 1)
    check_shape("screen", screen, (None, None, 3))
    if cull not in ("none", "back"):
        raise ValueError(f"cull must be none or back, got {cull!r}.")
    rule = RasterRule(size * supersample, near, cull == "back")
    # In double precision the product is exact, whatever the number of samples.
    samples = screen.detach().double() * screen.new_tensor([supersample, supersample, 1.0], dtype=torch.float64)
    face_id, depth = raster_ops.rasterize(samples, faces, rule)
    is_bad = ~samples.isfinite().all(-1) | (samples[..., 2] < rule.least_depth)
    num_dropped = is_bad[:, faces].any(-1).sum(-1)
    return Fragments(face_id, depth, faces, supersample, near is None, num_dropped)


def interpolate(
    fragments: Fragments,
    screen: Float[Tensor, "images vertices 3"],
    attributes: Float[Tensor, "*images vertices channels"],
) -> Float[Tensor, "images samples samples channels"]:
    """Return attributes of the vertices at each sample, right in perspective; 0 where there is no face.

    Args:
        fragments: What :func:`rasterize` returned.
        screen: As it was rasterised; differentiable.
        attributes: Colours, normals, texture coordinates: one set for all images, or one for each; differentiable.

    Raises:
        ValueError: if a shape does not fit.
    """
    if attributes.dim() == 2:
        attributes = attributes.expand(len(screen), *attributes.shape)
    check_shape("screen", screen, (len(fragments.face_id), None, 3))
    check_shape("attributes", attributes, (len(screen), None, None))
    # Most samples of a picture are background: only the others are computed.
    image, row, column = fragments.is_covered.nonzero(as_tuple=True)
    corners = image[:, None], fragments.faces[fragments.face_id[image, row, column].long()]
    centers = (torch.stack([column, row], dim=1) + 0.5).to(screen) / fragments.supersample
    weights = _shares(screen[corners], centers, fragments.is_parallel)
    values = (weights[..., None] * attributes[corners]).sum(-2)
    background = values.new_zeros(*fragments.face_id.shape, attributes.shape[-1])
    return background.index_put((image, row, column), values)


def to_pixels(
    samples: Float[Tensor, "images samples samples channels"], supersample: int
) -> Float[Tensor, "images size size channels"]:
    """Return the mean of the samples in each pixel."""
    if supersample == 1:
        return samples
    return avg_pool2d(samples.movedim(-1, 1), supersample).movedim(1, -1)


def draw(
    colors: Float[Tensor, "images samples samples channels"],
    fragments: Fragments,
    background: float | Float[Tensor, " channels"] = 0.0,
) -> tuple[Float[Tensor, "images size size channels"], Float[Tensor, "images size size"]]:
    """Return pictures on a background, and the share of each pixel that is covered.

    Args:
        colors: At each sample, as :func:`interpolate` returns, times light if there is any (``rendering.shading``).
        fragments: Where there is a face.
        background: Colour of the samples without one.
    """
    covered = fragments.is_covered[..., None].to(colors.dtype)
    background = torch.as_tensor(background, dtype=colors.dtype, device=colors.device)
    picture = torch.where(fragments.is_covered[..., None], colors, background)
    return to_pixels(picture, fragments.supersample), to_pixels(covered, fragments.supersample)[..., 0]


def _shares(
    corners: Float[Tensor, "*samples 3 3"], centers: Float[Tensor, "*#samples 2"], is_parallel: bool
) -> Float[Tensor, "*samples 3"]:
    """Return the share of each corner in samples of the screen; a third in slivers whose area is lost in rounding."""
    x, y = (corners[..., :2] - centers[..., None, :]).unbind(-1)
    edges = torch.stack([x[..., k - 2] * y[..., k - 1] - y[..., k - 2] * x[..., k - 1] for k in range(3)], dim=-1)
    weights = edges if is_parallel else edges / corners[..., 2]
    weights = torch.where(weights.sum(-1, keepdim=True) == 0, 1.0, weights)
    return weights / weights.sum(-1, keepdim=True)
