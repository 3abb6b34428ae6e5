"""The decoder against a plain one, point by point, written from the format's description (5.1)."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from shapewright.methods.deep_sdf import fused
from shapewright.methods.deep_sdf.config import DecoderConfig
from shapewright.methods.deep_sdf.fused import Stack, drop_out, evaluate_stack
from shapewright.methods.deep_sdf.model import Decoder, conditions, evaluate

PUBLISHED = DecoderConfig(
    code_length=256,
    widths=(512,) * 8,
    latent_in=(4,),
    norm_layers=tuple(range(8)),
    weight_norm=True,
    dropout_layers=tuple(range(8)),
    dropout=0.2,
    init="default",
)


class PlainDecoder(nn.Module):
    """Concatenate code and position for every point."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        joined = config.code_length + 3
        widths = [joined, *config.widths, 1]
        self.count = len(widths) - 1
        for layer in range(self.count):
            num_out = widths[layer + 1]
            if layer + 1 in config.latent_in:
                num_out -= joined
            elif config.xyz_in_all and layer != self.count - 1:
                num_out -= 3
            linear = nn.Linear(widths[layer], num_out)
            if layer in config.norm_layers:
                if config.weight_norm:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        linear = nn.utils.weight_norm(linear)
                else:
                    self.add_module(f"bn{layer}", nn.LayerNorm(num_out))
            self.add_module(f"lin{layer}", linear)

    def forward(self, points, codes):
        shapes, n, _ = points.shape
        inputs = torch.cat((codes[:, None].expand(shapes, n, -1), points), 2).reshape(shapes * n, -1)
        position = inputs[:, -3:]
        hidden = inputs
        for layer in range(self.count):
            if layer in self.config.latent_in:
                hidden = torch.cat((hidden, inputs), 1)
            elif layer > 0 and self.config.xyz_in_all:
                hidden = torch.cat((hidden, position), 1)
            hidden = getattr(self, f"lin{layer}")(hidden)
            if layer == self.count - 1:
                break
            if hasattr(self, f"bn{layer}"):
                hidden = getattr(self, f"bn{layer}")(hidden)
            hidden = hidden.clamp(min=0)
        if self.config.use_tanh:
            hidden = torch.tanh(hidden)
        return torch.tanh(hidden).reshape(shapes, n)


@st.composite
def configs(draw):
    """Draw small decoders with every option that the original has."""
    num_hidden = draw(st.integers(1, 4))
    layers = st.lists(st.integers(0, num_hidden), unique=True)
    return DecoderConfig(
        code_length=draw(st.integers(0, 5)),
        widths=tuple(draw(st.integers(12, 20)) for _ in range(num_hidden)),
        latent_in=tuple(draw(st.lists(st.integers(1, num_hidden), unique=True))),
        xyz_in_all=draw(st.booleans()),
        norm_layers=tuple(draw(layers)),
        weight_norm=draw(st.booleans()),
        use_tanh=draw(st.booleans()),
        init=draw(st.sampled_from(("default", "geometric"))),
    )


def pair(config, dtype, seed=0):
    """Return a decoder with random weights, the plain one with the same, points and codes of three shapes."""
    generator = torch.Generator().manual_seed(seed)
    ours = Decoder(config, generator).to(dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator).to(dtype))
    plain = PlainDecoder(config).to(dtype)
    plain.load_state_dict(ours.state_dict())
    points = 2 * torch.rand(3, 7, 3, generator=generator).to(dtype) - 1
    codes = torch.randn(3, config.code_length, generator=generator).to(dtype)
    return ours, plain, points, codes


def gradients(decoder, points, codes):
    """Return the derivatives of a weighted sum of distances by all parameters and codes."""
    codes = codes.clone().requires_grad_()
    values = decoder(points, codes)
    weights = torch.linspace(-1, 1, values.numel(), dtype=values.dtype).reshape(values.shape)
    parameters = {**dict(decoder.named_parameters()), "codes": codes}
    found = torch.autograd.grad((weights * values).sum(), list(parameters.values()), allow_unused=True)
    return {
        name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(parameters.items(), found, strict=True)
    }


