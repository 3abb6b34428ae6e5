"""Signed distance samples of one mesh: the whole way from its file to the files of the samples, and its health."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from shapewright.data.sdf_samples import (
    MESHES,
    NORMALISATIONS,
    PREVIEWS,
    SAMPLES,
    SURFACES,
    SdfSamples,
    ShapeKey,
    make_parent,
    write_normalisation,
    write_samples,
)
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh, sample_surface
from shapewright.geometry.mesh_repair import RepairedMesh, repair_mesh
from shapewright.geometry.point_cloud import PointCloud
from shapewright.geometry.sampling import (
    Normalisation,
    RecipeName,
    SamplingRecipe,
    changed_recipe,
    normalisation,
    published_recipe,
    sample_positions,
)
from shapewright.geometry.scan_distance import MOST_BAD_TRIANGLES, MOST_WRONG_SHARE, ScanDistance
from shapewright.geometry.signed_distance import SignedDistance, SignMode
from shapewright.io.files import write_error
from shapewright.io.images import write_image
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.io.point_clouds import write_point_cloud

CONTESTED_WARNING, CONTESTED_FLAG = 0.05, 0.10
LEAST_INSIDE_SHARE = 0.02
# Half of what the preset for processors draws from a shape in a step; larger batches are covered by the share above.
LEAST_PER_SIDE = 512

Health = dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Say how each mesh is sampled.

    Args:
        recipe: Where samples lie.
        num_samples: Samples of each mesh; None: the recipe's number.
        variance: Of the wider noise; None: the recipe's.
        uniform_share: Share of samples spread over the box; None: the recipe's.
        sign: Where signs come from.
        rays: Rays from each side of each triangle in the repair.
        drop_contested: Leave out samples whose sign is doubtful.
        drop_hidden_faces: Drop triangles that no ray can leave.
        skip_flagged: Write no samples of a flagged mesh.
        surface: Points on the visible surface to keep for evaluation.
        preview: Draw the signs.
        seed: Start of all randomness.
    """

    recipe: RecipeName = "train"
    num_samples: int | None = None
    variance: float | None = None
    uniform_share: float | None = None
    sign: SignMode = "auto"
    rays: int = 8
    drop_contested: bool = False
    drop_hidden_faces: bool = False
    skip_flagged: bool = False
    surface: int = 0
    preview: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        lowest = {"num_samples": 1, "variance": 1e-12, "uniform_share": 0, "rays": 1, "surface": 0, "seed": 0}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and not value >= least:
                raise UserError(f"{name.replace('_', '-')} is {value}.", f"It must be at least {least}.")
        if self.uniform_share is not None and self.uniform_share > 1:
            raise UserError(f"uniform-share is {self.uniform_share}.", "It is a share: at most 1.")

    def sampling_recipe(self) -> SamplingRecipe:
        """Return where the samples lie."""
        recipe = published_recipe(self.recipe, self.num_samples)
        return changed_recipe(recipe, self.variance, self.uniform_share)

    def what_matters(self) -> dict[str, Any]:
        """Return the options that the sample files depend on."""
        apart = ("preview", "skip_flagged", "surface")
        return {name: value for name, value in asdict(self).items() if name not in apart}


@dataclass(frozen=True)
class ShapeTask:
    """Name one mesh to sample.

    Args:
        key: What the shape is called.
        source: File of the mesh.
        out: Folder of all samples.
        options: How to sample.
        variant: Which smooth deformation of the mesh to sample; 0: the mesh itself.
    """

    key: ShapeKey
    source: Path
    out: Path
    options: SamplingOptions
    variant: int = 0


class Answers(NamedTuple):
    """Hold signed distances, and which of them are sure."""

    sdf: Float[Tensor, " points"]
    sure: Bool[Tensor, " points"]


class Distances(Protocol):
    """Answer distances to one mesh, and tell how healthy the answers are."""

    def __call__(self, points: Float[Tensor, "points 3"]) -> Answers:
        """Return the distances at some points."""

    def health(self, answers: Answers) -> Health:
        """Return what the manifest keeps about some answers."""


