"""What a training step sees: pictures of different objects, masks and poses."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from shapewright.data.picture_sets import PictureSet
from shapewright.data.single_views import SingleViewSampler
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


class BatchSource:
    """Make the batches of a run.

    Args:
        pictures: Of the training objects.
        sampler: Which are drawn.
        size: Pixels along each side of the masks.
        draws_any_view: Take the unseen poses from all views alike; otherwise from the batch in reversed order.
        seed: Of the run.
        shuffle_poses: Give every picture a fixed wrong bin.
    """

    def __init__(
        self,
        pictures: PictureSet,
        sampler: SingleViewSampler,
        size: int,
        draws_any_view: bool,
        seed: int,
        shuffle_poses: bool = False,
    ) -> None:
        self.pictures, self.sampler, self.size = pictures, sampler, size
        self._draws_any_view, self._seed = draws_any_view, seed
        self._bins = pictures.pose_bins
        if shuffle_poses:
            flat = self._bins.flatten()
            order = torch.randperm(len(flat), generator=make_generator(seed, "shuffled poses"))
            self._bins = flat[order].view_as(self._bins)
        places = {name: place for place, name in enumerate(pictures.classes)}
        self._classes = torch.tensor([places[name] for name in pictures.categories])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        draw = self.sampler.draw(step)
        objects, views = draw.objects, draw.views
        if draw.others is not None:
            objects, views = objects.repeat(2), torch.cat([views, draw.others])
        poses, bins = self.pictures.views.poses(objects, views), self._bins[objects, views]
        if self._draws_any_view:
            generator = make_generator(self._seed, f"unseen/{step}")
            other = torch.randint(self.pictures.num_views, views.shape, generator=generator)
            unseen, unseen_bins = self.pictures.views.poses(objects, other), self._bins[objects, other]
        else:
            unseen, unseen_bins = poses.flip(0), bins.flip(0)
        masks = resized_masks(self.pictures.masks(objects, views), self.size)
        pictures = self.pictures.pictures(objects, views)
        return Batch(pictures, masks, poses, unseen, bins, unseen_bins, self._classes[objects])


def resized_masks(masks: Float[Tensor, "n h w"], size: int) -> Float[Tensor, "n size size"]:
    """Return masks with ``size`` pixels a side: means of blocks where they fit, the nearest pixel elsewhere."""
    side = masks.shape[-1]
    if side == size:
        return masks
    if side % size == 0:
        return avg_pool2d(masks[:, None], side // size)[:, 0]
    return interpolate(masks[:, None], size=(size, size), mode="nearest")[:, 0]
