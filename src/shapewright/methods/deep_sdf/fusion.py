"""One watertight mesh from half a scan and a guess: the seen surface from the points, the rest from the guess.

The solid is (guess or thin layer behind the seen surface) without seen free space. The guess is first bent towards
the points and dropped where the scan contradicts it; the layer keeps seen parts whole for which the guess has nothing.
Where the scan overlaps with its own mirror image, the image counts as a second, weaker scan.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.errors import UserError
from shapewright.geometry.free_space import HIDDEN, DepthView, PartialScan, observe, smooth_freeness
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh, face_areas
from shapewright.geometry.point_set_surface import PointSetSurface, SurfaceQuery
from shapewright.geometry.topology import component_labels, keep_faces
from shapewright.methods.deep_sdf.guess_warp import Field, LatticeField, fit_trust, fit_warp
from shapewright.methods.deep_sdf.mirror import MirrorPlane, find_mirror_plane, mirror_axes_of

LEAST_POINTS = 20
LEAST_CELLS = 1.6
LARGEST_RESIDUAL = 0.08
RESIDUAL_NEIGHBOURS = 32
RESIDUAL_REACH = 0.06
DOUBT_SLOPE = 0.25
EXTENT = 1.02


@dataclass(frozen=True, kw_only=True)
class FusionConfig:
    """Describe how a scan and a guess become one mesh; lengths in units of the unit sphere.

    Args:
        resolution: Lattice points along each side of the box of the unit sphere.
        thickness: Of a seen part behind which the guess has nothing; at least 1.6 cells of the lattice.
        least_trust: Share of the evidence around a place that must speak for the guess; 0 believes it everywhere.
        bend: Whether the guess is bent towards the points.
        mirror: Whether a mirror plane is looked for, and its image of the scan used.
        max_points: Pixels of the picture beyond this number are left out at random.
        least_part: Parts without a seen point are kept if they have this share of the area.
    """

    resolution: int = 192
    thickness: float = 0.02
    least_trust: float = 0.5
    bend: bool = True
    mirror: bool = True
    max_points: int = 20_000
    least_part: float = 0.05

    @property
    def cell(self) -> float:
        """Return the distance of neighbours on the lattice."""
        return 2 * EXTENT / (self.resolution - 1)

    @property
    def layer(self) -> float:
        """Return the thickness that the lattice can hold."""
        return max(self.thickness, LEAST_CELLS * self.cell)


@dataclass(frozen=True)
class _Scene:
    """Hold all that the fused field is computed from."""

    guess: Field
    surface: PointSetSurface
    is_seen: Bool[Tensor, " points"]
    residual: Float[Tensor, " points"]
    trust: LatticeField | None
    view: DepthView | None
    mirror: MirrorPlane | None
    config: FusionConfig

    @property
    def truncation(self) -> float:
        """Return the largest magnitude of the freeness."""
        return 2 * self.config.layer

    def __call__(self, points: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Return a field that is negative inside the fused solid and near its surface close to a signed distance."""
        query = self.surface(points)
        solid = torch.minimum(self._guessed(points, query), self._layer(query))
        seen = self.is_seen[query.neighbours[:, 0]]
        near_seen = ((2 * query.spacing - query.nearest) / query.spacing).clamp(0, 1) * seen
        free = near_seen * query.offset + (1 - near_seen) * self._freeness(points, query, seen)
        return torch.maximum(solid, free)

    def _guessed(self, points: Float[Tensor, "points 3"], query: SurfaceQuery) -> Float[Tensor, " points"]:
        """Return the guess, moved onto the seen points near them, and pushed outside where it is not trusted."""
        residual = (query.weights * self.residual[query.neighbours]).sum(-1)
        values = self.guess(points) - residual * torch.exp(-(query.nearest**2) / (2 * RESIDUAL_REACH**2))
        if self.trust is None:
            return values
        doubt = (self.config.least_trust - self.trust(points)[:, 0]).clamp(min=0)
        return values + DOUBT_SLOPE * doubt

    def _layer(self, query: SurfaceQuery) -> Float[Tensor, " points"]:
        """Return the distance to the thin layer behind the points."""
        thickness, rim = self.config.layer, 1.2 * query.spacing
        layer = torch.maximum(torch.maximum(query.offset, -(query.offset + thickness)), query.beside - rim)
        is_far = query.nearest > 4 * query.spacing + thickness
        return torch.where(is_far, query.nearest - thickness - rim, layer)

    def _freeness(
        self, points: Float[Tensor, "points 3"], query: SurfaceQuery, seen: Bool[Tensor, " points"]
    ) -> Float[Tensor, " points"]:
        """Return where space is free; the mirror image says nothing about the layer behind seen points."""
        blocked = -self.truncation
        if self.view is None:
            return torch.full_like(points[:, 0], blocked)
        free = smooth_freeness(self.view, points, self.truncation)
        if self.mirror is None:
            return free
        image = smooth_freeness(self.view, self.mirror.reflect(points), self.truncation)
        apart = ((query.nearest - self.config.layer) / query.spacing).clamp(0, 1)
        image = torch.where(seen, blocked + apart * (image - blocked), image)
        return torch.maximum(free, image)


