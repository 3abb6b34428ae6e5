"""From vertices to the screen: pixels and depth, by pinhole, orthographic and weak-perspective cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_shape
from shapewright.geometry.cameras import Cameras
from shapewright.geometry.near_clipping import ClippedFaces, clip_near
from shapewright.geometry.rotations import matrix_from_quaternion

# What a vertex in the plane of a pinhole camera counts as: it is not drawn, and gets no gradient from there.
_LEAST_DEPTH = 1e-6


def project_perspective(
    vertices: Float[Tensor, "*images vertices 3"], cameras: Cameras
) -> Float[Tensor, "images vertices 3"]:
    """Return x and y in pixels and the depth of vertices, in every view.

    Args:
        vertices: In the world: one set for all views, or one for each.
        cameras: The views.
    """
    return _divided(_homogeneous(vertices, cameras))


def project_clipped(
    vertices: Float[Tensor, "vertices 3"],
    faces: Int64[Tensor, "faces 3"],
    attributes: Float[Tensor, "vertices channels"],
    camera: Cameras,
    near: float = 0.1,
) -> tuple[Float[Tensor, "1 screen_vertices 3"], ClippedFaces]:
    """Return the screen of a mesh in one view with its faces cut at the near plane, and the cut faces.

    Pass the screen, the faces and ``near`` to ``rasterizer.rasterize``, and the attributes to ``interpolate``: faces
    that reach behind the camera are then drawn as far as they are seen, and not left out.

    Args:
        vertices: In the world.
        faces: Vertex indices.
        attributes: Of the vertices.
        camera: One view.
        near: Least depth, positive.

    Raises:
        ValueError: if there are several views, or a shape does not fit.
    """
    if len(camera) != 1:
        raise ValueError(f"camera must be one view, got {len(camera)}: each view cuts a mesh in its own way.")
    clipped = clip_near(_homogeneous(vertices, camera)[0], faces, attributes, near)
    return _divided(clipped.vertices[None]), clipped


@dataclass(frozen=True)
class ParallelViews:
    """Hold views in which size does not fall with the distance: orthographic and weak perspective.

    A vertex v goes to ``c = scale R v + (t_x, t_y, 0)`` in axes x right, y down, z forward; its pixel is
    ``size / 2 (c_xy + 1)``, its depth ``c_z``, which may be negative: rasterise with ``near=None``.

    Args:
        rotations: R of each view.
        scales: Half images a unit.
        translations: In half images.

    Raises:
        ValueError: if shapes disagree.
    """

    rotations: Float[Tensor, "images 3 3"]
    scales: Float[Tensor, " images"]
    translations: Float[Tensor, "images 2"]

    def __post_init__(self) -> None:
        images = len(self.rotations)
        check_shape("rotations", self.rotations, (None, 3, 3))
        check_shape("scales", self.scales, (images,))
        check_shape("translations", self.translations, (images, 2))

    @staticmethod
    def orthographic(rotations: Float[Tensor, "images 3 3"]) -> ParallelViews:
        """Return views of scale 1, centred at the origin, as Pascal3D+ is rendered."""
        return ParallelViews(rotations, torch.ones_like(rotations[:, 0, 0]), torch.zeros_like(rotations[:, 0, :2]))

    @staticmethod
    def weak_perspective(
        quaternions: Float[Tensor, "images 4"],
        scales: Float[Tensor, " images"],
        translations: Float[Tensor, "images 2"],
    ) -> ParallelViews:
        """Return views from quaternions (w, x, y, z), which need not be of unit length, scales and translations."""
        unit = torch.nn.functional.normalize(quaternions, dim=-1)
        return ParallelViews(matrix_from_quaternion(unit), scales, translations)

    def project(self, vertices: Float[Tensor, "*images vertices 3"], size: int) -> Float[Tensor, "images vertices 3"]:
        """Return x and y in pixels and the depth of vertices, differentiable by the views too.

        Args:
            vertices: One set for all views, or one for each.
            size: Pixels along each side.
        """
        vertices = _for_each(vertices, len(self.rotations))
        turned = vertices @ self.rotations.to(vertices).transpose(1, 2) * self.scales.to(vertices)[:, None, None]
        pixels = size / 2 * (turned[..., :2] + self.translations.to(vertices)[:, None] + 1)
        return torch.cat([pixels, turned[..., 2:]], dim=-1)


def _homogeneous(vertices: Tensor, cameras: Cameras) -> Tensor:
    P = cameras.projections().to(vertices)
    return _for_each(vertices, len(cameras)) @ P[:, :, :3].transpose(1, 2) + P[:, None, :, 3]


def _divided(homogeneous: Tensor) -> Tensor:
    depth = homogeneous[..., 2:]
    divisor = torch.where(depth > _LEAST_DEPTH, depth, _LEAST_DEPTH)
    return torch.cat([homogeneous[..., :2] / divisor, depth], dim=-1)


def _for_each(vertices: Tensor, images: int) -> Tensor:
    if vertices.dim() == 2:
        return vertices.expand(images, *vertices.shape)
    check_shape("vertices", vertices, (images, None, 3))
    return vertices
