"""Where signed distances are sampled: the size that shapes are brought to, and the published recipes of points."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.checks import check_range
from shapewright.geometry.mesh import Mesh, sample_surface

MARGIN = 1.03
SURFACE_POINTS_AT_ONCE = 1 << 16

RecipeName = Literal["train", "test", "neorender", "wide"]


@dataclass(frozen=True)
class Normalisation:
    """Bring shapes to one size: ``x' = (x + offset) * scale``.

    Args:
        offset: Minus the middle of the shape's box.
        scale: One over 1.03 times the largest distance from there.
    """

    offset: Float[Tensor, " 3"]
    scale: float

    def apply(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Return positions in normalised units."""
        return (points + self.offset.to(points)) * self.scale

    def invert(self, points: Float[Tensor, "*points 3"]) -> Float[Tensor, "*points 3"]:
        """Return positions in the units of the file."""
        return points / self.scale - self.offset.to(points)

    def apply_to(self, mesh: Mesh) -> Mesh:
        """Return a mesh in normalised units, in double precision."""
        return Mesh(self.apply(mesh.vertices.double()), mesh.faces)


def normalisation(mesh: Mesh) -> Normalisation:
    """Return what moves the middle of the box to the origin and puts all corners within a radius of 1 / 1.03.

    Only vertices that a triangle uses count. Both numbers are rounded to single precision, as files store them, before
    the radius is measured: the way back is exact.

    Raises:
        ValueError: if the mesh has no triangle or no extent.
    """
    if not mesh.num_faces:
        raise ValueError("A mesh without triangles cannot be normalised.")
    used = mesh.vertices.detach().cpu().double()[mesh.faces.cpu().reshape(-1).unique()]
    lower, upper = used.aminmax(dim=0)
    offset = -((lower + upper) / 2).float().double()
    radius = float((used + offset).norm(dim=-1).max())
    if not radius > 0:
        raise ValueError("A mesh whose vertices all lie in one point cannot be normalised.")
    scale = float(torch.tensor(1 / (MARGIN * radius), dtype=torch.float32))
    if scale == 0 or scale == float("inf"):
        raise ValueError(f"A mesh of radius {radius:g} is too large or too small to be normalised.")
    return Normalisation(offset, scale)


@dataclass(frozen=True, kw_only=True)
class SamplingRecipe:
    """Say how many points lie where.

    Each point on the surface gives two samples, moved by normal noise of either variance.

    Args:
        count: Samples altogether.
        num_surface: Points on the surface.
        variance: Of the wider noise, on each axis.
        second_variance: Of the narrower noise.
    """

    count: int
    num_surface: int
    variance: float
    second_variance: float

    def __post_init__(self) -> None:
        check_range("count", self.count, 1)
        check_range("num_surface", self.num_surface, 0, self.count // 2)
        check_range("variance", self.variance, 0)
        check_range("second_variance", self.second_variance, 0)

    @property
    def num_uniform(self) -> int:
        """Return how many samples are spread over the box; they come last."""
        return self.count - 2 * self.num_surface


def published_recipe(name: RecipeName, count: int | None = None) -> SamplingRecipe:
    """Return a recipe by its name.

    ``train`` and ``test`` are DeepSDF's (47 of 50 samples near the surface), ``neorender`` is NeoRender's, and ``wide``
    spreads a fifth of the samples over the box, which fields with an encoding of positions need.

    Args:
        name: One of the four.
        count: Samples altogether; none: 250,000 for ``test`` and 500,000 for the others.
    """
    count = count or (250_000 if name == "test" else 500_000)
    variance = 0.05 if name == "test" else 0.005
    surface = {"neorender": int(count / 2.1), "wide": int(0.8 * count) // 2}.get(name, int(47 * count / 50) // 2)
    second = variance / (100 if name == "test" else 10)
    return SamplingRecipe(count=count, num_surface=min(surface, count // 2), variance=variance, second_variance=second)


def changed_recipe(
    recipe: SamplingRecipe, variance: float | None = None, uniform_share: float | None = None
) -> SamplingRecipe:
    """Return a recipe with another noise, whose second variance keeps its ratio, or another share in the box.

    Raises:
        ValueError: if the variance is not positive or the share outside [0, 1].
    """
    if variance is not None:
        ratio = recipe.second_variance / recipe.variance
        recipe = replace(recipe, variance=variance, second_variance=variance * ratio)
    if uniform_share is not None:
        check_range("uniform_share", uniform_share, 0, 1)
        near = recipe.count - round(uniform_share * recipe.count)
        recipe = replace(recipe, num_surface=near // 2)
    return recipe


def sample_positions(mesh: Mesh, recipe: SamplingRecipe, generator: torch.Generator) -> Float[Tensor, "points 3"]:
    """Return sample positions in single precision: those near the surface first, then those of the box [-1, 1]^3.

    Args:
        mesh: A normalised mesh.
        recipe: How many, and how near.
        generator: Source of all randomness; the positions depend on its state and the mesh alone.

    Raises:
        ValueError: if samples near the surface are wanted of a surface without area.
    """
    parts = []
    for start in range(0, recipe.num_surface, SURFACE_POINTS_AT_ONCE):
        size = min(SURFACE_POINTS_AT_ONCE, recipe.num_surface - start)
        on_surface = sample_surface(mesh, size, generator)
        for variance in (recipe.variance, recipe.second_variance):
            noise = torch.randn(size, 3, generator=generator, dtype=torch.float64)
            parts.append((on_surface + variance**0.5 * noise.to(on_surface)).float())
    uniform = torch.rand(recipe.num_uniform, 3, generator=generator, dtype=torch.float64)
    return torch.cat([*parts, (2 * uniform - 1).to(mesh.vertices.device).float()])
