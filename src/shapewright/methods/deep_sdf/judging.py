"""Shapes of a run against their true surfaces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.sdf_samples import ShapeKey
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.mesh_repair import repair_mesh
from shapewright.geometry.signed_distance import SignedDistance
from shapewright.methods.deep_sdf.fitting import changed_weights, fit_codes, fit_published, refine
from shapewright.methods.deep_sdf.model import FoldedDecoder
from shapewright.methods.deep_sdf.observations import from_samples
from shapewright.methods.deep_sdf.results import StoredCode, read_code, write_code
from shapewright.methods.deep_sdf.shapes import TrueShape
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.metrics.shape_metrics import ShapeMetricOptions, shape_metrics
from shapewright.metrics.voxel_iou import volume_iou

SHAPES_PER_FIT = 4
HELD_OUT_SHARE = 0.2
IOU_POINTS = 100_000
NEAR_SURFACE = 0.01


@dataclass(frozen=True)
class Judged:
    """Hold what was found out about one shape.

    Args:
        key: The shape.
        metrics: Figures, empty without a true surface.
        mesh: The shape as the space has it, in the unit sphere; none if its field has no surface.
        truth: The true surface, where there is one.
        problem: Why there is no mesh.
    """

    key: ShapeKey
    metrics: dict[str, float]
    mesh: Mesh | None
    truth: TrueShape | None
    problem: str = ""

    def item(self) -> dict[str, Any]:
        """Return the entry of ``metrics.json``."""
        return {"id": str(self.key), **self.metrics} | ({"problem": self.problem} if self.problem else {})


def codes_of(
    space: ShapeSpace, keys: Sequence[ShapeKey], refined: bool = False, overwrite: bool = False, seed: int = 0
) -> dict[ShapeKey, StoredCode]:
    """Return the codes of shapes that were not learned; those not yet in the run's ``codes`` folder are fitted.

    A fifth of the samples is kept from the fit, to judge it by.

    Args:
        space: The shape space.
        keys: The shapes.
        refined: Fit the last layers to each shape as well.
        overwrite: Fit all of them again.
        seed: Start of all random numbers.
    """
    found: dict[ShapeKey, StoredCode] = {}
    todo = []
    for key in keys:
        path = code_path(space, key)
        if path.exists() and not overwrite:
            stored = read_code(path, space.codes.shape[1])
            if stored.checkpoint == space.step and bool(stored.refined) >= refined:
                found[key] = stored
                continue
        todo.append(key)
    for first in range(0, len(todo), SHAPES_PER_FIT):
        part = todo[first : first + SHAPES_PER_FIT]
        for key, stored in zip(part, _fit(space, part, refined, seed), strict=True):
            write_code(code_path(space, key), stored)
            found[key] = stored
            space.run.log(f"Fitted {key}: loss {stored.loss:.4f} ({len(found)} of {len(keys)}).")
    return found


def code_path(space: ShapeSpace, key: ShapeKey) -> Path:
    """Return the file of a fitted code."""
    return space.run.path / "codes" / f"{key.dataset}__{key.shape_class}__{key.name}.npz"


def split_samples(space: ShapeSpace, key: ShapeKey) -> tuple[Float[Tensor, "fitted 4"], Float[Tensor, "held 4"]]:
    """Return the samples of a shape that a fit may see, and those that judge it."""
    rows = torch.from_numpy(space.shapes.folder.samples(key).rows())
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    held = round(HELD_OUT_SHARE * len(rows))
    return rows[order[held:]], rows[order[:held]]


def _fit(space: ShapeSpace, keys: Sequence[ShapeKey], refined: bool, seed: int) -> list[StoredCode]:
    samples = [split_samples(space, key)[0].to(space.device) for key in keys]
    bounds = [from_samples(rows) for rows in samples]
    context = space.fit_context(seed)
    if space.config.fit.recipe == "paper":
        fit = fit_published(context, samples, space.config.fit)
    else:
        fit = fit_codes(context, bounds, space.config.fit)
    changed: list[dict[str, Tensor]] = [{} for _ in keys]
    codes = fit.codes[:, 0].clone()
    if refined:
        for place, groups in enumerate(bounds):
            decoder, codes[place] = refine(context, groups, codes[place], space.config.fit)
            changed[place] = changed_weights(decoder)
    return [
        StoredCode(
            codes[place].cpu(),
            float(fit.losses[place, 0]),
            fit.iterations,
            seed,
            tuple(fit.start_losses[place].tolist()),
            float(fit.positive_share[place]),
            space.step,
            changed[place],
        )
        for place in range(len(keys))
    ]


def judge(
    space: ShapeSpace,
    key: ShapeKey,
    code: Float[Tensor, " code"],
    num_points: int = 30_000,
    decoder: FoldedDecoder | None = None,
) -> Judged:
    """Return the mesh of a code, and how well it fits the true surface and the samples kept from the fit."""
    started = time.process_time()
    _, held = split_samples(space, key)
    metrics = sample_metrics(space.field(code, decoder), held, space.config.loss.clamp)
    truth = space.shapes.truth(key)
    support = held[held[:, 3].abs() < NEAR_SURFACE][:, :3]
    try:
        mesh = space.mesh(code, support, decoder)
    except UserError as error:
        return Judged(key, metrics, None, truth, error.message)
    if truth is not None:
        options = ShapeMetricOptions(num_points=num_points)
        metrics |= shape_metrics(mesh, truth.mesh, options, truth.to_unit.scale)
        metrics["volume_iou"] = _volume_iou(space.field(code, decoder), truth.mesh)
    else:
        surface = space.shapes.folder.surface(key)
        to_unit = space.shapes.folder.normalisation(key)
        if surface is not None and to_unit is not None:
            points = to_unit.apply(torch.from_numpy(surface).double())
            metrics |= shape_metrics(mesh, points, ShapeMetricOptions(num_points=num_points), to_unit.scale)
    metrics["cpu_seconds"] = round(time.process_time() - started, 3)
    return Judged(key, metrics, mesh, truth)


def sample_metrics(field: Callable[[Tensor], Tensor], rows: Float[Tensor, "n 4"], clamp: float) -> dict[str, float]:
    """Return the share of right signs and the mean error of the clamped distance at samples."""
    predicted = field(rows[:, :3].contiguous()).cpu()
    error = (predicted.clamp(-clamp, clamp) - rows[:, 3].clamp(-clamp, clamp)).abs()
    return {
        "sign_accuracy": float(((predicted > 0) == (rows[:, 3] > 0)).float().mean()),
        "sdf_error": float(error.mean()),
    }


def _volume_iou(field: Callable[[Tensor], Tensor], truth: Mesh) -> float:
    """Return the shared volume; inside of the truth is where its repaired mesh says so."""
    distance = SignedDistance(repair_mesh(truth))
    corner = torch.ones(3)
    return volume_iou(
        lambda points: field(points.float()).cpu() < 0,
        lambda points: distance(points).sdf < 0,
        -corner,
        corner,
        IOU_POINTS,
    )