@torch.no_grad()
def fuse(scan: PartialScan, guess: Field, config: FusionConfig | None = None) -> Mesh:
    """Return one closed mesh that follows the seen surface and takes the unseen one from a guess.

    Args:
        scan: Points with normals inside the unit sphere; the view where it is known.
        guess: Signed distance of the guessed whole shape, negative inside.
        config: Resolution and options; ``None`` for the defaults.

    Raises:
        UserError: if the scan has fewer than 20 points, or lies outside of the unit sphere.
        ValueError: if the resolution is below 16 or a length is negative.
    """
    config = FusionConfig() if config is None else config
    check_range("resolution", config.resolution, 16)
    check_range("thickness", config.thickness, 1e-4, 0.5)
    if scan.num_points < LEAST_POINTS:
        raise UserError(
            f"The scan has {scan.num_points} points; a surface needs at least {LEAST_POINTS}.",
            "Check the mask and the units of the scan.",
        )
    if float(scan.points.abs().max()) > EXTENT:
        raise UserError(
            "The scan reaches out of the unit sphere in which shapes are guessed.",
            "Give the offset and scale of the shape space, or let the pose be fitted.",
        )
    scene = _scene(scan, guess, config)
    corner = torch.full((3,), EXTENT)
    mesh = extract_isosurface(scene, -corner, corner, config.resolution).mesh
    seen = PointSetSurface(scene.surface.points[scene.is_seen], scene.surface.normals[scene.is_seen])
    return _cleaned(mesh, seen, config)


def _scene(scan: PartialScan, guess: Field, config: FusionConfig) -> _Scene:
    """Return the scan with its mirror image, and the guess bent to both."""
    points, normals = _dense_points(scan, config.max_points)
    surface = PointSetSurface(points, normals)
    is_seen = torch.ones(len(points), dtype=torch.bool)
    plane = None
    if config.mirror and scan.view is not None:
        plane = find_mirror_plane(surface, scan.view, mirror_axes_of(guess))
    if plane is not None and scan.view is not None:
        image, image_normals = _new_image(plane, surface, scan.view)
        is_seen = torch.cat([is_seen, torch.zeros(len(image), dtype=torch.bool)])
        surface = PointSetSurface(torch.cat([points, image]), torch.cat([normals, image_normals]))
    bent = guess
    if config.bend:
        warp = fit_warp(guess, surface.points, surface.normals)

        def bent(where: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
            return guess(where - warp(where).to(where))

    trust = None
    if config.least_trust > 0 and scan.view is not None:
        trust = fit_trust(bent, surface, scan.view)
    return _Scene(bent, surface, is_seen, _residual(bent, surface), trust, scan.view, plane, config)


def _dense_points(scan: PartialScan, max_points: int) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3"]]:
    """Return the points of all pixels that hit, each with the normal of the scan's point whose plane it fits best."""
    if scan.view is None:
        return scan.points, scan.normals
    lengths = scan.view.lengths.reshape(-1)
    hit = ((lengths > 0) & lengths.isfinite()).nonzero()[:, 0]
    order = torch.randperm(len(hit), generator=torch.Generator().manual_seed(0))[:max_points]
    if len(hit) <= scan.num_points:
        return scan.points, scan.normals
    hit = hit[order.sort().values]
    origins, directions = scan.view.rays()
    points = (origins[hit] + lengths[hit, None] * directions[hit]).to(scan.points)
    distance, index = PointSetSurface(scan.points, scan.normals).query(points, 4)
    offset = ((points[:, None] - scan.points[index]) * scan.normals[index]).sum(-1).abs() + 0.2 * distance
    best = index.gather(1, offset.argmin(1, keepdim=True))[:, 0]
    return points, scan.normals[best]


def _new_image(
    plane: MirrorPlane, surface: PointSetSurface, view: DepthView
) -> tuple[Float[Tensor, "points 3"], Float[Tensor, "points 3"]]:
    """Return the mirrored points that lie hidden and not where the surface is known anyway."""
    points, normals = plane.reflect(surface.points), plane.reflect_directions(surface.normals)
    state, _ = observe(view, points)
    is_new = (state == HIDDEN) & (surface.query(points, 1)[0][:, 0] > 1.5 * surface.typical_spacing)
    return points[is_new], normals[is_new]


def _residual(guess: Field, surface: PointSetSurface) -> Float[Tensor, " points"]:
    """Return what the guess says at the points, averaged over neighbours; 0 where it is far off."""
    values = torch.cat([guess(part) for part in surface.points.split(1 << 14)])
    values = torch.where(values.abs() < LARGEST_RESIDUAL, values, 0.0)
    _, around = surface.query(surface.points, min(RESIDUAL_NEIGHBOURS, len(values)))
    return values[around].mean(1)


def _cleaned(mesh: Mesh, seen: PointSetSurface, config: FusionConfig) -> Mesh:
    """Return the mesh without sealed cavities, and without small parts that no seen point supports."""
    labels = component_labels(mesh)
    count = int(labels.max()) + 1
    a, b, c = mesh.vertices[mesh.faces].double().unbind(1)
    volume = torch.zeros(count, dtype=torch.float64)
    volume.index_add_(0, labels, (a * torch.linalg.cross(b, c)).sum(-1) / 6)
    areas = torch.zeros(count, dtype=torch.float64).index_add_(0, labels, face_areas(mesh).double())
    nearest = seen.query((a + b + c).float() / 3, 1)[0][:, 0]
    supported = torch.zeros(count, dtype=torch.bool)
    supported[labels[nearest < 2 * config.cell]] = True
    kept = (volume > 0) & (supported | (areas > config.least_part * areas.sum()))
    return keep_faces(mesh, kept[labels]) if bool(kept.any()) else mesh
