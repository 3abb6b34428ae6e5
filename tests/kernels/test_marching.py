"""Marching: on every back end exactly the samples of the regular lattice that lie in occupied cells."""

import math
from dataclasses import replace

import pytest
import torch

from shapewright.kernels import ray_ops
from shapewright.kernels.ray_ops import Lattice

DOUBLE = torch.float64


def make_lattice(num_rays, device, generator, step=0.013):
    """Return rays through the cube from outside, some along axes, with their interval in it."""
    origins = 0.5 + 1.5 * torch.nn.functional.normalize(
        torch.randn(num_rays, 3, dtype=DOUBLE, generator=generator), dim=1
    )
    targets = 0.1 + 0.8 * torch.rand(num_rays, 3, dtype=DOUBLE, generator=generator)
    directions = torch.nn.functional.normalize(targets - origins, dim=1)
    axes = num_rays // 4
    directions[:axes] = torch.eye(3, dtype=DOUBLE)[torch.arange(axes) % 3]
    origins[:axes] = targets[:axes] - 1.5 * directions[:axes]
    ends = torch.stack([-origins / directions, (1 - origins) / directions]).nan_to_num(0.0)
    flat = directions == 0
    near = ends.amin(dim=0).masked_fill(flat, -math.inf).amax(dim=1)
    far = ends.amax(dim=0).masked_fill(flat, math.inf).amin(dim=1)
    jitter = torch.rand(num_rays, dtype=DOUBLE, generator=generator)
    return Lattice(*(column.to(device) for column in (origins, directions, near, far, jitter)), step)


def naive(lattice, occupied):
    """Walk each ray in a loop."""
    samples = []
    size = len(occupied)
    for ray in range(len(lattice.near)):
        k, kept = 0, []
        while (t := float(lattice.near[ray]) + (k + float(lattice.jitter[ray])) * lattice.step) < lattice.far[ray]:
            place = (lattice.origins[ray] + t * lattice.directions[ray]) * size
            x, y, z = place.floor().clamp(0, size - 1).long().tolist()
            if occupied[x, y, z]:
                kept.append(t)
            k += 1
        samples.append(kept)
    return samples


@pytest.mark.parametrize(("size", "share"), [(1, 1.0), (4, 0.5), (24, 0.1), (24, 0.9)])
def test_samples_are_the_filtered_lattice(device, generator, size, share):
    lattice = make_lattice(60, device, generator)
    occupied = (torch.rand(size, size, size, generator=generator) < share).to(device)
    starts, depths = ray_ops.march(lattice, occupied)
    expected = naive(lattice, occupied)
    assert starts.diff().tolist() == [len(kept) for kept in expected]
    flat = torch.tensor([t for kept in expected for t in kept], dtype=DOUBLE, device=device)
    torch.testing.assert_close(depths, flat, rtol=0, atol=1e-12)


def test_rays_in_float32_get_the_same_samples_on_all_back_ends(device, generator):
    lattice = make_lattice(500, device, generator)
    columns = (lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter)
    lattice = Lattice(*(column.float() for column in columns), lattice.step)
    occupied = (torch.rand(16, 16, 16, generator=generator) < 0.3).to(device)
    starts, depths = ray_ops.march(lattice, occupied)
    columns = (lattice.origins, lattice.directions, lattice.near, lattice.far, lattice.jitter)
    doubles = Lattice(*(column.double() for column in columns), lattice.step)
    expected_starts, expected = ray_ops.march(doubles, occupied)
    assert torch.equal(starts, expected_starts)
    assert depths.dtype == torch.float32
    torch.testing.assert_close(depths, expected.float(), rtol=0, atol=1e-6)


def test_nothing_and_everything_occupied(device, generator):
    lattice = make_lattice(20, device, generator)
    empty = torch.zeros(8, 8, 8, dtype=torch.bool, device=device)
    starts, depths = ray_ops.march(lattice, empty)
    assert not starts.any()
    assert len(depths) == 0
    starts, depths = ray_ops.march(lattice, ~empty)
    steps = ((lattice.far - lattice.near) / lattice.step - lattice.jitter).ceil().clamp_min(0)
    assert torch.equal(starts.diff(), steps.long())
    rays = torch.repeat_interleave(torch.arange(20, device=device), starts.diff())
    assert ((depths >= lattice.near[rays]) & (depths < lattice.far[rays])).all()


def test_no_ray_and_rays_without_an_interval(device, generator):
    occupied = torch.ones(4, 4, 4, dtype=torch.bool, device=device)
    starts, depths = ray_ops.march(make_lattice(0, device, generator), occupied)
    assert starts.tolist() == [0]
    assert len(depths) == 0
    lattice = make_lattice(6, device, generator)
    starts, _ = ray_ops.march(replace(lattice, far=lattice.near), occupied)
    assert starts.tolist() == [0] * 7


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("jitter", torch.zeros(3), "jitter"),
        ("directions", torch.zeros(4, 2), "directions"),
        ("far", torch.full((4,), torch.inf), "far"),
        ("step", 0.0, "step"),
    ],
)
def test_rays_that_do_not_fit_are_refused(name, value, message):
    zeros = torch.zeros(4)
    lattice = Lattice(torch.zeros(4, 3), torch.ones(4, 3), zeros, zeros + 1, zeros, 0.1)
    with pytest.raises(ValueError, match=message):
        ray_ops.march(replace(lattice, **{name: value}), torch.ones(2, 2, 2))


def test_cells_that_are_no_cube_are_refused():
    zeros = torch.zeros(1)
    lattice = Lattice(torch.zeros(1, 3), torch.ones(1, 3), zeros, zeros + 1, zeros, 0.1)
    with pytest.raises(ValueError, match="occupied"):
        ray_ops.march(lattice, torch.ones(2, 2, 3))
