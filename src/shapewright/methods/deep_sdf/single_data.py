"""From a scan, signed distances or a mesh to the points that one shape is trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from shapewright.data.sdf_samples import read_samples
from shapewright.engine.seed import make_generator
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh, face_cross_products, sample_triangles
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.point_cloud import (
    NEIGHBOURS,
    PointCloud,
    estimate_normals,
    nearest_neighbours,
    point_spacing,
    remove_outliers,
    unique_points,
    voxel_downsample,
)
from shapewright.geometry.point_orientation import cloud_winding_number, orient_normals, orient_towards
from shapewright.geometry.sampling import MARGIN, Normalisation
from shapewright.geometry.signed_distance import SignedDistance
from shapewright.io.meshes import read_mesh
from shapewright.io.point_clouds import read_point_cloud, scan_kind
from shapewright.methods.deep_sdf.single_config import ScanConfig, SingleConfig, SpaceConfig

LEAST_POINTS = 100
_CUBE_MARGIN = 1.1
_BOX_MARGIN = 0.03
_USUAL_BOX = 1.1
_MOST_UNKNOWN = 0.1
_SHEET_STEP = 2e-3
_SOME_POINTS = 20_000
_LOGISTIC_SCALES = (1.0 / 1024, 0.02)


@dataclass(frozen=True)
class TrainingPoints:
    """Hold what one shape is trained on, in normalised units.

    Attributes:
        surface: Points of the surface, perhaps none, with normals (zero where unknown) and colours.
        space: Points around it, with the least and the greatest signed distance there.
        box: Lowest and highest corner of the box that the mesh is drawn in.
        spacing: How far apart the surface's points lie; 0: not a cloud.
        noise: How far the points lie off the surface, about; 0: not known.
        placement: How the input's coordinates became these.
        kind: What the input was.
        notes: What was done to it, in words.
    """

    surface: PointCloud
    space: Float[Tensor, "space 3"]
    lower: Float[Tensor, " space"]
    upper: Float[Tensor, " space"]
    box: Float[Tensor, "2 3"]
    spacing: float
    noise: float
    placement: Normalisation
    kind: Literal["cloud", "samples", "mesh"]
    notes: tuple[str, ...] = ()

    @property
    def half_side(self) -> float:
        """Return half the side of the cube around the origin that holds the box."""
        return _CUBE_MARGIN * float(self.box.abs().max())


def placement_of(points: Float[Tensor, "points 3"]) -> Normalisation:
    """Return what moves the middle of the points' box to the origin and the points within a radius of 1 / 1.03.

    Raises:
        UserError: if the points have no extent, or one that single precision cannot hold.
    """
    wide = points.double()
    middle = ((wide.amin(0) + wide.amax(0)) / 2).float().double()
    radius = float((wide - middle).norm(dim=1).max())
    if not 1e-30 < radius < 1e30:
        raise UserError(
            f"The input's points lie within a radius of {radius:g}: no shape can be drawn from that.",
            "Check the file: all points may be at one place.",
        )
    return Normalisation(-middle, 1.0 / (MARGIN * radius))


def restored(mesh: Mesh, placement: Normalisation) -> Mesh:
    """Return a mesh of normalised space in the input's units."""
    return replace(mesh, vertices=placement.invert(mesh.vertices.double()).float())


def read_training_points(path: Path, config: SingleConfig, seed: int) -> TrainingPoints:
    """Return what a file says about a shape, made ready for training.

    Raises:
        UserError: if the file cannot be read or says too little.
    """
    kind = scan_kind(path) if config.scan.kind == "auto" else config.scan.kind
    generator = make_generator(seed, "scan")
    if kind == "samples":
        return from_samples(path)
    if kind == "mesh":
        return from_mesh(read_mesh(path), config.scan, generator, str(path))
    return from_cloud(read_point_cloud(path), config, generator, str(path))


