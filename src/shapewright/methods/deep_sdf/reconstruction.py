"""New shapes from a shape space: a mesh, samples, a cloud of points or a depth map in; a whole mesh out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.depth_maps import read_depth_map, scan_from_depth_map
from shapewright.data.sdf_samples import read_normalisation, read_samples
from shapewright.errors import UserError
from shapewright.geometry.free_space import PartialScan, scan_from_cloud
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.point_cloud import estimate_normals
from shapewright.geometry.point_orientation import orient_normals, orient_towards
from shapewright.geometry.sampling import (
    MARGIN,
    Normalisation,
    normalisation,
    published_recipe,
    sample_positions,
)
from shapewright.geometry.signed_distance import SignedDistance
from shapewright.io.arrays import read_npz
from shapewright.io.files import make_folder, write_json
from shapewright.io.images import write_image
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.io.point_clouds import read_point_cloud, scan_kind
from shapewright.methods.deep_sdf.completion import CompletionConfig, PosedFit, PoseFit, complete
from shapewright.methods.deep_sdf.config import FitConfig
from shapewright.methods.deep_sdf.fitting import Fit, changed_weights, fit_codes, fit_published, refine
from shapewright.methods.deep_sdf.fusion import FusionConfig, fuse
from shapewright.methods.deep_sdf.model import FoldedDecoder
from shapewright.methods.deep_sdf.observations import Bounds, from_samples
from shapewright.methods.deep_sdf.results import StoredCode, write_code
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.metrics.shape_metrics import shape_metrics
from shapewright.rendering.mesh_pictures import PointLayer, draw_grid, draw_mesh
from shapewright.rendering.picture_camera import MeshView

MESH_SAMPLES = 100_000
UNIT_RADII = (0.35, 1.0)
VIEWS = tuple(MeshView(azimuth_deg=azimuth, center=(0.0, 0.0, 0.0), radius=1.0) for azimuth in (30.0, 210.0))

Frame = Literal["auto", "unit", "box"]


@dataclass(frozen=True, kw_only=True)
class ReconstructConfig:
    """Describe how a new shape is found.

    Attributes:
        iterations: Steps of the fit; the run's if not given.
        starts: Codes to start from; the run's if not given.
        recipe: ``default``, or ``paper``, the published fit, for samples and meshes; the run's if not given.
        completion: What a scan is taken to say.
        fusion: How the seen surface and the guess become one mesh.
        refine: Fit the last layers to the shape as well; for whole shapes.
        camera: Where a cloud was seen from, in its own units: turns its normals and tells free space.
        frame: ``unit``: the input lies in the unit sphere as the training shapes did; ``box``: it is moved there by its
            box, for whole shapes in their own units; ``auto``: the box unless the input lies in the unit sphere.
        normalisation: File of ``NormalizationParameters`` that leads to the unit sphere, in place of ``frame``.
        fit_pose: Fit the scale, or scale, rotation and translation, of a scan as well.
        num_hypotheses: How many distinct shapes to write.
        resolution: Lattice points a side; the run's if not given.
        keep_normalized: Write meshes in the unit sphere instead of the input's units.
        seed: Start of all random numbers.
    """

    iterations: int | None = None
    starts: int | None = None
    recipe: Literal["default", "paper"] | None = None
    completion: CompletionConfig = field(default_factory=CompletionConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)
    refine: bool = False
    camera: tuple[float, float, float] | None = None
    frame: Frame = "auto"
    normalisation: Path | None = None
    fit_pose: PoseFit = "none"
    num_hypotheses: int = 1
    resolution: int | None = None
    keep_normalized: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Known:
    """Hold what an input file says, in the unit sphere.

    Args:
        to_unit: How its positions were moved there.
        bounds: Of the signed distance; empty for a scan.
        scan: The points of a scan.
        truth: The mesh itself, if the input is one.
        support: Points near the surface.
    """

    to_unit: Normalisation
    bounds: list[Bounds]
    scan: PartialScan | None
    truth: Mesh | None
    support: Float[Tensor, "n 3"]


def reconstruct(space: ShapeSpace, source: Path, out: Path, config: ReconstructConfig) -> dict[str, Any]:
    """Write the whole shape of an input; return what was found.

    The folder gets ``mesh.glb`` (for a scan: the seen surface joined with the guess), ``guess.glb``, ``code.npz``,
    ``picture.png`` and ``result.json``; more hypotheses are numbered.

    Raises:
        UserError: if the input cannot be read, or no surface is found.
    """
    known = read_input(source, config)
    fit_config = _fit_config(space, config)
    decoder = space.decoder
    if known.scan is None:
        fit = _fit_whole(space, known, fit_config, config)
        posed = PosedFit(fit)
        if config.refine:
            decoder, code = refine(space.fit_context(config.seed), known.bounds, fit.codes[0, 0], fit_config)
            posed = PosedFit(replace(fit, codes=code[None, None]))
    else:
        posed = complete(
            space.fit_context(config.seed),
            known.scan,
            config.completion,
            fit_config,
            config.fit_pose,
            config.num_hypotheses,
        )
    make_folder(out)
    meshes = [
        _write_hypothesis(space, known, posed, (decoder, place), out, config)
        for place in range(posed.fit.codes.shape[1])
    ]
    result = _summary(source, known, posed, meshes)
    write_json(out / "result.json", result)
    write_image(out / "picture.png", _picture(known, meshes))
    return result


def _fit_config(space: ShapeSpace, config: ReconstructConfig) -> FitConfig:
    """Return the settings of the fit: the run's, with what was asked for in their place."""
    fit = space.config.fit
    iterations, starts = config.iterations or fit.iterations, config.starts or fit.starts
    return replace(fit, iterations=iterations, starts=starts, recipe=config.recipe or fit.recipe)


