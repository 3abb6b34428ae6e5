"""What a training step sees: pictures of different objects, masks and poses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from shapewright.data.pascal3d import PascalCrops
from shapewright.data.pascal3d import varied as varied_crops
from shapewright.data.picture_sets import PictureSet, mirrored_cameras
from shapewright.data.single_views import SingleViewSampler
from shapewright.engine.seed import make_generator
from shapewright.methods.pose_invariant.model import PictureKind


@dataclass(frozen=True)
class Batch:
    """Hold one picture of each of n objects; with pairs, the second pictures follow after the first n.

    Args:
        pictures: In [0, 1], colours times mask and the mask.
        masks: To be learned, in [0, 1].
        colours: To be learned, times the mask, in [0, 1]; where no texture is learned, those of ``pictures``.
        poses: ``world_from_camera``.
        unseen: Poses from which other pictures were taken, for those who look at unseen sides.
        bins: Of the poses.
        unseen_bins: Bins of ``unseen``.
        directions: From the objects to the cameras, of length 1; like the bins those of other pictures in the control.
        classes: Places of the categories.
        objects: Places of the objects in the training set.
    """

    pictures: Float[Tensor, "n channels size size"]
    masks: Float[Tensor, "n side side"]
    colours: Float[Tensor, "n 3 size size"]
    poses: Float[Tensor, "n 3 4"]
    unseen: Float[Tensor, "n 3 4"]
    bins: Int64[Tensor, " n"]
    unseen_bins: Int64[Tensor, " n"]
    directions: Float[Tensor, "n 3"]
    classes: Int64[Tensor, " n"]
    objects: Int64[Tensor, " n"]

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
        shuffle_poses: Tell of every picture the pose of another one, always the same.
        flips: Mirror half of the objects, with their cameras and bins.
        exchanges_colours: Let red, green and blue change places.
        crops: Photographs of Pascal3D+ to cut anew each time, one set a class, in the order of the pictures.
    """

    size: int
    seed: int = 0
    draws_any_view: bool = False
    shuffle_poses: bool = False
    flips: bool = False
    exchanges_colours: bool = False
    crops: Sequence[PascalCrops] = ()


