import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

from shapewright.data.picture_sets import PictureSet, PictureViews, mirrored_cameras, mirrored_row, project_to
from shapewright.data.single_views import SingleViewSampler
from shapewright.geometry.orbit import kato_ring
from shapewright.methods.pose_invariant.batches import BatchRule, BatchSource, ToldPoses, exchanged_colours


def ring_of_noise(objects=8):
    views = PictureViews(kato_ring().world_from_camera[None].float(), 15.0)
    bins = torch.arange(24).expand(objects, 24)
    images = np.random.default_rng(0).integers(0, 255, (objects, 24, 4, 8, 8), dtype=np.uint8)
    names = tuple(f"object {number}" for number in range(objects))
    return PictureSet(images, views, bins, 24, names, ("thing",) * objects, mirrored_bins=-bins % 24)


def source(with_pairs=False, **rule):
    pictures = ring_of_noise()
    sampler = SingleViewSampler(torch.ones(8, 24, dtype=torch.bool), 8, with_pairs)
    return BatchSource(pictures, sampler, BatchRule(size=8, **rule))


def test_a_flipped_picture_is_the_mirrored_object_from_its_camera():
    poses = kato_ring().world_from_camera
    points = torch.rand(24, 10, 3, dtype=torch.float64) - 0.5
    screen = project_to(points, poses, 15.0, 64)
    mirrored = project_to(points * torch.tensor([1.0, 1.0, -1.0]), mirrored_cameras(poses), 15.0, 64)
    assert torch.allclose(mirrored[..., 0], 64 - screen[..., 0])
    assert torch.allclose(mirrored[..., 1:], screen[..., 1:])
    # The ring is its own mirror image: view k becomes view -k.
    assert mirrored_row(poses).tolist() == [-k % 24 for k in range(24)]
    assert mirrored_row(poses[:3]) is None


@pytest.mark.parametrize("with_pairs", [False, True])
def test_half_of_the_objects_are_flipped_with_their_cameras_and_bins(with_pairs):
    plain, varied = source(with_pairs), source(with_pairs, flips=True)
    flips = []
    for step in range(20):
        before, after = plain.batch(step), varied.batch(step)
        is_flipped = (after.pictures != before.pictures).flatten(1).any(dim=1)
        poses = torch.where(is_flipped[:, None, None], mirrored_cameras(before.poses), before.poses)
        assert torch.equal(after.poses, poses)
        assert torch.allclose(after.directions, normalize(after.poses[:, :, 3], dim=1), atol=1e-6)
        for name, flip in (("pictures", 3), ("masks", 2)):
            value = getattr(before, name)
            expected = torch.where(is_flipped.view(-1, *[1] * (flip)), value.flip(flip), value)
            assert torch.equal(getattr(after, name), expected)
        assert torch.equal(after.bins, torch.where(is_flipped, -before.bins % 24, before.bins))
        if with_pairs:
            # Both pictures of a pair must show the same object.
            assert torch.equal(is_flipped[:8], is_flipped[8:])
        flips.append(is_flipped)
    assert 0.3 < torch.cat(flips).float().mean() < 0.7


def test_wrong_bins_stay_with_their_pictures():
    wrong = source(flips=True, shuffle_poses=True)
    seen = {}
    for step in range(60):
        batch = wrong.batch(step)
        azimuth = torch.atan2(batch.directions[:, 2], batch.directions[:, 0])
        assert torch.equal((azimuth / (torch.pi / 12)).round().long() % 24, batch.bins)
        for picture, number in zip(batch.pictures, batch.bins.tolist(), strict=True):
            assert seen.setdefault(picture.numpy().tobytes(), number) == number
    right = source(flips=True)
    agree = [(wrong.batch(step).bins == right.batch(step).bins).float().mean() for step in range(60)]
    assert torch.stack(agree).mean() < 0.15


def test_colours_change_places_and_masks_stay():
    pictures = torch.rand(50, 4, 8, 8)
    changed = exchanged_colours(pictures, torch.Generator().manual_seed(0), len(pictures))
    assert torch.equal(changed[:, 3], pictures[:, 3])
    assert torch.equal(changed.sort(dim=1).values, pictures.sort(dim=1).values)
    assert len({tuple(row) for row in (changed[:, :3] == pictures[:, :1]).all(dim=(2, 3)).tolist()}) == 3
    pairs = exchanged_colours(pictures[:25].repeat(2, 1, 1, 1), torch.Generator().manual_seed(0), 25)
    assert torch.equal(pairs[:25], pairs[25:])
    assert exchanged_colours(pictures[:, :3], torch.Generator().manual_seed(0), len(pictures)).shape == (50, 3, 8, 8)


@pytest.mark.parametrize("is_flipped", [False, True])
def test_wrong_poses_are_the_right_ones_in_another_order(is_flipped):
    pictures = ring_of_noise()
    objects, views = torch.arange(8).repeat_interleave(24), torch.arange(24).repeat(8)
    flips = torch.full((len(views),), is_flipped)
    right, _ = ToldPoses(pictures, None).of(objects, views, flips)
    wrong, _ = ToldPoses(pictures, 0).of(objects, views, flips)
    assert torch.equal(right.sort().values, wrong.sort().values)
    assert (right == wrong).float().mean() < 0.15