def _fit_whole(space: ShapeSpace, known: Known, fit: FitConfig, config: ReconstructConfig) -> Fit:
    """Fit a code to what is known of a whole shape."""
    context = space.fit_context(config.seed)
    if fit.recipe == "paper":
        rows = torch.cat([torch.cat((group.points, group.low[:, None]), dim=1) for group in known.bounds])
        return fit_published(context, [rows], fit)
    return fit_codes(context, [known.bounds], fit, config.num_hypotheses)


def read_input(source: Path, config: ReconstructConfig) -> Known:
    """Return what a file says about a shape.

    Raises:
        UserError: if it cannot be read, or holds too few points.
    """
    is_archive = source.suffix == ".npz" and source.is_file()
    if (is_archive and "depth" in read_npz(source)) or source.suffix == ".png":
        scan = scan_from_depth_map(read_depth_map(source))
        return _known_scan(scan.points, scan, config)
    kind = "samples" if source.suffix == ".npy" or source.is_dir() else scan_kind(source)
    if kind == "samples":
        rows = torch.from_numpy(read_samples(source).finite().rows())
        near = rows[rows[:, 3].abs() < 0.01][:, :3]
        return Known(_identity(), from_samples(rows), None, None, near)
    if kind == "mesh":
        return _known_mesh(read_mesh(source), config)
    cloud = read_point_cloud(source)
    if cloud.num_points < 16:
        raise UserError(f"{source} has {cloud.num_points} points: too few to tell a shape.", "Give at least 16 points.")
    normals, camera = cloud.normals, None if config.camera is None else torch.tensor(config.camera)
    if normals is None:
        normals = estimate_normals(cloud.points)[0]
        normals = (
            orient_normals(cloud.points, normals) if camera is None else orient_towards(cloud.points, normals, camera)
        )
    return _known_scan(cloud.points, scan_from_cloud(cloud.points, normals, camera), config)


def _known_mesh(mesh: Mesh, config: ReconstructConfig) -> Known:
    """Sample the signed distance of a mesh."""
    to_unit = read_normalisation(config.normalisation) if config.normalisation else normalisation(mesh)
    unit = to_unit.apply_to(mesh)
    repaired = repair_mesh(unit)
    recipe = published_recipe("wide", MESH_SAMPLES)
    points = sample_positions(repaired.mesh, recipe, torch.Generator().manual_seed(config.seed))
    rows = torch.cat((points, SignedDistance(repaired)(points).sdf[:, None]), dim=1).float()
    return Known(to_unit, from_samples(rows), None, unit, rows[rows[:, 3].abs() < 0.01][:, :3])


