"""Drawing batches of pictures in which no object occurs twice."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from shapewright.checks import check_range

logger = logging.getLogger("shapewright.data")


@dataclass(frozen=True)
class Draw:
    """Name the pictures of a batch: an object each and one of its views.

    Args:
        objects: No object twice.
        views: Of each object.
        others: A second view of each object, where pairs were asked for; it may be the first again.
    """

    objects: Int64[Tensor, " n"]
    views: Int64[Tensor, " n"]
    others: Int64[Tensor, " n"] | None = None


class SingleViewSampler:
    """Draw batches, which depend on nothing but a generator: a resumed run sees what it would have seen.

    Args:
        is_usable: Which pictures may be drawn; objects without any are left out.
        batch_size: Objects in a batch; lowered, with a warning, to how many there are.
        with_pairs: Draw a second view of each object, independent of the first (Neural Mesh Renderer).

    Raises:
        ValueError: if no picture is usable.
    """

    def __init__(self, is_usable: Tensor, batch_size: int, with_pairs: bool = False) -> None:
        check_range("batch_size", batch_size, 1)
        self._views = [row.nonzero().flatten() for row in is_usable]
        self.objects = torch.tensor([place for place, views in enumerate(self._views) if len(views)])
        if not len(self.objects):
            raise ValueError("There is no picture to draw.")
        if batch_size > len(self.objects):
            logger.warning(f"A batch has {len(self.objects)} objects, not {batch_size}: there are no more.")
        self.batch_size = min(batch_size, len(self.objects))
        self._with_pairs = with_pairs
        self._counts = torch.tensor([len(views) for views in self._views])
        width = int(self._counts.max())
        self._table = torch.stack([torch.nn.functional.pad(views, (0, width - len(views))) for views in self._views])

    def draw(self, generator: torch.Generator) -> Draw:
        """Return the pictures of a batch."""
        order = torch.randperm(len(self.objects), generator=generator)[: self.batch_size]
        objects = self.objects[order]
        views = self._some_view(objects, generator)
        return Draw(objects, views, self._some_view(objects, generator) if self._with_pairs else None)

    def _some_view(self, objects: Int64[Tensor, " n"], generator: torch.Generator) -> Int64[Tensor, " n"]:
        counts = self._counts[objects]
        place = (torch.rand(len(objects), generator=generator) * counts).long().clamp(max=counts - 1)
        return self._table[objects, place]
