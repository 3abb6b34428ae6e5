"""Training of one shape: batches, steps, the field as others see it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.engine.schedule import Moment
from shapewright.engine.seed import make_generator
from shapewright.methods.deep_sdf.single_config import SingleConfig
from shapewright.methods.deep_sdf.single_data import TrainingPoints
from shapewright.methods.deep_sdf.single_field import create_field, rate_share
from shapewright.methods.deep_sdf.single_loss import ShapeBatch, shape_loss

_SPHERE_RADIUS = 0.5
_SPHERE_POINTS = 4096
_SPHERE_WEIGHT = 10.0


class SingleShapeMethod:
    """Train the signed distance field of one shape.

    Args:
        config: Settings.
        data: What is known of the shape.
        seed: Start of all random numbers.
    """

    def __init__(self, config: SingleConfig, data: TrainingPoints, seed: int) -> None:
        self.config, self.data = config, data
        self.field = create_field(config, data.half_side, data.spacing, make_generator(seed, "field"))
        self.generator = make_generator(seed, "batches")
        self.progress = 0.0

    def fit_sphere(self) -> None:
        """Fit the field to a sphere, so that it starts with one surface and a slope of one."""
        half = self.data.half_side
        self.field.set_progress(0.0)
        for _ in range(self.config.optim.sphere_steps):
            points = (torch.rand(3, _SPHERE_POINTS, generator=self.generator) * 2.0 - 1.0) * half
            answer = self.field.evaluate(points)
            error = answer.values - (points.norm(dim=0) - _SPHERE_RADIUS)
            by_value = error.clamp(-0.02, 0.02) * (50.0 * _SPHERE_WEIGHT / _SPHERE_POINTS)
            self.field.step(answer, by_value, torch.zeros_like(answer.gradients), 1.0)

    def next_batch(self, moment: Moment) -> ShapeBatch:  # noqa: ARG002 - the trainer tells every method
        """Draw the points of a step."""
        optim, surface = self.config.optim, self.data.surface
        space = optim.space_points + (0 if surface.num_points else optim.surface_points)
        parts, normals = [], torch.zeros(3, 0)
        if surface.num_points:
            chosen = torch.randint(surface.num_points, (optim.surface_points,), generator=self.generator)
            parts.append(surface.points[chosen])
            if surface.normals is not None:
                normals = surface.normals[chosen].T.contiguous()
        chosen = torch.randint(len(self.data.space), (space,), generator=self.generator)
        parts.append(self.data.space[chosen])
        points = torch.cat(parts).T.contiguous()
        return ShapeBatch(points, normals, self.data.lower[chosen], self.data.upper[chosen])

    def train_step(self, batch: ShapeBatch, moment: Moment) -> dict[str, float]:
        """Take one step and return the losses."""
        self.progress = moment.progress
        self.field.set_progress(moment.progress)
        answer = self.field.evaluate(batch.points)
        losses, by_value, by_gradient = shape_loss(answer.values, answer.gradients, batch, self.config.loss)
        share = rate_share(self.config.optim, moment)
        if not self.field.step(answer, by_value, by_gradient, share):
            return {**losses, "skipped": 1.0}
        return losses

    def sdf(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """Return the signed distance at positions of normalised space, negative inside."""
        return self.field.sdf(points)

    def state_dict(self) -> dict[str, Tensor]:
        """Return everything that an exact continuation needs."""
        state = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        return state | {
            "progress": torch.tensor(self.progress, dtype=torch.float64),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, tensors: dict[str, Tensor]) -> None:
        """Take over what ``state_dict`` returned."""
        own = {name.removeprefix("field."): value for name, value in tensors.items() if name.startswith("field.")}
        self.field.load_state_dict(own)
        self.progress = float(tensors["progress"])
        self.field.set_progress(self.progress)
        self.generator.set_state(tensors["generator"])
