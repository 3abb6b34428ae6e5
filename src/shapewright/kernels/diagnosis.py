"""Compile every kernel, compare it with the reference, and say which back end runs and why."""

from __future__ import annotations

import importlib.metadata
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from shapewright.errors import UserError
from shapewright.geometry.icosphere import icosphere
from shapewright.geometry.mesh_edges import edge_table
from shapewright.kernels import ops, raster_ops, ray_ops
from shapewright.kernels.backends import NAMES, backend, choose, find_problem

# Largest difference from the reference, relative to the largest number, that float32 explains.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class KernelCheck:
    """Say what came of one kernel: how far it is from the reference, or the first line of its error."""

    name: str
    seconds: float
    error: float
    problem: str = ""

    @property
    def is_right(self) -> bool:
        """Return whether the kernel ran and agrees with the reference."""
        return not self.problem and self.error <= TOLERANCE


@dataclass(frozen=True)
class Diagnosis:
    """Say how kernels run on one device.

    Args:
        device: The device.
        summary: The line that ``describe`` returns.
        problems: For each back end that could run here but does not, why and what to do.
        checks: What warming up found.
        caches: Where compiled kernels are kept.
    """

    device: str
    summary: str
    problems: dict[str, str]
    checks: tuple[KernelCheck, ...]
    caches: dict[str, str]

    @property
    def is_right(self) -> bool:
        """Return whether every kernel agrees with the reference."""
        return all(check.is_right for check in self.checks)


def describe(device: torch.device | str = "cpu") -> str:
    """Return a line for logs, such as ``kernels: cpu (numba 0.68.1, 2 threads)``."""
    name = choose(torch.device(device).type)
    detail = {"reference": f"torch {torch.__version__}", "cpu": "numba", "warp": "warp-lang"}[name]
    if name != "reference":
        detail = f"{detail} {importlib.metadata.version(detail)}"
    threads = torch.get_num_threads()
    return f"kernels: {name} ({detail}, {threads} thread{'s' if threads > 1 else ''})"


def warm_up(device: torch.device | str = "cpu") -> tuple[KernelCheck, ...]:
    """Compile every kernel that training on a device uses, and compare it with the reference.

    Takes seconds the first time on a machine, and well under one after that.
    """
    device = torch.device(device)
    return tuple(_check(name, trial, device) for name, trial in _TRIALS.items())


def diagnose(device: torch.device | str = "cpu") -> Diagnosis:
    """Return which back end runs on a device, why not the others, and whether it computes the right thing."""
    device = torch.device(device)
    problems = {}
    for name in NAMES:
        problem = find_problem(name, device.type) if name != "cpu" or device.type == "cpu" else None
        if problem is not None:
            problems[name] = f"{problem.message}. {problem.hint}"
    checks = warm_up(device)
    caches = {name: os.environ.get(name, "the library's own place") for name in ("NUMBA_CACHE_DIR", "WARP_CACHE_PATH")}
    return Diagnosis(str(device), describe(device), problems, checks, caches)


def _check(name: str, trial: Callable[[torch.device], list[Tensor]], device: torch.device) -> KernelCheck:
    start = time.perf_counter()
    try:
        results = trial(device)
    except UserError:
        raise
    except Exception as error:
        return KernelCheck(name, time.perf_counter() - start, float("inf"), str(error).split("\n", 1)[0] or repr(error))
    seconds = time.perf_counter() - start
    with backend("reference"):
        expected = trial(device)
    pairs = zip(results, expected, strict=True)
    return KernelCheck(name, seconds, max(_relative_error(result, target) for result, target in pairs))


def _relative_error(result: Tensor, expected: Tensor) -> float:
    if result.shape != expected.shape:
        return float("inf")
    largest = expected.abs().max().clamp_min(torch.finfo(expected.dtype).tiny)
    error = float((result - expected).abs().max() / largest)
    return error if error == error else float("inf")


def _try_hash_grid(device: torch.device) -> list[Tensor]:
    levels = ops.hash_levels(num_levels=4, log2_table_size=8, base_resolution=4, max_resolution=32)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(512, 3, generator=generator).to(device).requires_grad_()
    table = torch.rand(levels.rows, 2, generator=generator).to(device).requires_grad_()
    y = ops.encode(x, table, levels)
    by_x, by_table = torch.autograd.grad((y**2).sum(), (x, table), create_graph=True)
    second = torch.autograd.grad((by_x**2).sum(), (x, table))
    return [y.detach(), by_x.detach(), by_table.detach(), *second]


def _try_softplus(device: torch.device) -> list[Tensor]:
    x = torch.linspace(-1, 1, 4096, device=device).requires_grad_()
    y = ops.softplus(x, beta=100.0)
    return [y.detach(), *torch.autograd.grad(y.sum(), x)]


def _try_rays(device: torch.device) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.rand(64, 3, generator=generator).to(device)
    directions = torch.nn.functional.normalize(torch.randn(64, 3, generator=generator).to(device), dim=-1)
    occupied = (torch.rand(8, 8, 8, generator=generator) < 0.5).to(device)
    near, far = torch.zeros(64, device=device), torch.full((64,), 0.5, device=device)
    lattice = ray_ops.Lattice(origins, directions, near, far, torch.full_like(near, 0.5), step=0.01)
    starts, depths = ray_ops.march(lattice, occupied)
    alpha = (0.9 * depths).requires_grad_()
    weights, rest = ray_ops.composite(alpha, starts)
    sums = ray_ops.ray_sum(weights, depths[:, None], starts)
    by_alpha = torch.autograd.grad(sums.sum() + (rest**2).sum(), alpha)
    return [starts.double(), depths, weights.detach(), rest.detach(), sums.detach(), *by_alpha]


def _try_rasterizer(device: torch.device) -> list[Tensor]:
    mesh, rule = icosphere(1), raster_ops.RasterRule(32)
    # An ellipsoid on the screen, two units away.
    screen = (mesh.vertices * torch.tensor([12.0, 9.0, 1.0]) + torch.tensor([15.3, 16.8, 2.0]))[None].to(device)
    faces, edges = mesh.faces.to(device), edge_table(mesh.faces).to(device)
    ids, depth = raster_ops.rasterize(screen, faces, rule)
    mask = raster_ops.cover(screen, faces, rule)
    wishes = torch.sin(torch.arange(256.0)).view(1, 16, 16).to(device)
    colors = torch.cos(torch.arange(3072.0)).view(1, 32, 32, 3).to(device)
    outlines = [raster_ops.outline_backward(screen, edges, rule, mask, wishes, steps) for steps in (0, 4)]
    walks = [
        raster_ops.nmr_backward(screen, faces, rule, ids, wishes),
        raster_ops.nmr_pictures_backward(screen, faces, ids, colors, colors.flip(0, 1)),
    ]
    return [ids.double(), torch.where(mask, depth, 0.0), *outlines, *walks]


_TRIALS: dict[str, Callable[[torch.device], list[Tensor]]] = {
    "hash grid": _try_hash_grid,
    "softplus": _try_softplus,
    "rays": _try_rays,
    "rasteriser": _try_rasterizer,
}
