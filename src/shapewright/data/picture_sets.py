"""Pictures of many objects of a category, each with its mask and camera: what single-view methods learn from."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor
from torch.nn.functional import normalize

from shapewright.checks import check_shape
from shapewright.data.joined_arrays import JoinedArrays
from shapewright.geometry.cameras import Cameras, intrinsic_matrices
from shapewright.geometry.pose_bins import BinTable
from shapewright.geometry.solid_voxels import KATO32, VoxelRule
from shapewright.rendering.projections import ParallelViews, project_perspective

_SAME_POSE = 1e-3
# Nearer to a camera nothing is drawn.
_NEAR = 0.1


@dataclass(frozen=True)
class PictureViews:
    """Hold where pictures were taken from: one row of cameras for all objects, or one row for each object.

    Args:
        world_from_camera: OpenCV axes and optical centre, right-handed world, y up; one row: shared by all objects.
        half_angle_deg: Half the field of view of the square pictures; None: orthographic, half a picture a unit.
    """

    world_from_camera: Float[Tensor, "rows views 3 4"]
    half_angle_deg: float | None

    def __post_init__(self) -> None:
        check_shape("world_from_camera", self.world_from_camera, (None, None, 3, 4))

    @property
    def is_shared(self) -> bool:
        """Tell if all objects were seen from the same places."""
        return len(self.world_from_camera) == 1

    @property
    def is_ring(self) -> bool:
        """Tell if all objects were seen from places evenly spaced around the vertical axis, in order."""
        count = self.world_from_camera.shape[1]
        if not self.is_shared or count < 2:
            return False
        step = 2 * np.pi / count
        return any(self._turned(sign * step).allclose(self.world_from_camera[0], atol=_SAME_POSE) for sign in (1, -1))

    def is_like(self, other: PictureViews) -> bool:
        """Tell if all objects of both sets were seen from the same places."""
        own, its = self.world_from_camera, other.world_from_camera
        return self.is_shared and other.is_shared and own.shape == its.shape and own.allclose(its, atol=_SAME_POSE)

    def _turned(self, angle: float) -> Float[Tensor, "views 3 4"]:
        """Return the cameras turned around the vertical axis: the first by none, each further one by ``angle`` more.

        Every one of them is the first camera, turned; so they are those of ``world_from_camera`` if that is a ring.
        """
        angles = angle * torch.arange(self.world_from_camera.shape[1])
        cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
        rows = [cos, zero, sin, zero, zero + 1, zero, -sin, zero, cos]
        return torch.stack(rows, dim=1).unflatten(1, (3, 3)) @ self.world_from_camera[0, 0]

    def poses(self, objects: Int64[Tensor, " n"], views: Int64[Tensor, " n"]) -> Float[Tensor, "n 3 4"]:
        """Return ``world_from_camera`` of pictures."""
        return self.world_from_camera[torch.zeros_like(objects) if self.is_shared else objects, views]

    def project(
        self,
        vertices: Float[Tensor, "n vertices 3"],
        objects: Int64[Tensor, " n"],
        views: Int64[Tensor, " n"],
        size: int,
    ) -> Float[Tensor, "n vertices 3"]:
        """Return x and y in pixels and the depth of one mesh a picture.

        Args:
            vertices: In the world.
            objects: Which object each picture shows.
            views: Which of its pictures.
            size: Pixels along each side.
        """
        return project_to(vertices, self.poses(objects, views), self.half_angle_deg, size)


def mirrored_cameras(world_from_camera: Float[Tensor, "*n 3 4"]) -> Float[Tensor, "*n 3 4"]:
    """Return the cameras of flipped pictures: ``diag(1, 1, -1) R diag(-1, 1, 1)``, and the eye mirrored in z.

    A flipped picture is one of the object mirrored in z; if that looks the same, it is another view of the object.
    """
    world = world_from_camera.new_tensor([1.0, 1.0, -1.0])[:, None]
    return world * world_from_camera * world_from_camera.new_tensor([-1.0, 1.0, 1.0, 1.0])


def mirrored_row(world_from_camera: Float[Tensor, "views 3 4"]) -> Int64[Tensor, " views"] | None:
    """Return which view of a row stands where the mirror image of each does; None if one has no such view."""
    row, mirrored = world_from_camera.flatten(1), mirrored_cameras(world_from_camera).flatten(1)
    distance, place = torch.cdist(mirrored, row).min(dim=1)
    return place if bool((distance < _SAME_POSE).all()) else None


def near_of(half_angle_deg: float | None) -> float | None:
    """Return the least depth for the rasteriser: none in parallel projections."""
    return None if half_angle_deg is None else _NEAR


def project_to(
    vertices: Float[Tensor, "n vertices 3"],
    world_from_camera: Float[Tensor, "n 3 4"],
    half_angle_deg: float | None,
    size: int,
) -> Float[Tensor, "n vertices 3"]:
    """Return x and y in pixels and the depth of vertices, for poses as ``PictureViews`` has them."""
    rotation, eye = world_from_camera[:, :, :3].to(vertices), world_from_camera[:, :, 3].to(vertices)
    if half_angle_deg is None:
        depth = -(eye[:, None] @ rotation)[:, 0]
        screen = ParallelViews.orthographic(rotation.transpose(1, 2)).project(vertices, size)
        return screen + torch.cat([depth[:, :2] * (size / 2), depth[:, 2:]], dim=1)[:, None]
    focal = torch.full_like(eye[:, 0], size / (2 * float(np.tan(np.radians(half_angle_deg)))))
    middle = torch.full_like(focal, size / 2)
    intrinsics = intrinsic_matrices(focal, focal, middle, middle)
    sizes = torch.full((len(focal), 2), size)
    return project_perspective(vertices, Cameras(world_from_camera.to(vertices), intrinsics, sizes))


@dataclass(frozen=True)
class PictureSet:
    """Hold the pictures of one split.

    Args:
        images: RGB times mask, then the mask; may be mapped from files.
        views: Their cameras.
        pose_bins: The bin of each picture's pose.
        num_bins: How many bins there are.
        ids: Names of the objects.
        categories: Category of each object.
        voxels: What is inside, 32 cells a side by the data set's rule, indexed by x, y, z of the world; for judging.
        points: Points on the surface, for judging.
        targets: Masks to be learned where they are not those of ``images``.
        voxel_rule: How the voxels were made, and how predictions are to be compared with them.
        mirrored_bins: The bin of each pose mirrored in z, which is that of the flipped picture; None: not known.
        bin_table: What the bins are numbered by; None: by the views.
    """

    images: UInt8[np.ndarray, "objects views channels size size"] | JoinedArrays
    views: PictureViews
    pose_bins: Int64[Tensor, "objects views"]
    num_bins: int
    ids: tuple[str, ...]
    categories: tuple[str, ...]
    voxels: Bool[np.ndarray, "objects 32 32 32"] | None = None
    points: Float[np.ndarray, "objects n 3"] | None = None
    targets: UInt8[np.ndarray, "objects views height width"] | JoinedArrays | None = None
    voxel_rule: VoxelRule = KATO32
    mirrored_bins: Int64[Tensor, "objects views"] | None = None
    bin_table: BinTable | None = None

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.images)

    @property
    def num_views(self) -> int:
        """Return the number of pictures of each object."""
        return self.images.shape[1]

    @property
    def size(self) -> int:
        """Return the number of pixels along each side."""
        return self.images.shape[-1]

    def learned_masks(
        self, objects: slice | Int64[np.ndarray, " n"], views: slice | Int64[np.ndarray, " n"] = slice(None)
    ) -> UInt8[np.ndarray, "*n height width"]:
        """Return masks to be learned: of all views of some objects, or of one view of each."""
        return self.images[objects, views, -1] if self.targets is None else self.targets[objects, views]

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the categories, sorted, each once."""
        return tuple(sorted(set(self.categories)))

    @property
    def file_names(self) -> tuple[str, ...]:
        """Return a name for files about each object: its own, after its category where two share one."""
        count = Counter(self.ids)
        named = zip(self.categories, self.ids, strict=True)
        return tuple(word if count[word] == 1 else f"{category}_{word}" for category, word in named)

    def spread(self, count: int) -> PictureSet:
        """Return some objects alone, spread evenly over the set and so over its classes."""
        if count >= len(self):
            return self
        places = torch.linspace(0, len(self) - 1, count).round().long()
        views = self.views
        if not views.is_shared:
            views = replace(views, world_from_camera=views.world_from_camera[places])
        named = ("voxels", "points", "targets")
        arrays = {name: value[places.numpy()] for name in named if (value := getattr(self, name)) is not None}
        return replace(
            self,
            images=self.images[places.numpy()],
            views=views,
            pose_bins=self.pose_bins[places],
            ids=tuple(self.ids[place] for place in places.tolist()),
            categories=tuple(self.categories[place] for place in places.tolist()),
            mirrored_bins=None if self.mirrored_bins is None else self.mirrored_bins[places],
            **arrays,
        )

    def pictures(self, objects: Int64[Tensor, " n"], views: Int64[Tensor, " n"]) -> Float[Tensor, "n channels h w"]:
        """Return pictures in [0, 1]: RGB times mask, then the mask."""
        return torch.from_numpy(self.images[objects.numpy(), views.numpy()]).float() / 255

    def masks(self, objects: Int64[Tensor, " n"], views: Int64[Tensor, " n"]) -> Float[Tensor, "n h w"]:
        """Return the masks to be learned, in [0, 1]."""
        return torch.from_numpy(self.learned_masks(objects.numpy(), views.numpy())).float() / 255

    def directions(self, objects: Int64[Tensor, " n"], views: Int64[Tensor, " n"]) -> Float[Tensor, "n 3"]:
        """Return the unit vectors from the origin towards the cameras."""
        pose = self.views.poses(objects, views)
        return normalize(pose[:, :, 3] if self.views.half_angle_deg is not None else -pose[:, :, 2], dim=1)
