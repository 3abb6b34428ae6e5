"""Pinhole cameras in one convention: OpenCV axes, pixel centres at +0.5."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from shapewright.checks import check_finite, check_shape
from shapewright.geometry.rotations import matrix_from_quaternion


@dataclass(frozen=True)
class Cameras:
    """Hold the pinhole cameras of several views.

    Axes are OpenCV's (x right, y down, z forward). The pixel in column ``j``
    and row ``i`` has its centre at (j + 0.5, i + 0.5), so that resizing an
    image only scales the intrinsics.

    Args:
        world_from_camera: ``[R^T | C]`` of each view.
        intrinsics: ``K = (fx, skew, cx; 0, fy, cy; 0, 0, 1)`` of each view, in pixels.
        sizes: Width and height of each view, in pixels.

    Raises:
        ValueError: if shapes disagree or a number is not finite.
    """

    world_from_camera: Float[Tensor, "views 3 4"]
    intrinsics: Float[Tensor, "views 3 3"]
    sizes: Int[Tensor, "views 2"]

    def __post_init__(self) -> None:
        views = self.world_from_camera.shape[0]
        check_shape("world_from_camera", self.world_from_camera, (None, 3, 4))
        check_shape("intrinsics", self.intrinsics, (views, 3, 3))
        check_shape("sizes", self.sizes, (views, 2))
        check_finite("world_from_camera", self.world_from_camera)
        check_finite("intrinsics", self.intrinsics)

    def __len__(self) -> int:
        return self.world_from_camera.shape[0]

    def __getitem__(self, views: int | slice | Sequence[int]) -> Cameras:
        """Return the cameras of the chosen views, in the given order."""
        chosen = [views] if isinstance(views, int) else views
        index = chosen if isinstance(chosen, slice) else list(chosen)
        return Cameras(self.world_from_camera[index], self.intrinsics[index], self.sizes[index])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cameras:
        """Return the same cameras on another device or in another precision."""
        return Cameras(
            self.world_from_camera.to(device=device, dtype=dtype),
            self.intrinsics.to(device=device, dtype=dtype),
            self.sizes.to(device=device),
        )

    @property
    def centers(self) -> Float[Tensor, "views 3"]:
        """Optical centres, in world units."""
        return self.world_from_camera[:, :, 3]

    @property
    def forward(self) -> Float[Tensor, "views 3"]:
        """Unit viewing directions (the optical axes)."""
        return self.world_from_camera[:, :, 2]

    def projections(self) -> Float[Tensor, "views 3 4"]:
        """Return ``P = K [R | -R C]``, which maps world points to pixels (+0.5 centres)."""
        R = self.world_from_camera[:, :, :3].transpose(1, 2)
        t = -R @ self.world_from_camera[:, :, 3:]
        return self.intrinsics @ torch.cat([R, t], dim=2)

    def project(
        self, points: Float[Tensor, "*points 3"], view: int
    ) -> tuple[Float[Tensor, "*points 2"], Float[Tensor, "*points"]]:
        """Return the pixels of world points in one view, and their depths.

        Points behind the camera have a depth <= 0; their pixels mean nothing.
        """
        P = self.projections()[view].to(points)
        u, v, depth = (points @ P[:, :3].T + P[:, 3]).unbind(-1)
        return torch.stack([u / depth, v / depth], dim=-1), depth

    def rays(
        self, view: int | Int[Tensor, " n"], pixels: Float[Tensor, "n 2"]
    ) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
        """Return origins and unit directions of the rays through pixels.

        With ``y = (v - cy) / fy`` and ``x = (u - cx - skew y) / fx`` the
        direction is that of ``R^T (x, y, 1)``.

        Args:
            view: One view for all pixels, or one for each.
            pixels: Column and row coordinates; the first pixel's centre is (0.5, 0.5).
        """
        K = self.intrinsics[view]
        pose = self.world_from_camera[view]
        pixels = pixels.to(K)
        y = (pixels[:, 1] - K[..., 1, 2]) / K[..., 1, 1]
        x = (pixels[:, 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
        local = torch.stack([x, y, torch.ones_like(x)], dim=-1)
        direction = (pose[..., :3] @ local[..., None]).squeeze(-1)
        return pose[..., 3].expand_as(direction), torch.nn.functional.normalize(direction, dim=-1)

    def image_rays(self, view: int, step: int = 1) -> tuple[Float[Tensor, "pixels 3"], Float[Tensor, "pixels 3"]]:
        """Return the rays of every ``step``-th pixel of one view, row by row.

        The pixels are ``[0::step, 0::step]`` of the image.
        """
        width, height = self.sizes[view].tolist()
        device, dtype = self.intrinsics.device, self.intrinsics.dtype
        rows = torch.arange(0, height, step, device=device, dtype=dtype) + 0.5
        columns = torch.arange(0, width, step, device=device, dtype=dtype) + 0.5
        v, u = torch.meshgrid(rows, columns, indexing="ij")
        return self.rays(view, torch.stack([u.flatten(), v.flatten()], dim=-1))

    def scaled(self, factor: float) -> Cameras:
        """Return the cameras of the same images resized by ``factor``."""
        return self.resized((self.sizes * factor).round().long().clamp(min=1))

    def resized(self, sizes: Int[Tensor, "views 2"]) -> Cameras:
        """Return the cameras of the same images resized to ``sizes`` (width, height)."""
        ratio = torch.ones_like(self.intrinsics[:, :, 0])
        ratio[:, :2] = sizes.to(ratio) / self.sizes.to(ratio)
        return replace(self, intrinsics=self.intrinsics * ratio[:, :, None], sizes=sizes)

    def transformed(self, scale: float, translation: Float[Tensor, "3"]) -> Cameras:
        """Return the cameras of the space ``x' = (x - translation) / scale``."""
        pose = self.world_from_camera.clone()
        pose[:, :, 3] = (pose[:, :, 3] - translation.to(pose)) / scale
        return replace(self, world_from_camera=pose)

    @staticmethod
    def from_projection(
        world_mats: Float[Tensor, "views rows 4"],
        scale_mat: Float[Tensor, "4 4"] | None,
        sizes: Int[Tensor, "views 2"],
    ) -> Cameras:
        """Return cameras from projection matrices as IDR and NeuS store them.

        ``P' = world_mat scale_mat`` is split by an RQ decomposition into
        ``K R`` (positive diagonal, det R = 1) and ``C = -P'[:, :3]^-1 P'[:, 3]``
        (IDR, arXiv:2003.09852, appendix). Their pixel centres are integers:
        0.5 is added to cx and cy.

        Args:
            world_mats: 3x4 or 4x4, world to pixel; a common factor, also a negative one, is free.
            scale_mat: Normalised space to world; None keeps world space.
            sizes: Width and height of each view.

        Raises:
            ValueError: if a matrix is singular.
        """
        world_mats = world_mats.double()
        P = world_mats[:, :3] if scale_mat is None else world_mats[:, :3] @ scale_mat.double()
        P = P * torch.linalg.det(P[:, :, :3]).sign()[:, None, None]
        if not bool((P.flatten(1).abs().amax(1) > 0).all()):
            raise ValueError("projection matrices must be finite and of full rank.")
        K, R = _upper_times_rotation(P[:, :, :3])
        center = -torch.linalg.solve(P[:, :, :3], P[:, :, 3:])
        K = K / K[:, 2:, 2:]
        K[:, :2, 2] += 0.5
        return Cameras(torch.cat([R.transpose(1, 2), center], dim=2), K, sizes)

    @staticmethod
    def from_opengl(
        world_from_camera_gl: Float[Tensor, "views rows 4"],
        intrinsics: Float[Tensor, "views 3 3"],
        sizes: Int[Tensor, "views 2"],
    ) -> Cameras:
        """Return cameras from poses with OpenGL axes (y up, z backwards: NeRF, NGP)."""
        flip = torch.tensor([1.0, -1.0, -1.0, 1.0]).to(world_from_camera_gl)
        return Cameras(world_from_camera_gl[:, :3] * flip, intrinsics, sizes)

    @staticmethod
    def from_colmap(
        quaternions: Float[Tensor, "views 4"],
        translations: Float[Tensor, "views 3"],
        intrinsics: Float[Tensor, "views 3 3"],
        sizes: Int[Tensor, "views 2"],
    ) -> Cameras:
        """Return cameras from COLMAP's camera-from-world quaternion (w, x, y, z) and translation."""
        return Cameras.from_krt(intrinsics, matrix_from_quaternion(quaternions), translations, sizes)

    @staticmethod
    def from_krt(
        K: Float[Tensor, "views 3 3"],
        R: Float[Tensor, "views 3 3"],
        t: Float[Tensor, "views 3"],
        sizes: Int[Tensor, "views 2"],
    ) -> Cameras:
        """Return cameras of ``P = K [R | t]``, K for pixel centres at +0.5."""
        center = -R.transpose(1, 2) @ t[:, :, None]
        return Cameras(torch.cat([R.transpose(1, 2), center], dim=2), K, sizes)

    @staticmethod
    def from_look_at(
        eyes: Float[Tensor, "views 3"],
        target: Float[Tensor, "3"],
        up: Float[Tensor, "3"],
        fov_deg: float,
        sizes: Int[Tensor, "views 2"],
    ) -> Cameras:
        """Return cameras at ``eyes`` that look at ``target``, ``up`` pointing up in the image.

        Args:
            eyes: Optical centres.
            target: The point in the middle of every image.
            up: World direction of the upper image border; must not be parallel to a view.
            fov_deg: Horizontal field of view, in degrees, in (0, 180).
            sizes: Width and height of each view.
        """
        forward = torch.nn.functional.normalize(target - eyes, dim=-1)
        right = torch.linalg.cross(forward, up.expand_as(forward))
        if not bool((right.norm(dim=-1) > 1e-9).all()):
            raise ValueError("up must not be parallel to a viewing direction.")
        right = torch.nn.functional.normalize(right, dim=-1)
        down = torch.linalg.cross(forward, right)
        pose = torch.stack([right, down, forward, eyes], dim=-1)
        size = sizes.to(eyes)
        focal = size[:, 0] / (2.0 * math.tan(math.radians(fov_deg) / 2.0))
        return Cameras(pose, intrinsic_matrices(focal, focal, size[:, 0] / 2, size[:, 1] / 2), sizes)