class _Signed:
    """Exact distances; the sign of a winding number is sure where it is far from 0.5."""

    def __init__(self, mesh: Mesh | RepairedMesh, sign: SignMode) -> None:
        self._distance = SignedDistance(mesh, sign)
        self._has_winding = sign in ("auto", "winding")

    def __call__(self, points: Float[Tensor, "points 3"]) -> Answers:
        values = self._distance(points)
        return Answers(values.sdf, ~values.contested)

    def health(self, answers: Answers) -> Health:
        """Return the share of points whose winding number is near a half."""
        share = round(float((~answers.sure).double().mean()), 6)
        return {"contested_share": share if self._has_winding else None}


class _Scanned:
    """The original's distances, sure where all neighbours agree."""

    def __init__(self, mesh: Mesh, near: float) -> None:
        self._scan = ScanDistance(mesh, near)

    def __call__(self, points: Float[Tensor, "points 3"]) -> Answers:
        return Answers(*self._scan(points))

    def health(self, answers: Answers) -> Health:
        """Return what the scan found wrong, and the share of points on which it cannot decide."""
        return {
            "scan_dropped_share": round(float((~answers.sure).double().mean()), 6),
            "scan_wrong_share": round(self._scan.wrong_share, 6),
            "scan_bad_triangles": round(self._scan.bad_triangles, 6),
        }


def sample_shape(task: ShapeTask) -> dict[str, Any]:
    """Sample one mesh and return its entry of the manifest; whatever goes wrong with the mesh is told there."""
    start, memory = time.process_time(), _peak_memory_mb()
    entry: dict[str, Any] = {
        "dataset": task.key.dataset,
        "class": task.key.shape_class,
        "id": task.key.name,
        "source": str(task.source),
        "options": task.options.what_matters(),
    }
    if task.variant:
        entry["variant"] = task.variant
    try:
        entry["source_sha256"] = source_hash(task.source)
        entry |= _sample(task)
    except (UserError, ValueError) as error:
        entry |= {"state": "failed", "reasons": [str(error).replace("\n", " ")]}
    except Exception as error:  # one bad mesh never stops the rest
        entry |= {"state": "failed", "reasons": [f"{type(error).__name__}: {error}"]}
    entry["cpu_seconds"] = round(time.process_time() - start, 3)
    entry["memory_growth_mb"] = round(_peak_memory_mb() - memory, 1)
    return entry


