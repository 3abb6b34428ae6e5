"""Codes of shapes: a table with one row a shape, its optimizer, and the statistics that fitting starts from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_shape

BETAS = (0.9, 0.999)
EPSILON = 1e-8
SHRINKAGE = 0.1


class LatentTable:
    """Hold one code a shape and move the rows of a batch by Adam (arXiv:1412.6980, algorithm 1).

    Args:
        codes: The first codes.
        bound: Longest code; longer rows are shortened to it when they are read; none: no limit.
        row_wise: Rows outside a batch stay where they are, and every row counts its own steps. Otherwise they drift on
            by their momentum, as those of a dense table do in the original.
    """

    def __init__(self, codes: Float[Tensor, "shapes code"], bound: float | None = None, row_wise: bool = True) -> None:
        check_shape("codes", codes, (None, None))
        self.codes = codes
        self.bound = bound
        self.row_wise = row_wise
        self._mean = torch.zeros_like(codes)
        self._square = torch.zeros_like(codes)
        self._steps = torch.zeros(len(codes), 1, device=codes.device, dtype=codes.dtype)

    @staticmethod
    def random(
        shapes: int, length: int, std: float, generator: torch.Generator | None = None
    ) -> Float[Tensor, "shapes code"]:
        """Return codes whose numbers are normal with standard deviation ``std / sqrt(length)`` (DeepSDF's start)."""
        return torch.randn(shapes, length, generator=generator) * (std / max(length, 1) ** 0.5)

    def rows(self, shapes: Int64[Tensor, " batch"]) -> Float[Tensor, "batch code"]:
        """Return the codes of some shapes as a leaf that collects their gradient; too long ones are shortened first."""
        codes = self.codes[shapes]
        if self.bound is not None:
            lengths = codes.norm(dim=1, keepdim=True)
            codes = codes * (self.bound / lengths.clamp(min=1e-12)).clamp(max=1.0)
            self.codes[shapes] = codes
        return codes.clone().requires_grad_()

    @torch.no_grad()
    def step(self, shapes: Int64[Tensor, " batch"], gradient: Float[Tensor, "batch code"], rate: float) -> None:
        """Move the codes of a batch against their gradient."""
        if self.row_wise:
            self._move(shapes, gradient, rate)
        else:
            everywhere = torch.zeros_like(self.codes)
            everywhere[shapes] = gradient
            self._move(torch.arange(len(self.codes), device=shapes.device), everywhere, rate)

    @torch.no_grad()
    def put_on_sphere(self, shapes: Int64[Tensor, " batch"], radius: float) -> None:
        """Scale the codes of some shapes to one length."""
        codes = self.codes[shapes]
        self.codes[shapes] = codes * (radius / codes.norm(dim=1, keepdim=True).clamp(min=1e-12))

    def _move(self, rows: Int64[Tensor, " n"], gradient: Float[Tensor, "n code"], rate: float) -> None:
        steps = self._steps[rows] + 1
        mean = BETAS[0] * self._mean[rows] + (1 - BETAS[0]) * gradient
        square = BETAS[1] * self._square[rows] + (1 - BETAS[1]) * gradient**2
        root = (square / (1 - BETAS[1] ** steps)).sqrt() + EPSILON
        self.codes[rows] -= rate * mean / (1 - BETAS[0] ** steps) / root
        self._mean[rows], self._square[rows], self._steps[rows] = mean, square, steps

    def state_dict(self) -> dict[str, Tensor]:
        """Return the codes and the optimizer's state."""
        return {"codes": self.codes, "mean": self._mean, "square": self._square, "steps": self._steps}

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        device = self.codes.device
        self.codes, self._mean = tensors["codes"].to(device), tensors["mean"].to(device)
        self._square, self._steps = tensors["square"].to(device), tensors["steps"].to(device)


@dataclass(frozen=True)
class CodePrior:
    """Describe where the codes of a category lie: a normal distribution.

    Args:
        mean: Their mean.
        whitening: ``W`` with ``W C W^T = I`` for their shrunk covariance ``C``.
        coloring: Its inverse.
    """

    mean: Float[Tensor, " code"]
    whitening: Float[Tensor, "code code"]
    coloring: Float[Tensor, "code code"]

    @staticmethod
    def of(codes: Float[Tensor, "shapes code"]) -> CodePrior:
        """Return the distribution of some codes; the covariance is shrunk towards a multiple of the identity."""
        codes = codes.double()
        mean = codes.mean(dim=0)
        centred = codes - mean
        covariance = centred.T @ centred / max(len(codes) - 1, 1)
        scale = float(covariance.diagonal().mean().clamp(min=1e-12))
        identity = torch.eye(codes.shape[1], dtype=codes.dtype, device=codes.device)
        values, vectors = torch.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * scale * identity)
        root = values.clamp(min=1e-12).sqrt()
        whitening, coloring = (vectors / root) @ vectors.T, (vectors * root) @ vectors.T
        return CodePrior(mean.float(), whitening.float(), coloring.float())

    def energy(self, codes: Float[Tensor, "n code"]) -> Float[Tensor, " n"]:
        """Return the squared Mahalanobis distance of codes, divided by their length: about 1 for members."""
        return ((codes - self.mean) @ self.whitening).square().mean(dim=-1)

    def draw(self, count: int, generator: torch.Generator, spread: float = 1.0) -> Float[Tensor, "count code"]:
        """Return random codes; ``spread`` multiplies their distance from the mean."""
        noise = torch.randn(count, len(self.mean), generator=generator).to(self.mean)
        return self.mean + spread * noise @ self.coloring
