"""What one view says about space: where it is empty, where the surface is, and what lies hidden behind it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_range, check_shape
from shapewright.geometry.cameras import Cameras

FREE, SURFACE, HIDDEN = 0, 1, 2
LARGEST_PIXELS = 512
SPLAT_PADDING = 1.05
SILHOUETTE_WIDTH = 0.8
LARGEST_SLOPE = 4.0  # of the depth from pixel to pixel, in widths of a pixel


@dataclass(frozen=True)
class DepthView:
    """Hold how far the rays of one picture get.

    Args:
        camera: The camera, one view.
        lengths: Length of the ray through each pixel's centre up to the surface, in world units; infinite where it
            meets nothing, 0 where nothing is known.

    Raises:
        ValueError: if there is not exactly one view, a size differs, or a length is negative or NaN.
    """

    camera: Cameras
    lengths: Float[Tensor, "height width"]

    def __post_init__(self) -> None:
        if len(self.camera) != 1:
            raise ValueError(f"A depth view has one camera, got {len(self.camera)}.")
        width, height = self.camera.sizes[0].tolist()
        check_shape("lengths", self.lengths, (height, width))
        if not bool((self.lengths >= 0).all()):
            raise ValueError("lengths must not be negative or NaN.")

    def transformed(self, scale: float, translation: Float[Tensor, " 3"]) -> DepthView:
        """Return the view with every position ``x`` of its world moved to ``scale * x + translation``."""
        pose = self.camera.world_from_camera.clone()
        pose[:, :, 3] = scale * pose[:, :, 3] + translation.to(pose)
        return DepthView(replace(self.camera, world_from_camera=pose), scale * self.lengths)

    def rays(self) -> tuple[Float[Tensor, "pixels 3"], Float[Tensor, "pixels 3"]]:
        """Return origins and unit directions of the rays through the pixels, row by row."""
        return self.camera.image_rays(0)


@dataclass(frozen=True)
class FreeRays:
    """Hold pieces of rays that run through empty space inside the unit sphere.

    Args:
        origins: Where each ray enters the sphere (or starts inside it).
        directions: Unit vectors.
        lengths: How far it is free from there: to the surface, or to the end of the sphere.
        hits: Whether a surface ends it.
    """

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]
    lengths: Float[Tensor, " rays"]
    hits: Bool[Tensor, " rays"]


@dataclass(frozen=True)
class PartialScan:
    """Hold the oriented points that one view sees, and the view where it is known.

    Args:
        points: Positions on the surface.
        normals: Unit normals, turned to the camera.
        camera_center: From where the points were seen; ``None`` if nobody knows.
        view: How far the rays of the picture get; ``None`` leaves space without information.

    Raises:
        ValueError: if shapes differ, or a number is not finite.
    """

    points: Float[Tensor, "points 3"]
    normals: Float[Tensor, "points 3"]
    camera_center: Float[Tensor, " 3"] | None = None
    view: DepthView | None = None

    def __post_init__(self) -> None:
        check_shape("points", self.points, (None, 3))
        check_shape("normals", self.normals, tuple(self.points.shape))
        check_finite("points", self.points)
        check_finite("normals", self.normals)

    @property
    def num_points(self) -> int:
        """Return the number of points."""
        return len(self.points)

    @property
    def hit_distances(self) -> Float[Tensor, " points"]:
        """Return the distance of each point from the camera.

        Raises:
            ValueError: if the camera is unknown.
        """
        if self.camera_center is None:
            raise ValueError("The camera of the scan is unknown.")
        return (self.points - self.camera_center).norm(dim=-1)

    @property
    def free_rays(self) -> FreeRays:
        """Return the rays that are known to be free: those of the picture, or else those to the points.

        Without a camera there are none.
        """
        if self.view is not None:
            origins, directions = self.view.rays()
            return _clipped(origins, directions, self.view.lengths.reshape(-1))
        if self.camera_center is None:
            empty = self.points.new_zeros(0, 3)
            return FreeRays(empty, empty, empty[:, 0], torch.zeros(0, dtype=torch.bool))
        lengths = self.hit_distances
        directions = (self.points - self.camera_center) / lengths[:, None]
        return _clipped(self.camera_center.expand_as(directions), directions, lengths)

    def transformed(self, scale: float, translation: Float[Tensor, " 3"]) -> PartialScan:
        """Return the scan with every position ``x`` moved to ``scale * x + translation``.

        Raises:
            ValueError: if ``scale`` is not positive.
        """
        if not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}.")
        shift = translation.to(self.points)
        center = None if self.camera_center is None else scale * self.camera_center + shift
        view = None if self.view is None else self.view.transformed(scale, shift)
        return PartialScan(scale * self.points + shift, self.normals, center, view)


def _clipped(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], lengths: Float[Tensor, " rays"]
) -> FreeRays:
    """Return the pieces of rays inside the unit sphere, without those that miss it or know nothing."""
    middle = -(origins * directions).sum(-1)
    square = middle**2 - (origins**2).sum(-1) + 1.0
    half = square.clamp(min=0).sqrt()
    start, end = (middle - half).clamp(min=0), torch.minimum(middle + half, lengths)
    kept = (square > 0) & (end > start)
    entry = (origins + start[:, None] * directions)[kept]
    return FreeRays(entry, directions[kept], (end - start)[kept], (lengths <= middle + half)[kept])


def sample_free_space(
    scan: PartialScan, count: int, generator: torch.Generator, margin: float = 0.01
) -> Float[Tensor, "count 3"]:
    """Return points spread along the free rays of a scan, evenly by length.

    Args:
        scan: The scan; its camera must be known.
        count: How many points.
        generator: Source of randomness.
        margin: Length left out before a surface.

    Raises:
        ValueError: if no ray is free for longer than the margin.
    """
    rays = scan.free_rays
    lengths = (rays.lengths - margin * rays.hits).clamp(min=0).cpu().double()
    edges = lengths.cumsum(0)
    if not len(edges) or not edges[-1] > 0:
        raise ValueError("The scan has no free ray: its camera is unknown, or sits on the surface.")
    draws = torch.rand(2, count, generator=generator, dtype=torch.float64)
    chosen = torch.searchsorted(edges, draws[0] * edges[-1], right=True).clamp(max=len(edges) - 1)
    along = (draws[1] * lengths[chosen]).to(rays.origins)
    chosen = chosen.to(rays.origins.device)
    return rays.origins[chosen] + along[:, None] * rays.directions[chosen]


def observe(
    view: DepthView, points: Float[Tensor, "points 3"], margin: float = 0.01, truncation: float = 0.1
) -> tuple[Int64[Tensor, " points"], Float[Tensor, " points"]]:
    """Return what one view knows about points: their state, and how far before the surface they lie.

    The surface between pixel centres is interpolated in inverse depth, which is exact on planes; across a jump of
    the depth the nearest pixel decides.

    Args:
        view: The depths of the picture.
        points: Positions in its world.
        margin: Half the width of the layer that counts as the surface.
        truncation: Largest magnitude of the distance.

    Returns:
        state: ``FREE`` (seen to be empty), ``SURFACE`` (within the margin) or ``HIDDEN`` (behind a surface, outside
            the picture, or on a ray without measurement).
        distance: Along the ray, positive before the surface, negative behind it; ``truncation`` on rays that meet
            nothing, ``-truncation`` where nothing is known.
    """
    camera = view.camera.to(points.device, points.dtype)
    uv, depth = camera.project(points, 0)
    width, height = camera.sizes[0].tolist()
    held = (depth > 0) & (uv >= 0).all(-1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    depths = view.lengths.to(points) / _ray_stretch(camera)
    surface = _surface_depth(depths, torch.where(held[:, None], uv, 0.5))
    known = held & (surface > 0)
    stretch = (points - camera.centers[0]).norm(dim=-1) / depth.clamp(min=1e-9)
    distance = (surface - depth) * stretch
    distance = torch.where(known, distance, -math.inf).clamp(-truncation, truncation)
    state = torch.where(distance > margin, FREE, torch.where(distance >= -margin, SURFACE, HIDDEN))
    return state, distance


def _ray_stretch(camera: Cameras) -> Float[Tensor, "height width"]:
    """Return the length of the ray through each pixel up to depth 1."""
    width, height = camera.sizes[0].tolist()
    _, directions = camera.image_rays(0)
    return 1.0 / (directions @ camera.forward[0]).reshape(height, width)


def _surface_depth(depths: Float[Tensor, "height width"], uv: Float[Tensor, "points 2"]) -> Float[Tensor, " points"]:
    """Return the depth of the surface at positions in the picture: infinite or 0 where the pixel says so."""
    height, width = depths.shape
    size = torch.tensor([width, height], device=uv.device)
    nearest = torch.minimum(uv.floor().long(), size - 1)
    nearest_depth = depths[nearest[:, 1], nearest[:, 0]]
    base = torch.minimum((uv - 0.5).floor().long(), size - 2).clamp(min=0)
    offset = (uv - 0.5 - base).clamp(0, 1)
    steps = torch.cartesian_prod(*[torch.arange(2, device=uv.device)] * 2)
    corner = torch.minimum(base[:, None] + steps, size - 1)
    weight = torch.where(steps.bool(), offset[:, None], 1 - offset[:, None]).prod(-1)
    around = depths[corner[..., 1], corner[..., 0]]
    inverse = (weight / around).sum(-1)
    lowest, highest = around.aminmax(dim=-1)
    smooth = (lowest > 0) & highest.isfinite() & (highest - lowest < LARGEST_SLOPE * highest * 2 / width)
    return torch.where(smooth, 1 / inverse, nearest_depth)


def smooth_freeness(
    view: DepthView, points: Float[Tensor, "points 3"], truncation: float = 0.04
) -> Float[Tensor, " points"]:
    """Return how far points lie in seen free space: positive there, negative where the view is blocked, without steps.

    The signed distances along the rays of the sixteen pixels around, cut off at ``truncation``, are averaged with a
    Gaussian of 0.8 pixels. The zero level follows the surface, and runs between the pixels along silhouettes.

    Args:
        view: The depths of the picture.
        points: Positions in its world.
        truncation: Largest magnitude; also the value, negative, where nothing is known.
    """
    camera = view.camera.to(points.device, points.dtype)
    depths = view.lengths.to(points) / _ray_stretch(camera)
    height, width = depths.shape
    uv, depth = camera.project(points, 0)
    held = (depth > 0) & (uv >= 0).all(-1) & (uv[:, 0] < width) & (uv[:, 1] < height)
    uv = torch.where(held[:, None], uv, 0.5) - 0.5
    stretch = (points - camera.centers[0]).norm(dim=-1) / depth.clamp(min=1e-9)
    base = uv.floor().long()
    total, weights = torch.zeros_like(depth), torch.zeros_like(depth)
    for dy in (-1, 0, 1, 2):
        for dx in (-1, 0, 1, 2):
            column, row = base[:, 0] + dx, base[:, 1] + dy
            square = (uv[:, 0] - column) ** 2 + (uv[:, 1] - row) ** 2
            weight = torch.exp(-square / (2 * SILHOUETTE_WIDTH**2))
            surface = depths[row.clamp(0, height - 1), column.clamp(0, width - 1)]
            ahead = ((surface - depth) * stretch).clamp(-truncation, truncation)
            total = total + weight * torch.where(surface > 0, ahead, -truncation)
            weights = weights + weight
    return torch.where(held, total / weights, -truncation)


def view_from_points(points: Float[Tensor, "points 3"], camera_center: Float[Tensor, " 3"]) -> DepthView:
    """Return the depths of a cloud seen from one place: the nearest point of each pixel, unknown elsewhere.

    The picture frames the cloud; its pixels are as wide as the points lie apart, so that most of the surface gets
    one. What no point covers stays unknown: a cloud alone does not tell background from gaps.

    Raises:
        ValueError: if there is no point, or one lies at the camera.
    """
    offset = points - camera_center
    distance = offset.norm(dim=-1)
    if not len(points) or not float(distance.min()) > 0:
        raise ValueError("There must be points, and none at the camera.")
    axis = torch.nn.functional.normalize((offset / distance[:, None]).mean(0), dim=0)
    cosine = float((offset @ axis / distance).min().clamp(0.05, 1.0))
    half_angle = min(math.acos(cosine) * SPLAT_PADDING + 1e-3, math.radians(85))
    pixels = int(max(8, min(LARGEST_PIXELS, math.sqrt(len(points)))))
    up = torch.eye(3).to(points)[int(axis.abs().argmin())]
    camera = Cameras.from_look_at(
        camera_center[None], camera_center + axis, up, math.degrees(2 * half_angle), torch.tensor([[pixels, pixels]])
    )
    uv, _ = camera.project(points, 0)
    column, row = uv.floor().long().clamp(0, pixels - 1).unbind(-1)
    lengths = torch.full((pixels * pixels,), math.inf).to(points)
    lengths = lengths.scatter_reduce(0, row * pixels + column, distance, "amin")
    return DepthView(camera, torch.where(lengths.isfinite(), lengths, 0.0).reshape(pixels, pixels))


def scan_from_cloud(
    points: Float[Tensor, "points 3"],
    normals: Float[Tensor, "points 3"],
    camera_center: Float[Tensor, " 3"] | None = None,
) -> PartialScan:
    """Return the scan that a cloud of oriented points is, with its view where the camera is known."""
    check_range("the number of points", len(points), 1)
    view = None if camera_center is None else view_from_points(points, camera_center)
    return PartialScan(points, normals, camera_center, view)