def source_hash(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", "Check the path.") from None


def shape_generator(seed: int, *names: object) -> torch.Generator:
    """Return the source of randomness of one shape; neither the order of shapes nor the worker matters."""
    text = "/".join(map(str, (seed, *names)))
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _sample(task: ShapeTask) -> dict[str, Any]:
    """Sample a mesh, write its files, and return what is to be told about it."""
    options = task.options
    original = _variant(task, read_mesh(task.source))
    to_unit = normalisation(original)
    mesh = to_unit.apply_to(original)
    repaired = repair_mesh(mesh, options.rays, options.seed, options.drop_hidden_faces)
    recipe = options.sampling_recipe()
    generator = shape_generator(options.seed, task.key)
    points = sample_positions(repaired.mesh if options.sign == "auto" else mesh, recipe, generator)
    distances = _distances(mesh, repaired, recipe, options)
    answers = distances(points)
    if not answers.sdf.isfinite().all():
        raise ValueError("Some distances are not finite.")
    rows = torch.cat([points, answers.sdf.float()[:, None]], dim=1)
    health = _health(rows, recipe.num_uniform) | distances.health(answers)
    drops = options.sign == "scan" or options.drop_contested
    samples = SdfSamples.from_rows(rows[answers.sure].numpy() if drops else rows.numpy())
    reasons = _reasons(samples, health) if options.sign != "unsigned" else []
    entry = {
        "state": "flagged" if reasons else "ok",
        "reasons": reasons,
        "warnings": _warnings(health),
        "positive": len(samples.positive),
        "negative": len(samples.negative),
        "dropped": recipe.count - samples.count,
        "mesh": asdict(repaired.report) | health,
    }
    if reasons and options.skip_flagged:
        task.key.file(task.out, SAMPLES, ".npz").unlink(missing_ok=True)
    else:
        _write(task, samples, to_unit)
        _write_surface(task, repaired, to_unit)
        if options.preview:
            _write_preview(task, samples, distances)
    return entry


def _variant(task: ShapeTask, mesh: Mesh) -> Mesh:
    """Return the mesh itself, or its deformed copy, which is kept as a file of its own."""
    if not task.variant:
        return mesh
    from shapewright.geometry.deformation import deform

    generator = shape_generator(task.options.seed, task.key.dataset, task.key.name.rpartition("~")[0], task.variant)
    copy = deform(normalisation(mesh).apply_to(mesh), generator).to(torch.float32)
    path = task.key.file(task.out, MESHES, ".ply")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(path, error) from error
    write_mesh(path, Mesh(copy.vertices, copy.faces))
    return copy


def _distances(mesh: Mesh, repaired: RepairedMesh, recipe: SamplingRecipe, options: SamplingOptions) -> Distances:
    """Return what answers distances to a mesh."""
    if options.sign == "scan":
        return _Scanned(mesh, near=recipe.variance**0.5)
    return _Signed(repaired if options.sign == "auto" else mesh, options.sign)


def _health(rows: Float[Tensor, "points 4"], num_uniform: int) -> Health:
    """Return the shares of samples that are inside."""
    inside = (rows[:, 3] <= 0).double()
    return {
        "inside_share": round(float(inside.mean()), 6),
        "inside_share_uniform": round(float(inside[-num_uniform:].mean()), 6) if num_uniform else None,
    }


def _reasons(samples: SdfSamples, health: Health) -> list[str]:
    """Say why a mesh is doubtful."""
    reasons = []
    contested = health.get("contested_share") or 0.0
    if contested > CONTESTED_FLAG:
        reasons.append(f"the sign of {contested:.1%} of the samples is doubtful: the mesh is open")
    share = len(samples.negative) / max(samples.count, 1)
    if not len(samples.negative):
        reasons.append("no sample is inside: the mesh encloses nothing")
    elif share < LEAST_INSIDE_SHARE:
        reasons.append(f"only {share:.2%} of the samples are inside")
    elif len(samples.negative) < LEAST_PER_SIDE:
        reasons.append(f"only {len(samples.negative)} samples are inside, fewer than {LEAST_PER_SIDE}")
    if len(samples.positive) < LEAST_PER_SIDE:
        reasons.append(f"only {len(samples.positive)} samples are outside, fewer than {LEAST_PER_SIDE}")
    return reasons


def _warnings(health: Health) -> list[str]:
    """Say what deserves a look."""
    warnings = []
    contested = health.get("contested_share") or 0.0
    if CONTESTED_WARNING < contested <= CONTESTED_FLAG:
        warnings.append(f"the sign of {contested:.1%} of the samples is doubtful")
    wrong, bad = health.get("scan_wrong_share") or 0.0, health.get("scan_bad_triangles") or 0.0
    if wrong > MOST_WRONG_SHARE or bad > MOST_BAD_TRIANGLES:
        warnings.append(f"{bad:.1%} of the triangles are seen from both sides: DeepSDF calls such a mesh rejected")
    return warnings


def _write(task: ShapeTask, samples: SdfSamples, to_unit: Normalisation) -> None:
    """Write the normalisation and, last, the samples: their file is the sign that the shape is done."""
    write_normalisation(task.key.file(task.out, NORMALISATIONS, ".npz"), to_unit)
    write_samples(task.key.file(task.out, SAMPLES, ".npz"), samples)


def _write_surface(task: ShapeTask, repaired: RepairedMesh, to_unit: Normalisation) -> None:
    """Write points on the triangles that can be seen from outside, in the units of the mesh file."""
    if not task.options.surface:
        return
    if not repaired.visible.any():
        raise ValueError("No triangle can be seen from outside: there is no surface to sample.")
    seen = Mesh(repaired.mesh.vertices, repaired.mesh.faces[repaired.visible])
    points = sample_surface(seen, task.options.surface, shape_generator(task.options.seed, task.key, "surface"))
    path = task.key.file(task.out, SURFACES, ".ply")
    make_parent(path)
    write_point_cloud(path, PointCloud(to_unit.invert(points)))


def _write_preview(task: ShapeTask, samples: SdfSamples, distances: Distances) -> None:
    """Draw the signs as slices and as a cloud of coloured points."""
    from shapewright.data.sdf_preview import draw_slices, sign_cloud

    path = task.key.file(task.out, PREVIEWS, ".ply")
    make_parent(path)
    write_point_cloud(path, sign_cloud(samples.rows(), task.options.seed))
    write_image(task.key.file(task.out, PREVIEWS, ".png"), draw_slices(distances))


def _peak_memory_mb() -> float:
    """Return the most memory that this process has held so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