def from_cloud(cloud: PointCloud, config: SingleConfig, generator: torch.Generator, name: str) -> TrainingPoints:
    """Return what a cloud says: thinned, cleaned, with normals, and bounds in the space around it.

    Args:
        cloud: The points.
        config: Settings.
        generator: Draws the points in space.
        name: How messages call the cloud.

    Raises:
        UserError: if there are fewer than 100 points, all at one place or with unusable normals.
    """
    cloud, notes = _cleaned(cloud, config.scan, generator, name)
    placement = placement_of(cloud.points)
    points = placement.apply(cloud.points.double()).float()
    spacing = float(point_spacing(points).median())
    _, deviations = estimate_normals(points)
    noise = float(deviations.median())
    viewpoint = None
    if config.scan.viewpoint is not None:
        viewpoint = placement.apply(torch.tensor(config.scan.viewpoint, dtype=torch.float64)).float()
    normals, how = _normals(replace(cloud, points=points), config.scan, viewpoint, noise, name)
    surface = PointCloud(points, normals, cloud.colors)
    space, lower, upper = _space(surface, config.space, viewpoint, noise, generator)
    margin = max(4.0 * spacing, _BOX_MARGIN)
    box = surface.bounds + torch.tensor([[-margin], [margin]])
    notes = (*notes, f"Normals: {how}.")
    return TrainingPoints(surface, space, lower, upper, box, spacing, noise, placement, "cloud", notes)


def _cleaned(
    cloud: PointCloud, config: ScanConfig, generator: torch.Generator, name: str
) -> tuple[PointCloud, tuple[str, ...]]:
    """Return the cloud without duplicates and outliers, thinned, and what was done."""
    notes = [f"{cloud.num_points:,} points"]
    cloud = unique_points(cloud)
    size = config.voxel
    if not size and cloud.num_points > config.max_points:
        some = torch.randperm(cloud.num_points, generator=generator)[:_SOME_POINTS]
        size = float(point_spacing(cloud.points[some]).median()) * math.sqrt(_SOME_POINTS / config.max_points)
    if size:
        cloud = voxel_downsample(cloud, size)
        notes.append(f"thinned to {cloud.num_points:,}")
    if config.remove_outliers:
        before = cloud.num_points
        cloud, _ = remove_outliers(cloud)
        if cloud.num_points < before:
            notes.append(f"{before - cloud.num_points:,} outliers left out")
    if cloud.num_points < LEAST_POINTS:
        raise UserError(
            f"{name} has {cloud.num_points} usable points, fewer than {LEAST_POINTS}.",
            "Give a denser scan; with --config.scan.voxel or outlier removal, check their sizes.",
        )
    return cloud, (", ".join(notes) + ".",)


def _normals(
    cloud: PointCloud, config: ScanConfig, viewpoint: Float[Tensor, " 3"] | None, noise: float, name: str
) -> tuple[Float[Tensor, "points 3"], str]:
    """Return the normals to train with, and where they come from."""
    if config.normals == "none":
        return torch.zeros_like(cloud.points), "none"
    if cloud.normals is not None and config.normals != "estimate":
        unknown = float((cloud.normals.square().sum(1) < 0.25).float().mean())
        if unknown > _MOST_UNKNOWN:
            raise UserError(
                f"{name}: {100 * unknown:.0f} % of the normals are zero.",
                "Export them again, or add --scan.normals estimate.",
            )
        return cloud.normals, "from the file"
    if config.normals == "file":
        raise UserError(f"{name} has no normals.", "Leave out --scan.normals file: they can be estimated.")
    neighbours = config.neighbours or _neighbours(cloud.points, noise)
    normals, _ = estimate_normals(cloud.points, neighbours)
    how = f"estimated from {neighbours} neighbours"
    if viewpoint is not None:
        return orient_towards(cloud.points, normals, viewpoint), f"{how}, turned to the viewpoint"
    return orient_normals(cloud.points, normals), f"{how}, turned outwards"


def _neighbours(points: Float[Tensor, "points 3"], noise: float) -> int:
    """Return how many points a normal needs: a disc of eight times the noise."""
    spacing = max(float(point_spacing(points).median()), 1e-12)
    return int(min(max(math.pi * (8.0 * noise / spacing) ** 2, NEIGHBOURS), 4 * NEIGHBOURS))