class ToldPoses:
    """Tell an adversary from where pictures were taken.

    Args:
        pictures: Of the training objects.
        seed: Tell of every picture, and of every flipped one, the pose of another, always the same; none: its own.
    """

    def __init__(self, pictures: PictureSet, seed: int | None) -> None:
        self._pictures = pictures
        count = pictures.pose_bins.numel()
        own = torch.arange(count).expand(2, -1)
        if seed is not None:
            streams = ("shuffled poses", "shuffled mirrored")
            own = torch.stack([torch.randperm(count, generator=make_generator(seed, name)) for name in streams])
        self._lenders = own.unflatten(1, pictures.pose_bins.shape)
        mirrored = pictures.pose_bins if pictures.mirrored_bins is None else pictures.mirrored_bins
        self._bins = torch.stack([pictures.pose_bins, mirrored]).flatten(1)

    def of(
        self, objects: Int64[Tensor, " n"], views: Int64[Tensor, " n"], is_flipped: Bool[Tensor, " n"]
    ) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n 3"]]:
        """Return bins, and directions from the objects to the cameras."""
        side = is_flipped.long()
        lenders = self._lenders[side, objects, views]
        directions = self._pictures.directions(lenders // self._pictures.num_views, lenders % self._pictures.num_views)
        mirror = torch.stack([torch.ones(3), torch.tensor([1.0, 1.0, -1.0])])[side]
        return self._bins[side, lenders], directions * mirror


class BatchSource:
    """Make the batches of a run; they depend on the rule and the step alone.

    Args:
        pictures: Of the training objects.
        sampler: Which are drawn.
        rule: How.
    """

    def __init__(self, pictures: PictureSet, sampler: SingleViewSampler, rule: BatchRule) -> None:
        self.pictures, self.sampler, self.rule = pictures, sampler, rule
        self._told = ToldPoses(pictures, rule.seed if rule.shuffle_poses else None)
        self._classes = PictureKind.of(pictures).places(pictures.categories)
        self._crops = [(crops, row) for crops in rule.crops for row in range(len(crops.pictures))]

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        rule = self.rule
        draw = self.sampler.draw(make_generator(rule.seed, f"pictures/{step}"))
        objects, views = draw.objects, draw.views
        if draw.others is not None:
            objects, views = objects.repeat(2), torch.cat([views, draw.others])
        generator = make_generator(rule.seed, f"variation/{step}")
        is_flipped = torch.zeros(len(draw.objects), dtype=torch.bool)
        if rule.flips:
            is_flipped = torch.rand(len(draw.objects), generator=generator) < 0.5
        is_flipped = is_flipped.repeat(len(objects) // len(draw.objects))
        masks = resized_masks(self.pictures.masks(objects, views), rule.size)
        poses = self.pictures.views.poses(objects, views)
        bins, directions = self._told.of(objects, views, is_flipped)
        if rule.crops:
            pictures, bins = self._cut(objects, bins, generator)
        else:
            pictures = self.pictures.pictures(objects, views)
        if rule.flips:
            flip = is_flipped[:, None, None]
            pictures = torch.where(flip[..., None], pictures.flip(3), pictures)
            masks = torch.where(flip, masks.flip(2), masks)
            poses = torch.where(flip, mirrored_cameras(poses), poses)
        if rule.exchanges_colours:
            pictures = exchanged_colours(pictures, generator, len(draw.objects))
        unseen, unseen_bins = poses.flip(0), bins.flip(0)
        if rule.draws_any_view:
            other = torch.randint(self.pictures.num_views, views.shape, generator=generator)
            unseen = self.pictures.views.poses(objects, other)
            unseen_bins, _ = self._told.of(objects, other, torch.zeros_like(is_flipped))
        classes = self._classes[objects]
        colours = self._painted(objects, pictures)
        return Batch(pictures, masks, colours, poses, unseen, bins, unseen_bins, directions, classes, objects)

    def _cut(
        self, objects: Int64[Tensor, " n"], bins: Int64[Tensor, " n"], generator: torch.Generator
    ) -> tuple[Float[Tensor, "n 3 size size"], Int64[Tensor, " n"]]:
        """Return photographs cut anew, and the bins of the poses that they show now."""
        found = [self._crops[place] for place in objects.tolist()]
        wide, boxes, flipped = (
            torch.from_numpy(np.stack([getattr(crops, name)[row] for crops, row in found]))
            for name in ("pictures", "boxes", "flipped_bins")
        )
        return varied_crops(wide, boxes, torch.stack([bins, flipped.long()], dim=1), self.pictures.size, generator)

    def _painted(
        self, objects: Int64[Tensor, " n"], pictures: Float[Tensor, "n channels size size"]
    ) -> Float[Tensor, "n 3 size size"]:
        """Return the colours to be learned: of photographs those of the crop that the mask belongs to, if kept."""
        found = [self._crops[place] for place in objects.tolist()] if self._crops else []
        stored = [crops.colours[row] for crops, row in found if crops.colours is not None]
        if not stored:
            return pictures[:, :3]
        colours = torch.from_numpy(np.stack(stored)).float() / 255
        return interpolate(colours, pictures.shape[2:], mode="bilinear", antialias=True)


def exchanged_colours(
    pictures: Float[Tensor, "n channels h w"], generator: torch.Generator, num_objects: int
) -> Float[Tensor, "n channels h w"]:
    """Return pictures whose red, green and blue have changed places, those of each object in its own way.

    Args:
        pictures: Colours first (view prior learning); with pairs, the second pictures follow after the first ones.
        generator: On the CPU.
        num_objects: How many there are.
    """
    orders = torch.rand(num_objects, 3, generator=generator).argsort(dim=1).repeat(len(pictures) // num_objects, 1)
    rest = torch.arange(3, pictures.shape[1]).expand(len(pictures), -1)
    channels = torch.cat([orders, rest], dim=1).to(pictures.device)
    return pictures.gather(1, channels[:, :, None, None].expand_as(pictures))


def resized_masks(masks: Float[Tensor, "n h w"], size: int) -> Float[Tensor, "n size size"]:
    """Return masks with ``size`` pixels a side: means of blocks where they fit, the nearest pixel elsewhere."""
    side = masks.shape[-1]
    if side == size:
        return masks
    if side % size == 0:
        return avg_pool2d(masks[:, None], side // size)[:, 0]
    return interpolate(masks[:, None], size=(size, size), mode="nearest")[:, 0]