def intrinsic_matrices(
    fx: Float[Tensor, " views"],
    fy: Float[Tensor, " views"],
    cx: Float[Tensor, " views"],
    cy: Float[Tensor, " views"],
) -> Float[Tensor, "views 3 3"]:
    """Return ``K`` without skew for each view."""
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    return torch.stack([fx, zero, cx, zero, fy, cy, zero, zero, one], -1).unflatten(-1, (3, 3))


def nearest_point_to_axes(cameras: Cameras) -> Float[Tensor, "3"]:
    """Return the point nearest to all optical axes, in the least-squares sense.

    Solves ``sum_i (I - d_i d_i^T) (x - C_i) = 0``; parallel axes give the
    solution of smallest norm.
    """
    d = cameras.forward
    across = torch.eye(3).to(d) - d[:, :, None] * d[:, None, :]
    right = (across @ cameras.centers[:, :, None]).sum(0)
    return (torch.linalg.pinv(across.sum(0), hermitian=True) @ right).squeeze(-1)


def _upper_times_rotation(
    matrices: Float[Tensor, "views 3 3"],
) -> tuple[Float[Tensor, "views 3 3"], Float[Tensor, "views 3 3"]]:
    """Split matrices of positive determinant into K R, K upper triangular with positive diagonal."""
    q, r = torch.linalg.qr(matrices.flip(1).transpose(1, 2))
    K = r.transpose(1, 2).flip(1).flip(2)
    R = q.transpose(1, 2).flip(1)
    signs = K.diagonal(dim1=1, dim2=2).sign()
    return K * signs[:, None, :], R * signs[:, :, None]