def _space(
    surface: PointCloud, config: SpaceConfig, viewpoint: Float[Tensor, " 3"] | None, noise: float,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "space 3"], Float[Tensor, " space"], Float[Tensor, " space"]]:  # fmt: skip
    """Return points around a cloud and the bounds of the signed distance there."""
    half = _CUBE_MARGIN * float(surface.points.abs().max())
    uniform = (torch.rand(config.uniform, 3, generator=generator) * 2.0 - 1.0) * half
    near = []
    for width in config.widths:
        count = config.near // len(config.widths)
        chosen = torch.randint(surface.num_points, (count,), generator=generator)
        near.append(surface.points[chosen] + width * torch.randn(count, 3, generator=generator))
    space = torch.cat([*near, uniform]).clamp(-half, half)
    if config.guide == "winding" and surface.normals is not None and bool((surface.normals != 0).any()):
        lower, upper = winding_bounds(surface, space, config.trust_spacings, noise)
    else:
        lower, upper = torch.full((len(space),), -math.inf), torch.full((len(space),), math.inf)
    if viewpoint is None:
        return space, lower, upper
    # What a scanner looked through is empty.
    chosen = torch.randint(surface.num_points, (config.uniform,), generator=generator)
    along = torch.rand(config.uniform, 1, generator=generator)
    free = viewpoint + along * (surface.points[chosen] - viewpoint)
    free = free[(free.abs() < half).all(1)]
    nearest = nearest_neighbours(surface.points, free, 1)[0][:, 0]
    return torch.cat([space, free]), torch.cat([lower, torch.zeros(len(free))]), torch.cat([upper, nearest])


def winding_bounds(
    surface: PointCloud, queries: Float[Tensor, "queries 3"], trust_spacings: float, noise: float
) -> tuple[Float[Tensor, " queries"], Float[Tensor, " queries"]]:
    """Return the least and the greatest signed distance that an oriented cloud allows at each query.

    The nearest point is no nearer than the surface, and where points lie a spacing ``h`` apart the surface is no nearer
    than ``sqrt(d^2 - h^2)``. The winding number tells the side. Where the nearest point is close the side is left
    open. A query cannot be farther from the surface than from a query on the other side: across a hole of the scan,
    that leaves the field room to pass through zero.

    Args:
        surface: Points and normals.
        queries: Where to look.
        trust_spacings: From how many spacings on the side counts.
        noise: How far points lie off the surface.
    """
    if surface.normals is None:
        raise ValueError("Bounds by winding numbers need normals.")
    distances, nearest = nearest_neighbours(surface.points, queries, 1)
    distance, spacing = distances[:, 0], point_spacing(surface.points)[nearest[:, 0]]
    is_known = surface.normals.square().sum(1) > 0.25
    known = surface.select(is_known)
    assert known.normals is not None
    is_inside = cloud_winding_number(known.points, known.normals, queries) > 0.5
    across = torch.full_like(distance, math.inf)
    if bool(is_inside.any()) and not bool(is_inside.all()):
        for side in (is_inside, ~is_inside):
            across[side] = nearest_neighbours(queries[~side], queries[side], 1)[0][:, 0]
    greatest = torch.minimum(distance + noise, across)
    least = (distance.square() - spacing.square()).clamp(min=0.0).sqrt() - noise
    least = torch.where(least > across, 0.0, least.clamp(min=0.0))
    is_open = distance < trust_spacings * spacing + 3.0 * noise
    least = torch.where(is_open, -distance - noise, least)
    greatest = torch.where(is_open, distance + noise, greatest)
    return torch.where(is_inside, -greatest, least), torch.where(is_inside, -least, greatest)


def from_samples(path: Path) -> TrainingPoints:
    """Return what signed distances in the layout of DeepSDF say: arrays ``pos`` and ``neg`` of ``x, y, z, sdf``.

    Coordinates within the usual box of [-1, 1] are taken as normalised; others are moved there, distances with them.

    Raises:
        UserError: if an array is missing or of another shape, or a side has no sample.
    """
    samples = read_samples(path).finite()
    for side, rows in (("outside", samples.positive), ("inside", samples.negative)):
        if not len(rows):
            raise UserError(
                f"{path} has no usable sample {side}: the shape has no {side}.",
                "Sample the mesh again, with sign repair.",
            )
    drawn = torch.from_numpy(samples.rows())
    if len(drawn) < LEAST_POINTS:
        raise UserError(f"{path} has {len(drawn)} samples, fewer than {LEAST_POINTS}.", "Draw more samples.")
    points, sdf = drawn[:, :3], drawn[:, 3]
    placement = Normalisation(torch.zeros(3, dtype=torch.float64), 1.0)
    if float(points.abs().max()) > _USUAL_BOX:
        placement = placement_of(points)
    points, sdf = placement.apply(points), sdf * placement.scale
    inside = points[sdf <= 0]
    box = torch.stack((inside.amin(0) - _BOX_MARGIN, inside.amax(0) + _BOX_MARGIN))
    nothing = PointCloud(torch.zeros(0, 3), torch.zeros(0, 3))
    notes = (f"{len(points):,} signed distances.",)
    return TrainingPoints(nothing, points, sdf, sdf, box, 0.0, 0.0, placement, "samples", notes)