@settings(max_examples=60, deadline=None)
@given(configs())
def test_every_option_equals_the_plain_decoder_in_both_precisions(config):
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        ours, plain, points, codes = pair(config, dtype)
        expected = plain(points, codes)
        torch.testing.assert_close(ours(points, codes), expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(ours.fold()(points, codes), expected, rtol=tolerance, atol=tolerance)
        by_layer = ours(points.clone().requires_grad_(), codes)
        torch.testing.assert_close(by_layer, expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=40, deadline=None)
@given(configs())
def test_gradients_equal_the_plain_decoders(config):
    ours, plain, points, codes = pair(config, torch.float64)
    expected, found = gradients(plain, points, codes), gradients(ours, points, codes)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-10, msg=name)


def test_the_published_decoder_has_its_parameters_and_names():
    decoder = Decoder(PUBLISHED)
    assert sum(parameter.numel() for parameter in decoder.parameters()) == 1_843_195
    assert decoder.state_dict().keys() == PlainDecoder(PUBLISHED).state_dict().keys()
    assert decoder.get_submodule("lin3").weight_v.shape == (253, 512)
    assert decoder.get_submodule("lin4").weight_v.shape == (512, 512)


def test_keep_width_widens_the_joined_layer_instead_of_narrowing_the_one_before():
    decoder = Decoder(DecoderConfig(code_length=4, widths=(16, 16, 16), latent_in=(2,), keep_width=True))
    assert decoder.get_submodule("lin1").weight.shape == (16, 16)
    assert decoder.get_submodule("lin2").weight.shape == (16, 16 + 4 + 3)


def test_a_layer_without_room_beside_the_code_is_refused():
    with pytest.raises(ValueError, match=r"Layer 1 of width 32 .* code of 32"):
        Decoder(DecoderConfig(code_length=32, widths=(32, 32, 32), latent_in=(2,)))


@pytest.mark.parametrize("encoding", ["none", "fourier"])
def test_the_untrained_geometric_field_is_that_of_a_sphere(encoding):
    decoder = Decoder(DecoderConfig(encoding=encoding), torch.Generator().manual_seed(0)).eval()
    directions = nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    radii = torch.tensor([0.1, 0.3, 0.5, 0.75, 1.0])
    with torch.no_grad():
        values = decoder(radii[:, None, None] * directions, torch.zeros(5, 32))
    assert (values[0] < -0.3).all()
    assert float((values[-1] > 0).float().mean()) > 0.97
    assert (values.mean(1).diff() > 0.1).all()
    assert abs(float(values[2].mean())) < 0.15