def _known_scan(points: Float[Tensor, "n 3"], scan: PartialScan, config: ReconstructConfig) -> Known:
    radius = float(points.norm(dim=1).max())
    if config.normalisation is not None:
        to_unit = read_normalisation(config.normalisation)
    elif config.frame == "unit" or (config.frame == "auto" and UNIT_RADII[0] <= radius <= UNIT_RADII[1]):
        to_unit = _identity()
    else:
        lower, upper = points.double().aminmax(dim=0)
        centre = (lower + upper) / 2
        to_unit = Normalisation(-centre, 1.0 / (MARGIN * float((points.double() - centre).norm(dim=1).max())))
    moved = scan.transformed(to_unit.scale, (to_unit.scale * to_unit.offset).float())
    return Known(to_unit, [], moved, None, moved.points)


def _identity() -> Normalisation:
    return Normalisation(torch.zeros(3, dtype=torch.float64), 1.0)


def _write_hypothesis(
    space: ShapeSpace,
    known: Known,
    posed: PosedFit,
    chosen: tuple[FoldedDecoder, int],
    out: Path,
    config: ReconstructConfig,
) -> tuple[Mesh, Mesh]:
    """Write the files of one hypothesis; return its final mesh and the shape space's guess, in the unit sphere."""
    decoder, place = chosen
    code = posed.fit.codes[0, place]
    mark = f"_{place}" if place else ""
    mesh_config = replace(space.config.mesh, resolution=config.resolution or space.config.mesh.resolution)
    guess = space.mesh(code, posed.to_unit(known.support), decoder, mesh_config)
    guess = Mesh(posed.to_scan(guess.vertices), guess.faces)
    final = guess
    if known.scan is not None:
        sdf = space.field(code, decoder)
        final = fuse(known.scan, lambda points: sdf(posed.to_unit(points)) / posed.scale, config.fusion)
        write_mesh(out / f"guess{mark}.glb", _placed(guess, known, config))
    write_mesh(out / f"mesh{mark}.glb", _placed(final, known, config))
    stored = StoredCode(
        code.cpu(),
        float(posed.fit.losses[0, place]),
        posed.fit.iterations,
        config.seed,
        tuple(posed.fit.start_losses[0].tolist()),
        float(posed.fit.positive_share[0]),
        space.step,
        changed_weights(decoder) if config.refine else {},
    )
    write_code(out / f"code{mark}.npz", stored)
    return final, guess


def _placed(mesh: Mesh, known: Known, config: ReconstructConfig) -> Mesh:
    """Return a mesh in the units of the input."""
    if config.keep_normalized:
        return mesh
    return mesh.transformed(1.0 / known.to_unit.scale, -known.to_unit.offset)


def _summary(source: Path, known: Known, posed: PosedFit, meshes: list[tuple[Mesh, Mesh]]) -> dict[str, Any]:
    """Return what ``result.json`` says."""
    result: dict[str, Any] = {
        "schema": 1,
        "source": str(source),
        "losses": posed.fit.losses[0].tolist(),
        "start_losses": posed.fit.start_losses[0].tolist(),
        "scale": posed.scale,
        "vertices": meshes[0][0].num_vertices,
        "faces": meshes[0][0].num_faces,
    }
    if posed.translation is not None and posed.rotation is not None:
        result |= {"rotation": posed.rotation.tolist(), "translation": posed.translation.tolist()}
    if known.truth is not None:
        result["metrics"] = shape_metrics(meshes[0][0], known.truth, scale=known.to_unit.scale)
    return result


def _picture(known: Known, meshes: list[tuple[Mesh, Mesh]]) -> np.ndarray:
    """Return input, guess and result from two sides."""
    rows, heads = [], ["input", "shape space"] + ["with the seen surface"] * (known.scan is not None)
    for view in VIEWS:
        empty = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
        points = None if known.scan is None else PointLayer(known.scan.points)
        shown = [draw_mesh(known.truth or empty, view, points=points or PointLayer(known.support[:5000]))]
        shown.append(draw_mesh(meshes[0][1], view))
        if known.scan is not None:
            shown.append(draw_mesh(meshes[0][0], view))
        rows.append(shown)
    return draw_grid(rows, heads)
