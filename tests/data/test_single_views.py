"""Batches hold one picture of an object."""

import logging

import pytest
import torch

from shapewright.data.single_views import SingleViewSampler


def at(step, seed=0):
    return torch.Generator().manual_seed(1000 * seed + step)


def every_picture(objects=58, views=24):
    return torch.ones(objects, views, dtype=torch.bool)


def test_a_thousand_batches_hold_no_object_twice():
    sampler = SingleViewSampler(every_picture(), 48)
    for step in range(1000):
        objects = sampler.draw(at(step)).objects
        assert len(objects) == 48
        assert len(objects.unique()) == 48


def test_every_picture_has_its_turn():
    sampler = SingleViewSampler(every_picture(5, 4), 3)
    seen = {(o, v) for step in range(300) for o, v in zip(*map(torch.Tensor.tolist, draws(sampler, step)), strict=True)}
    assert len(seen) == 20


def draws(sampler, step):
    draw = sampler.draw(at(step))
    return draw.objects, draw.views


def test_a_draw_depends_on_its_generator_alone():
    one, two = (SingleViewSampler(every_picture(), 16) for _ in range(2))
    one.draw(at(0))
    assert all(torch.equal(a, b) for a, b in zip(draws(one, 41), draws(two, 41), strict=True))
    assert not torch.equal(one.draw(at(42)).objects, one.draw(at(41)).objects)


def test_pictures_that_cannot_be_used_are_never_drawn():
    usable = every_picture(4, 3)
    usable[1] = False
    usable[2, :2] = False
    sampler = SingleViewSampler(usable, 3)
    for step in range(100):
        objects, views = draws(sampler, step)
        assert sorted(objects.tolist()) == [0, 2, 3]
        assert bool(usable[objects, views].all())


def test_pairs_are_two_views_of_the_same_object_and_may_coincide():
    sampler = SingleViewSampler(every_picture(6, 3), 6, with_pairs=True)
    same = [int((sampler.draw(at(step)).views == sampler.draw(at(step)).others).sum()) for step in range(100)]
    assert 0 < sum(same) < 600
    assert sum(same) == pytest.approx(200, abs=60)
    assert SingleViewSampler(every_picture(6, 3), 6).draw(at(0)).others is None


def test_a_batch_larger_than_the_set_is_lowered_with_one_warning(caplog):
    with caplog.at_level(logging.WARNING):
        sampler = SingleViewSampler(every_picture(5, 2), 48)
    assert sampler.batch_size == len(sampler.draw(at(0)).objects) == 5
    assert len(caplog.records) == 1
    assert "5 objects, not 48" in caplog.text


def test_a_set_without_a_picture_is_refused():
    with pytest.raises(ValueError, match="no picture"):
        SingleViewSampler(torch.zeros(3, 2, dtype=torch.bool), 2)
