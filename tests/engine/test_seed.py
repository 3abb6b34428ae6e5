import torch

from shapewright.engine.seed import make_generator


def draw(seed, stream):
    return torch.rand(4, generator=make_generator(seed, stream))


def test_the_same_seed_and_stream_repeat():
    assert torch.equal(draw(3, "rays"), draw(3, "rays"))


def test_streams_and_seeds_differ():
    first = draw(3, "rays")
    assert not torch.equal(first, draw(3, "points"))
    assert not torch.equal(first, draw(4, "rays"))
