"""The radiance network: its inputs by mode, its range."""

from __future__ import annotations

import pytest
import torch

from shapewright.fields.config import RadianceConfig, ViewEncodingConfig
from shapewright.fields.encodings import build_view_encoding
from shapewright.fields.radiance import RadianceNetwork


def make_network(config: RadianceConfig, view_kind: str = "posenc") -> RadianceNetwork:
    view = build_view_encoding(ViewEncodingConfig(kind=view_kind))  # type: ignore[arg-type]
    return RadianceNetwork(config, view, 256, torch.Generator().manual_seed(0))


def inputs(count: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(count, 9 + 256, generator=generator)
    points, views, gradients, features = drawn.split([3, 3, 3, 256], dim=1)
    return {"points": points, "views": views, "gradients": gradients, "features": features}


@pytest.mark.parametrize(
    ("mode", "dim_in", "blind_to"),
    [
        ("idr", 289, None),
        ("no_view_dir", 262, "views"),
        ("no_normal", 286, "gradients"),
        ("no_feature", 33, "features"),
    ],
)
def test_modes_leave_out_one_input(mode, dim_in, blind_to):
    network = make_network(RadianceConfig(mode=mode))
    assert network.layers[0].weight.shape[1] == dim_in
    given = inputs()
    before = network(**given)
    for name in given:
        changed = network(**{**given, name: given[name].flip(0)})
        assert torch.equal(changed, before) == (name == blind_to)


@pytest.mark.parametrize("output", ["sigmoid", "tanh"])
def test_colours_lie_between_0_and_1(output):
    network = make_network(RadianceConfig(output=output))
    network.layers[-1].bias.data = torch.tensor([-50.0, 0.0, 50.0])
    colors = network(**inputs())
    assert colors[:, 0].max() < 1e-6
    assert colors[:, 2].min() > 1 - 1e-6


def test_unit_normals_ignore_the_gradients_length_and_raw_ones_do_not():
    given = inputs()
    stretched = {**given, "gradients": 3.0 * given["gradients"]}
    unit, raw = make_network(RadianceConfig(normal="unit")), make_network(RadianceConfig(normal="raw"))
    torch.testing.assert_close(unit(**given), unit(**stretched))
    assert not torch.allclose(raw(**given), raw(**stretched))


@pytest.mark.parametrize("view_kind", ["none", "posenc", "sh"])
def test_every_view_encoding_fits(view_kind):
    assert make_network(RadianceConfig(), view_kind)(**inputs(0)).shape == (0, 3)