def from_mesh(mesh: Mesh, config: ScanConfig, generator: torch.Generator, name: str) -> TrainingPoints:
    """Return what a mesh, perhaps a messy one, says: repaired signs, exact distances (Instant NGP, section 5.2).

    Half of the samples lie on the surface; those with an inside on one side and an outside on the other are kept, with
    the normal that points there. A quarter is moved off the surface by logistic offsets, half of them of scale 1 / 1024
    and half of 0.02; a quarter fills the cube, twice as many as in the paper, against ghosts. Distances to walls inside
    the shape and to open sheets say how far away its surface is at least, and the kept points how far at most.

    Raises:
        UserError: if the mesh has no area, or no inside.
    """
    placement = placement_of(mesh.vertices[mesh.faces.reshape(-1).unique()])
    placed = Mesh(placement.apply(mesh.vertices.double()), mesh.faces)
    try:
        repaired = repair_mesh(placed)
        on, faces = sample_triangles(repaired.mesh, config.samples // 2, generator)
    except ValueError as error:
        raise UserError(f"{name} cannot be sampled: {error}", "Export the mesh again.") from error
    distance_to = SignedDistance(repaired)
    count = config.samples // 4
    scale = torch.where(torch.rand(count, 1, generator=generator) < 0.5, *_LOGISTIC_SCALES)
    uniform = torch.rand(count, 3, generator=generator).clamp(1e-6, 1 - 1e-6)
    near = on[torch.randint(len(on), (count,), generator=generator)] + scale * torch.logit(uniform)
    box = placed.bounds.float() + torch.tensor([[-_BOX_MARGIN], [_BOX_MARGIN]])
    half = _CUBE_MARGIN * float(box.abs().max())
    anywhere = (torch.rand(count, 3, generator=generator) * 2.0 - 1.0) * half
    space = torch.cat([near.float(), anywhere]).clamp(-half, half)
    sdf = distance_to(space.double()).sdf.float()
    if not bool((sdf < 0).any()):
        raise UserError(
            f"{name} has no inside: none of {len(space):,} points lies in it.",
            "It may be an open sheet; give points with normals instead.",
        )
    normals = normalize(face_cross_products(repaired.mesh)[faces], dim=1)
    ahead, behind = (distance_to(on + step * normals).sdf > 0 for step in (_SHEET_STEP, -_SHEET_STEP))
    border, outwards = ahead != behind, torch.where(ahead, 1.0, -1.0)
    surface = PointCloud(on[border].float(), (outwards[:, None] * normals)[border].float())
    lower, upper = _exact_or_between(surface, space, sdf)
    notes = (f"{mesh.num_faces:,} triangles, {config.samples:,} samples.",)
    return TrainingPoints(surface, space, lower, upper, box, 0.0, 0.0, placement, "mesh", notes)


def _exact_or_between(
    surface: PointCloud, space: Float[Tensor, "space 3"], sdf: Float[Tensor, " space"]
) -> tuple[Float[Tensor, " space"], Float[Tensor, " space"]]:
    """Return bounds of the distance to the shape's border, where ``sdf`` is the one to any of its triangles."""
    if not surface.num_points:
        return sdf, sdf
    distances, nearest = nearest_neighbours(surface.points, space, 1)
    spacing = point_spacing(surface.points)[nearest[:, 0]]
    farthest = torch.where(distances[:, 0] > sdf.abs() + 2.0 * spacing, distances[:, 0], sdf.abs())
    return torch.where(sdf < 0, -farthest, sdf), torch.where(sdf < 0, sdf, farthest)
