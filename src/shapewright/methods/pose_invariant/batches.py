"""What a training step sees: pictures of different objects, masks and poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from shapewright.data.pascal3d import PascalCrops
from shapewright.data.pascal3d import varied as varied_crops
from shapewright.data.picture_sets import PictureSet
from shapewright.data.single_views import SingleViewSampler
from shapewright.data.view_prior_pack import varied as varied_views
from shapewright.engine.seed import make_generator


@dataclass(frozen=True)
class Batch:
    """Hold one picture of each of n objects; with pairs, the second pictures follow after the first n.

    Args:
        pictures: In [0, 1], colours times mask and the mask.
        masks: To be learned, in [0, 1].
        poses: ``world_from_camera``.
        unseen: Poses from which other pictures were taken, for those who look at unseen sides.
        bins: Of the poses.
        unseen_bins: Bins of ``unseen``.
        classes: Places of the categories.
    """

    pictures: Float[Tensor, "n channels size size"]
    masks: Float[Tensor, "n side side"]
    poses: Float[Tensor, "n 3 4"]
    unseen: Float[Tensor, "n 3 4"]
    bins: Int64[Tensor, " n"]
    unseen_bins: Int64[Tensor, " n"]
    classes: Int64[Tensor, " n"]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(value.to(device) for value in vars(self).values()))


@dataclass(frozen=True, kw_only=True)
class BatchRule:
    """Say how batches are made of pictures.

    Args:
        size: Pixels along each side of the masks.
        seed: Of the run.
        draws_any_view: Take the unseen poses from all views alike; otherwise from the batch in reversed order.
        shuffle_poses: Give every picture a fixed wrong bin.
        flips: Mirror half of the pictures with their cameras and let colours change places.
        crops: Photographs of Pascal3D+ to cut anew each time, one set a class, in the order of the pictures.
    """

    size: int
    seed: int = 0
    draws_any_view: bool = False
    shuffle_poses: bool = False
    flips: bool = False
    crops: Sequence[PascalCrops] = ()


class BatchSource:
    """Make the batches of a run; they depend on the rule and the step alone.

    Args:
        pictures: Of the training objects.
        sampler: Which are drawn.
        rule: How.
    """

    def __init__(self, pictures: PictureSet, sampler: SingleViewSampler, rule: BatchRule) -> None:
        self.pictures, self.sampler, self.rule = pictures, sampler, rule
        self._bins = pictures.pose_bins
        if rule.shuffle_poses:
            flat = self._bins.flatten()
            order = torch.randperm(len(flat), generator=make_generator(rule.seed, "shuffled poses"))
            self._bins = flat[order].view_as(self._bins)
        places = {name: place for place, name in enumerate(pictures.classes)}
        self._classes = torch.tensor([places[name] for name in pictures.categories])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        rule = self.rule
        draw = self.sampler.draw(make_generator(rule.seed, f"pictures/{step}"))
        objects, views = draw.objects, draw.views
        if draw.others is not None:
            objects, views = objects.repeat(2), torch.cat([views, draw.others])
        poses, bins = self.pictures.views.poses(objects, views), self._bins[objects, views]
        masks = resized_masks(self.pictures.masks(objects, views), rule.size)
        generator = make_generator(rule.seed, f"variation/{step}")
        if rule.crops:
            pictures, bins = self._cut(objects, generator)
        else:
            pictures = self.pictures.pictures(objects, views)
        if rule.flips:
            pictures, poses, is_flipped = varied_views(pictures, poses, generator)
            masks = torch.where(is_flipped[:, None, None], masks.flip(2), masks)
        if rule.draws_any_view:
            other = torch.randint(self.pictures.num_views, views.shape, generator=generator)
            unseen, unseen_bins = self.pictures.views.poses(objects, other), self._bins[objects, other]
        else:
            unseen, unseen_bins = poses.flip(0), bins.flip(0)
        return Batch(pictures, masks, poses, unseen, bins, unseen_bins, self._classes[objects])

    def _cut(
        self, objects: Int64[Tensor, " n"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 3 size size"], Int64[Tensor, " n"]]:
        """Return photographs cut anew, and the bins of the poses that they show now."""
        places = [(k, row) for k, crops in enumerate(self.rule.crops) for row in range(len(crops.pictures))]
        rows = [places[place] for place in objects.tolist()]
        parts = [
            np.stack([getattr(self.rule.crops[k], name)[row] for k, row in rows]) for name in ("pictures", "boxes")
        ]
        flipped = np.stack([self.rule.crops[k].flipped_bins[row] for k, row in rows])
        bins = torch.stack([self._bins[objects, 0], torch.from_numpy(flipped).long()], dim=1)
        wide, boxes = map(torch.from_numpy, parts)
        return varied_crops(wide, boxes, bins, self.pictures.size, generator)


def resized_masks(masks: Float[Tensor, "n h w"], size: int) -> Float[Tensor, "n size size"]:
    """Return masks with ``size`` pixels a side: means of blocks where they fit, the nearest pixel elsewhere."""
    side = masks.shape[-1]
    if side == size:
        return masks
    if side % size == 0:
        return avg_pool2d(masks[:, None], side // size)[:, 0]
    return interpolate(masks[:, None], size=(size, size), mode="nearest")[:, 0]