def test_derivatives_by_the_position_exist_twice():
    ours, _, points, codes = pair(DecoderConfig(code_length=2, widths=(12, 12), latent_in=(1,)), torch.float64)
    points.requires_grad_()
    (slope,) = torch.autograd.grad(ours(points, codes).sum(), points, create_graph=True)
    (slope.norm(dim=2) - 1).square().mean().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for name, p in ours.named_parameters() if "bias" not in name
    )
    step = 1e-6 * torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)
    with torch.no_grad():
        by_difference = (ours(points + step, codes) - ours(points - step, codes)) / 2e-6
    torch.testing.assert_close(slope[..., 0].detach(), by_difference, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_written_out_derivative_passes_gradcheck_with_dropout(share):
    config = DecoderConfig(
        code_length=2, widths=(12, 12, 10), latent_in=(2,), dropout_layers=(0, 2), dropout=share, init="default"
    )
    decoder = Decoder(config, torch.Generator().manual_seed(3)).double().train()
    points = torch.rand(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    names = [name for name, _ in decoder.named_parameters()]

    def run(codes, *parameters):
        torch.manual_seed(0)
        return torch.func.functional_call(decoder, dict(zip(names, parameters, strict=True)), (points, codes))

    codes = torch.randn(2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(run, (codes, *(p.detach().clone().requires_grad_() for p in decoder.parameters())))


@pytest.mark.parametrize("numbers", [1, 30, 60, 200, 300])
def test_parts_of_any_size_give_the_same(monkeypatch, numbers):
    config = DecoderConfig(code_length=3, widths=(12, 12, 12), latent_in=(2,))
    ours, _, points, codes = pair(config, torch.float64)
    whole, expected = ours(points, codes), gradients(ours, points, codes)
    monkeypatch.setattr(fused, "CHUNK_NUMBERS", numbers)
    torch.testing.assert_close(ours(points, codes), whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradients(ours, points, codes), expected, rtol=1e-12, atol=1e-12)


def test_no_points_and_no_shapes_are_answered():
    decoder = Decoder(DecoderConfig(code_length=3, widths=(12, 12), latent_in=(1,)))
    codes = torch.zeros(2, 3, requires_grad=True)
    values = decoder(torch.zeros(2, 0, 3), codes)
    values.sum().backward()
    assert values.shape == (2, 0)
    assert torch.equal(codes.grad, torch.zeros(2, 3))
    assert decoder(torch.zeros(0, 4, 3), torch.zeros(0, 3)).shape == (0, 4)
    assert decoder.fold().sdf(torch.zeros(0, 3), torch.zeros(3)).shape == (0,)


def test_a_folded_decoder_gives_gradients_to_codes_alone():
    ours, plain, points, codes = pair(PUBLISHED, torch.float32)
    folded = ours.fold()
    codes.requires_grad_()
    (expected,) = torch.autograd.grad(plain(points, codes).sum(), codes)
    (found,) = torch.autograd.grad(folded(points, codes).sum(), codes)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert not any(
        layer.bias.requires_grad or (layer.position is not None and layer.position.requires_grad)
        for layer in folded.layers
    )
    one_by_one = torch.stack([folded.sdf(p, c) for p, c in zip(points, codes.detach(), strict=True)])
    torch.testing.assert_close(one_by_one, folded(points, codes).detach())


def test_only_the_layers_that_are_free_get_gradients():
    ours, _, points, codes = pair(DecoderConfig(code_length=3, widths=(12, 12, 12), latent_in=(2,)), torch.float64)
    layers = ours.fold().layers
    free = layers[2].hidden.requires_grad_()
    added = conditions(layers, codes)
    (found,) = torch.autograd.grad(evaluate(ours.config, layers, points, added).sum(), free)
    (whole,) = torch.autograd.grad(ours(points, codes).sum(), ours.get_submodule("lin2").weight)
    torch.testing.assert_close(found, whole[:, : free.shape[1]])


def test_sixteen_bits_stay_close_and_keep_positions_apart():
    generator = torch.Generator().manual_seed(0)
    decoder = Decoder(DecoderConfig(), generator).eval()
    points = 2 * torch.rand(4, 1000, 3, generator=generator) - 1
    codes = 0.1 * torch.randn(4, 32, generator=generator)
    with torch.no_grad():
        exact, short = decoder(points, codes), decoder(points, codes, torch.bfloat16)
        assert short.dtype == torch.float32
        assert float((short - exact).abs().mean()) < 2e-3
        # The first layer's products alone: a position of 8 bits would move by up to 0.002.
        line = Decoder(DecoderConfig(code_length=0, widths=(4,), latent_in=(), init="default"), generator)
        weight = line.get_submodule("lin0").weight
        weight.zero_()
        weight[0, 0] = 1.0
        line.get_submodule("lin0").bias.fill_(0.0)
        top = line.get_submodule("lin1")
        top.weight.fill_(1.0)
        top.bias.fill_(0.0)
        near = torch.tensor([[[2.0**-3 * (1 + 2.0**-12), 0.0, 0.0], [2.0**-3, 0.0, 0.0]]])
        weight[0, 0] = 1.0
        line.get_submodule("lin0").bias[0] = -(2.0**-3)
        difference = line(near, torch.zeros(1, 0), torch.bfloat16)[0]
        assert difference[0] == pytest.approx(2.0**-15, rel=1e-2)
        assert difference[1] == 0


def test_sixteen_bit_gradients_are_close_to_the_exact_ones():
    ours, _, _, _ = pair(DecoderConfig(code_length=8, widths=(64, 64, 64), latent_in=(2,)), torch.float32)
    generator = torch.Generator().manual_seed(5)
    points = 2 * torch.rand(3, 400, 3, generator=generator) - 1
    codes = torch.randn(3, 8, generator=generator).requires_grad_()
    target = torch.rand(3, 400, generator=generator)
    inputs = [codes, *ours.parameters()]
    for exact, short in zip(
        torch.autograd.grad((ours(points, codes) - target).square().sum(), inputs),
        torch.autograd.grad((ours(points, codes, torch.bfloat16) - target).square().sum(), inputs),
        strict=True,
    ):
        assert float((short - exact).norm()) < 0.02 * float(exact.norm())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dropped_numbers_are_a_fifth_and_the_rest_keeps_the_mean(dtype):
    torch.manual_seed(0)
    values = torch.ones(401, 503, dtype=dtype)
    drop_out(values, 0.2)
    assert values.unique().tolist() == [0.0, 1.25]
    assert float((values == 0).float().mean()) == pytest.approx(0.2, abs=0.004)
    for axis in (0, 1):
        spread = (values == 0).float().mean(axis).std()
        assert float(spread) == pytest.approx((0.16 / values.shape[axis]) ** 0.5, rel=0.2)
    drop_out(values, 1.0)
    assert not values.any()


def test_dropout_acts_in_training_alone():
    config = DecoderConfig(code_length=2, widths=(64, 64), latent_in=(), dropout_layers=(1,), dropout=0.5)
    decoder = Decoder(config, torch.Generator().manual_seed(0))
    points, codes = torch.rand(1, 50, 3), torch.zeros(1, 2)
    for inputs in (points, points.clone().requires_grad_()):
        torch.manual_seed(0)
        first, second = decoder.train()(inputs, codes), decoder(inputs, codes)
        assert not torch.equal(first, second)
        torch.manual_seed(0)
        assert torch.equal(decoder(inputs, codes), first)
        assert torch.equal(decoder.eval()(inputs, codes), decoder(inputs, codes))


def test_latent_dropout_zeroes_a_fifth_of_the_first_codes_numbers_at_each_point():
    decoder = Decoder(DecoderConfig(code_length=1, widths=(1,), latent_in=(), latent_dropout=True, init="default"))
    with torch.no_grad():
        decoder.get_submodule("lin0").weight.copy_(torch.tensor([[1.0, 0.0, 0.0, 0.0]]))
        decoder.get_submodule("lin1").weight.fill_(1.0)
        for name in ("lin0", "lin1"):
            decoder.get_submodule(name).bias.zero_()
        torch.manual_seed(0)
        values = decoder.train()(torch.rand(2, 10_000, 3), torch.full((2, 1), 0.08))
        assert sorted(values.unique().tolist()) == pytest.approx([0.0, 0.0996679], abs=1e-6)
        assert float((values == 0).float().mean()) == pytest.approx(0.2, abs=0.01)
        kept = decoder.eval()(torch.rand(2, 5, 3), torch.full((2, 1), 0.08))
        torch.testing.assert_close(kept, torch.full((2, 5), 0.08).tanh())


def test_latent_dropout_spares_the_code_where_it_enters_again():
    config = DecoderConfig(code_length=4, widths=(20, 20), latent_in=(1,), latent_dropout=True)
    decoder = Decoder(config, torch.Generator().manual_seed(0))
    points, codes = torch.rand(1, 30, 3), torch.randn(1, 4)
    with torch.no_grad():
        assert not torch.allclose(decoder.train()(points, codes), decoder.eval()(points, codes))
        decoder.get_submodule("lin0").weight[:, :4] = 0.0
        torch.testing.assert_close(decoder.train()(points, codes), decoder.eval()(points, codes))


def test_the_fused_layers_refuse_positions_that_need_a_gradient():
    layers = Decoder(DecoderConfig(code_length=2, widths=(8,), latent_in=())).layers()
    stack = Stack(
        [layer.hidden for layer in layers],
        [layer.position for layer in layers],
        conditions(layers, torch.zeros(1, 2)),
        [0.0, 0.0],
        torch.float32,
    )
    with pytest.raises(ValueError, match="no derivative by the position"):
        evaluate_stack(stack, torch.zeros(1, 4, 3, requires_grad=True))
