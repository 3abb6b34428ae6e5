"""Signed distance samples of many shapes, read once, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from shapewright.checks import check_range


class Batch(NamedTuple):
    """Hold samples of some shapes: positions and signed distances."""

    shapes: Int64[Tensor, " shapes"]
    points: Float[Tensor, "shapes n 3"]
    sdf: Float[Tensor, "shapes n"]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device."""
        return Batch(*(part.to(device, non_blocking=True) for part in self))


class SampleStore:
    """Draw samples of shapes, half of them outside and half inside, with replacement (DeepSDF, 5.4).

    Everything random follows from the seed and the number of the step, so that a resumed run sees the same batches.

    Args:
        positive: One array ``[n, 4]`` a shape: positions outside and their distances; in memory or mapped.
        negative: The same inside.
        seed: Start of all random numbers.

    Raises:
        ValueError: if the lists differ in length, or a shape has no sample on one side.
    """

    def __init__(self, positive: Sequence[np.ndarray], negative: Sequence[np.ndarray], seed: int = 0) -> None:
        if len(positive) != len(negative) or not positive:
            raise ValueError(f"Got {len(positive)} positive and {len(negative)} negative arrays.")
        for side in (positive, negative):
            for index, rows in enumerate(side):
                if not len(rows):
                    raise ValueError(f"Shape {index} has no sample on one side.")
        self._sides = (list(positive), list(negative))
        self.seed = seed

    def __len__(self) -> int:
        return len(self._sides[0])

    def epoch_order(self, epoch: int) -> Int64[Tensor, " shapes"]:
        """Return the shapes in the order in which an epoch visits them."""
        return torch.randperm(len(self), generator=_generator(self.seed, 0, epoch))

    def steps_per_epoch(self, shapes_per_batch: int) -> int:
        """Return the batches of an epoch; shapes that fill no batch wait for the next epoch."""
        check_range("shapes_per_batch", shapes_per_batch, 1)
        return max(1, len(self) // shapes_per_batch)

    def batch(self, step: int, shapes_per_batch: int, samples_per_shape: int) -> Batch:
        """Return the batch of a step; with fewer shapes than ``shapes_per_batch``, a smaller one."""
        epoch, place = divmod(step, self.steps_per_epoch(shapes_per_batch))
        shapes = self.epoch_order(epoch)[place * shapes_per_batch : (place + 1) * shapes_per_batch]
        rows = self.draw(shapes, samples_per_shape, _generator(self.seed, 1, step))
        return Batch(shapes, rows[..., :3].contiguous(), rows[..., 3].contiguous())

    def draw(
        self, shapes: Int64[Tensor, " shapes"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "shapes n 4"]:
        """Return ``count`` samples of each shape: the first half outside, the rest inside."""
        outside = count - count // 2
        uniform = torch.rand(len(shapes), count, generator=generator, dtype=torch.float64).numpy()
        rows = np.empty((len(shapes), count, 4), dtype=np.float32)
        for place, shape in enumerate(shapes.tolist()):
            for side, part in (
                (self._sides[0][shape], slice(0, outside)),
                (self._sides[1][shape], slice(outside, count)),
            ):
                rows[place, part] = side[(uniform[place, part] * len(side)).astype(np.int64)]
        return torch.from_numpy(rows)


def _generator(seed: int, purpose: int, number: int) -> torch.Generator:
    """Return a generator for one purpose and number: the same after a resume."""
    mixed = np.random.SeedSequence((seed, purpose, number)).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed >> np.uint64(1)))
