"""Signed distances as DeepSDF's preprocessing takes them: from the points that virtual cameras around a mesh see.

This is for reproduction. Distances to the seen points are not exact, and points whose eleven nearest seen points do
not agree on a side are given up (facebookresearch/DeepSDF, arXiv:1901.05103, section 5); the modes of
``signed_distance`` do neither.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from shapewright.checks import check_finite, check_shape
from shapewright.geometry.mesh import Mesh, face_cross_products
from shapewright.geometry.ray_casting import RayCaster, fibonacci_directions

CAMERA_DISTANCE = 1.1
FAR = 2.5
GRAZING = 1e-3
NEIGHBOURS = 11
POINTS_PER_CALL = 50_000
# Above these the original calls a mesh rejected, and goes on.
MOST_WRONG_SHARE, MOST_BAD_TRIANGLES = 0.02, 0.03


class ScanDistance:
    """Answer the original's distances to one normalised mesh.

    Orthographic cameras on a sphere, in the directions of a Fibonacci lattice, see a square of side 2. Every pixel
    that shows a triangle gives its position and the triangle's flat normal, turned to the camera.

    Args:
        mesh: A mesh within the unit sphere.
        near: Distance below which a point is measured from the plane of its nearest seen point, and not from this
            point itself; the original takes the wider standard deviation of its samples.
        views: Cameras.
        resolution: Pixels along each side of a picture.

    Attributes:
        positions: What was seen.
        normals: The flat normals there, turned to the camera.
        wrong_share: Share of what was seen that belongs to a triangle seen from both sides.
        bad_triangles: Share of triangles that were seen from both sides.

    Raises:
        ValueError: if no triangle can be seen.
    """

    def __init__(self, mesh: Mesh, near: float, views: int = 100, resolution: int = 400) -> None:
        from scipy.spatial import cKDTree

        self.near = near
        self._seen = torch.zeros(mesh.num_faces, dtype=torch.int64)
        self._side = torch.zeros(mesh.num_faces, dtype=torch.int64)
        self._bad = torch.zeros(mesh.num_faces, dtype=torch.bool)
        caster = RayCaster(mesh)
        crosses = face_cross_products(mesh).double().cpu()
        flat_normals = torch.nn.functional.normalize(crosses, dim=-1, eps=torch.finfo(torch.float64).tiny)
        positions, normals = [], []
        for view in fibonacci_directions(views):
            scan = _Scan(caster, flat_normals, view, resolution)
            self._note_sides(scan.faces, scan.facing)
            positions.append(scan.positions)
            normals.append(scan.normals)
        self.positions, self.normals = torch.cat(positions), torch.cat(normals)
        if len(self.positions) < NEIGHBOURS:
            raise ValueError("No triangle can be seen from outside: there is nothing to scan.")
        self.wrong_share = float(self._seen[self._bad].sum() / self._seen.sum())
        self.bad_triangles = float(self._bad.double().mean())
        self._tree = cKDTree(self.positions.numpy(), balanced_tree=False, compact_nodes=False)

    def __call__(self, points: Float[Tensor, "points 3"]) -> tuple[Float[Tensor, " points"], Bool[Tensor, " points"]]:
        """Return distances, and whether all neighbours agree on the side; the original drops the other points.

        Raises:
            ValueError: if a point is not finite.
        """
        check_shape("points", points, (None, 3))
        check_finite("points", points)
        parts = [self._answer(part.detach().cpu().double()) for part in points.split(POINTS_PER_CALL)]
        sdf, agreed = zip(*parts, strict=True) if len(points) else ([torch.empty(0)], [torch.empty(0)])
        return torch.cat(sdf).to(points), torch.cat(agreed).bool().to(points.device)

    def _answer(self, points: Float[Tensor, "points 3"]) -> tuple[Tensor, Tensor]:
        distances, index = self._tree.query(points.numpy(), k=NEIGHBOURS)
        nearest = torch.from_numpy(np.ascontiguousarray(distances[:, 0]))
        offsets = points[:, None] - self.positions[index].double()
        heights = (self.normals[index].double() * offsets).sum(-1)
        votes = (heights > 0).sum(1)
        distance = torch.where(nearest < self.near, heights[:, 0].abs(), nearest)
        return torch.where(votes == 0, -distance, distance), (votes == 0) | (votes == NEIGHBOURS)

    def _note_sides(self, faces: Int64[Tensor, " pixels"], facing: Float[Tensor, " pixels"]) -> None:
        """Count what one camera saw; a triangle that showed its other side before is bad."""
        self._seen += torch.bincount(faces, minlength=len(self._seen))
        side = torch.zeros_like(self._side)
        side[faces] = facing.sign().long()
        self._bad |= side * self._side < 0
        self._side = torch.where(self._side == 0, side, self._side)


class _Scan:
    """What one camera sees: a position, a normal turned to it, and a triangle for each pixel that shows one."""

    def __init__(
        self, caster: RayCaster, flat_normals: Float[Tensor, "faces 3"], view: Float[Tensor, " 3"], resolution: int
    ) -> None:
        right = torch.nn.functional.normalize(torch.linalg.cross(torch.tensor([0.0, 1, 0]).to(view), view), dim=0)
        up = torch.linalg.cross(view, right)
        centres = (2 * torch.arange(resolution, dtype=torch.float64) + 1) / resolution - 1
        x, y = torch.meshgrid(centres, centres, indexing="xy")
        origins = CAMERA_DISTANCE * view + x.reshape(-1, 1) * right + y.reshape(-1, 1) * up
        face, distance = caster.first_hit(origins, (-view).expand_as(origins))
        shown = (face >= 0) & (distance <= FAR)
        facing = torch.zeros(len(face), dtype=torch.float64)
        facing[shown] = flat_normals[face[shown]] @ view
        shown &= facing.abs() >= GRAZING
        self.faces, self.facing = face[shown], facing[shown]
        self.positions = (origins[shown] - distance[shown, None] * view).float()
        self.normals = (self.facing.sign()[:, None] * flat_normals[self.faces]).float()
