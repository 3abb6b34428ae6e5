"""Encodings: their formulas, their pull-back, and what every one of them promises."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from shapewright.fields.config import EncodingConfig, ViewEncodingConfig
from shapewright.fields.encodings import build_encoding, build_view_encoding
from shapewright.fields.encodings.base import Encoding
from shapewright.fields.encodings.frequency import FrequencyEncoding
from shapewright.fields.encodings.view import SphericalHarmonics

SMALL_HASH = EncodingConfig(
    kind="hash", num_levels=3, start_levels=2, log2_table_size=8, base_resolution=4, max_resolution=16
)
POSITION_ENCODINGS = {
    "none": EncodingConfig(kind="none"),
    "posenc": EncodingConfig(kind="posenc", num_frequencies=3),
    "hash": SMALL_HASH,
    "smooth hash": EncodingConfig(
        kind="hash",
        num_levels=3,
        start_levels=2,
        log2_table_size=8,
        base_resolution=4,
        max_resolution=16,
        smoothstep=True,
    ),
}


@pytest.fixture(params=POSITION_ENCODINGS)
def encoding(request) -> Encoding:
    built = build_encoding(POSITION_ENCODINGS[request.param], torch.Generator().manual_seed(0)).double()
    for parameter in built.parameters():  # Features as large as after training.
        parameter.data *= 1e4
    return built


def interior_points(count: int) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 1.8 - 0.9


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (EncodingConfig(kind="none"), 3),
        (EncodingConfig(kind="posenc", num_frequencies=6), 39),
        (EncodingConfig(kind="hash", log2_table_size=10), 35),
    ],
)
def test_sizes_count_the_position(config, size):
    built = build_encoding(config)
    assert built.dim_out == size
    assert built(torch.zeros(2, 5, 3)).shape == (2, 5, size)


def test_position_comes_first_unshifted(encoding):
    points = interior_points(7)
    assert torch.equal(encoding(points)[:, :3], points)


def test_posenc_is_sines_and_cosines_of_octaves():
    points = interior_points(4)
    expected = [points]
    for octave in range(3):
        expected += [torch.sin(2**octave * points), torch.cos(2**octave * points)]
    torch.testing.assert_close(FrequencyEncoding(3)(points), torch.cat(expected, dim=1))


def test_pull_is_the_transposed_jacobian(encoding):
    points = interior_points(6).requires_grad_()
    gradient = torch.randn(6, encoding.dim_out, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (expected,) = torch.autograd.grad((encoding(points) * gradient).sum(), points)
    torch.testing.assert_close(encoding.pull(points, gradient), expected)


def test_encodings_are_twice_differentiable(encoding):
    points = interior_points(3).requires_grad_()
    assert torch.autograd.gradcheck(encoding, (points,), fast_mode=True)
    assert torch.autograd.gradgradcheck(encoding, (points,), fast_mode=True)
    gradient = torch.randn(3, encoding.dim_out, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(encoding.pull, (points, gradient), fast_mode=True)


def test_tables_get_gradients_from_normals(encoding):
    if not list(encoding.parameters()):
        pytest.skip("this encoding has no parameters")
    gradient = torch.ones(200, encoding.dim_out, dtype=torch.float64)
    encoding.pull(interior_points(200), gradient).square().sum().backward()
    assert float(encoding.table.grad.abs().sum()) > 0


def test_pull_without_gradients_needs_no_graph(encoding):
    with torch.no_grad():
        pulled = encoding.pull(interior_points(3), torch.ones(3, encoding.dim_out, dtype=torch.float64))
    assert not pulled.requires_grad


@pytest.mark.parametrize("count", [0, 1])
def test_few_points(encoding, count):
    points = interior_points(count)
    assert encoding(points).shape == (count, encoding.dim_out)
    assert encoding.pull(points, torch.ones(count, encoding.dim_out, dtype=torch.float64)).shape == (count, 3)


def test_hash_activates_levels_evenly_with_progress():
    config = EncodingConfig(kind="hash", num_levels=16, log2_table_size=8, start_levels=4, all_levels_at=0.5)
    built = build_encoding(config)
    points = torch.rand(50, 3) * 2 - 1
    active = []
    for progress in (0.0, 0.25, 0.5, 1.0):
        built.set_progress(progress)
        used = built(points)[:, 3:].unflatten(1, (16, 2)).abs().sum((0, 2)) > 0
        active.append(int(used.sum()))
        assert bool(used[: active[-1]].all())
    assert active == [4, 10, 16, 16]


def test_hash_clamps_outside_its_cube():
    built = build_encoding(SMALL_HASH)
    outside = torch.tensor([[1.5, 0.2, -3.0]])
    torch.testing.assert_close(built(outside)[:, 3:], built(torch.tensor([[1.0, 0.2, -1.0]]))[:, 3:])


@pytest.mark.parametrize("degree", [1, 2, 3, 4, 5])
def test_spherical_harmonics_are_orthonormal(degree):
    # Gauss-Legendre in z times equal azimuths integrates these products exactly.
    z, w = (torch.from_numpy(values) for values in np.polynomial.legendre.leggauss(8))
    azimuth = torch.arange(16, dtype=torch.float64) * (2 * math.pi / 16)
    nodes = torch.stack(
        [
            (1 - z[:, None] ** 2).sqrt() * azimuth.cos(),
            (1 - z[:, None] ** 2).sqrt() * azimuth.sin(),
            z[:, None].expand(-1, 16),
        ],
        dim=-1,
    ).reshape(-1, 3)
    weights = (w[:, None] * (2 * math.pi / 16)).expand(-1, 16).reshape(-1)
    values = SphericalHarmonics(degree)(nodes)
    torch.testing.assert_close(values.T @ (weights[:, None] * values), torch.eye(degree**2, dtype=torch.float64))


def test_spherical_harmonics_have_the_known_constants():
    values = SphericalHarmonics(4)(torch.tensor([[0.0, 0.0, 2.0], [1.0, 1.0, 0.0]], dtype=torch.float64))
    assert values[0, 0].item() == pytest.approx(0.28209, abs=1e-5)
    assert values[0, 2].item() == pytest.approx(0.48860, abs=1e-5)
    assert values[0, 6].item() == pytest.approx(2 * 0.31539, abs=1e-5)
    assert values[1, 4].item() == pytest.approx(1.09255 / 2, abs=1e-5)
    assert values[1, 8].item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        (ViewEncodingConfig(kind="none"), 3),
        (ViewEncodingConfig(kind="posenc", num_frequencies=4), 27),
        (ViewEncodingConfig(kind="sh", degree=4), 16),
    ],
)
def test_view_encoding_sizes(config, size):
    built = build_view_encoding(config)
    assert built.dim_out == built(torch.ones(2, 3)).shape[1] == size


def test_unknown_kinds_and_sizes_are_refused():
    with pytest.raises(ValueError, match="degree"):
        SphericalHarmonics(6)
    with pytest.raises(ValueError, match="num_frequencies"):
        FrequencyEncoding(-1)
    # A mistyped kind gets past the type of the field only at run time.
    for build, config in ((build_encoding, EncodingConfig()), (build_view_encoding, ViewEncodingConfig())):
        object.__setattr__(config, "kind", "fourrier")
        with pytest.raises(ValueError, match="fourrier"):
            build(config)
    with pytest.raises(ValueError, match="start_levels"):
        build_encoding(EncodingConfig(kind="hash", num_levels=3, start_levels=4))
