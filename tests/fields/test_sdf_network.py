"""The signed distance network: it starts as a sphere, and its gradient is exact."""

from __future__ import annotations

import pytest
import torch

from shapewright.fields.config import EncodingConfig, RadianceConfig, SdfConfig, ViewEncodingConfig
from shapewright.fields.encodings import build_encoding, build_view_encoding
from shapewright.fields.radiance import RadianceNetwork
from shapewright.fields.sdf_network import SdfNetwork

ENCODINGS = {
    "none": EncodingConfig(kind="none"),
    "posenc": EncodingConfig(kind="posenc"),
    "hash": EncodingConfig(kind="hash", log2_table_size=14, max_resolution=512),
}
PAPER_SDF = SdfConfig(width=512, num_layers=8, feature_size=256, skip_layer=4, start="geometric")


def make_network(config: SdfConfig, encoding: EncodingConfig, seed: int = 0) -> SdfNetwork:
    generator = torch.Generator().manual_seed(seed)
    return SdfNetwork(config, build_encoding(encoding, generator), generator)


def cube_points(count: int = 4096) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(9)) * 2 - 1


def num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_paper_networks_have_the_papers_number_of_parameters():
    sdf = make_network(PAPER_SDF, ENCODINGS["posenc"])
    radiance = RadianceNetwork(
        RadianceConfig(width=512, num_layers=4), build_view_encoding(ViewEncodingConfig(kind="posenc")), 256
    )
    assert num_parameters(sdf) == 1_975_220
    assert num_parameters(sdf) + num_parameters(radiance) == 2_915_258


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_fitted_start_is_a_centred_sphere(kind, sign):
    network = make_network(SdfConfig(inside_out=sign < 0), ENCODINGS[kind])
    points = cube_points()
    values = network.evaluate(points)
    exact = sign * (points.norm(dim=-1) - 0.6)
    assert (values.sdf - exact).abs().mean() <= 0.02
    assert 0.95 <= values.gradient.norm(dim=-1).mean() <= 1.05
    ball = points[values.sdf * sign < 0]
    assert ball.mean(0).norm() <= 0.04


@pytest.mark.parametrize("kind", ENCODINGS)
@pytest.mark.parametrize("config", [PAPER_SDF, SdfConfig(start="geometric")], ids=["paper", "small"])
def test_geometric_start_is_about_a_sphere(kind, config):
    network = make_network(config, ENCODINGS[kind])
    points = cube_points(1024)
    values = network.evaluate(points)
    assert (values.sdf - (points.norm(dim=-1) - 0.6)).abs().mean() <= 0.45
    assert 0.7 <= values.gradient.norm(dim=-1).mean() <= 1.5
    assert torch.nn.functional.cosine_similarity(values.gradient, points).mean() >= 0.85


@pytest.mark.parametrize("kind", ENCODINGS)
def test_gradient_is_that_of_autograd_and_trains_alike(kind):
    config = SdfConfig(width=64, feature_size=3, skip_layer=2, num_layers=3, start="geometric", sharpness=10.0)
    network = make_network(config, ENCODINGS[kind]).double()
    for parameter in network.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3))
    points = cube_points(20).double()

    def plain_gradient(at: torch.Tensor) -> torch.Tensor:
        at = at.detach().requires_grad_()
        return torch.autograd.grad(network.sdf(at).sum(), at, create_graph=True)[0]

    values = network.evaluate(points)
    torch.testing.assert_close(values.sdf, network(points)[0])
    torch.testing.assert_close(values.sdf, network.sdf(points))
    torch.testing.assert_close(values.feature, network(points)[1])
    torch.testing.assert_close(values.gradient, plain_gradient(points))
    parameters = list(network.parameters())
    loss = (values.gradient.norm(dim=-1) - 1).square().mean()
    plain_loss = (plain_gradient(points).norm(dim=-1) - 1).square().mean()
    ours = torch.autograd.grad(loss, parameters, allow_unused=True)
    plain = torch.autograd.grad(plain_loss, parameters, allow_unused=True)
    for got, expected in zip(ours, plain, strict=True):
        if expected is not None:
            torch.testing.assert_close(got, expected)


def test_gradient_carries_a_gradient_to_the_points():
    network = make_network(SdfConfig(width=8, start="geometric", sharpness=5.0), ENCODINGS["posenc"]).double()
    points = cube_points(4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda at: network.evaluate(at).gradient, (points,), fast_mode=True)


def test_without_gradients_nothing_keeps_a_graph():
    network = make_network(SdfConfig(start="geometric"), ENCODINGS["hash"])
    with torch.no_grad():
        values = network.evaluate(cube_points(5))
    assert not any(value.requires_grad for value in values)


@pytest.mark.parametrize("shape", [(0,), (1,), (2, 3)])
def test_any_number_of_points(shape):
    network = make_network(SdfConfig(start="geometric"), ENCODINGS["hash"])
    values = network.evaluate(torch.zeros(*shape, 3))
    assert values.sdf.shape == shape
    assert values.gradient.shape == (*shape, 3)
    assert values.feature.shape == (*shape, 15)


def test_seeds_decide_the_network():
    first, again, other = (make_network(SdfConfig(), ENCODINGS["hash"], seed) for seed in (0, 0, 1))
    points = cube_points(8)
    assert torch.equal(first.sdf(points), again.sdf(points))
    assert not torch.equal(first.sdf(points), other.sdf(points))


def test_a_skip_needs_room_for_the_encoding():
    with pytest.raises(ValueError, match="width"):
        make_network(SdfConfig(width=32, skip_layer=1), ENCODINGS["posenc"])
