"""``specs.json`` as the original program writes it, and back."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shapewright.errors import UserError
from shapewright.methods.deep_sdf.config import CodeConfig, DecoderConfig, DeepSdfConfig, LossConfig, RateConfig
from shapewright.methods.deep_sdf.model import Decoder
from shapewright.methods.deep_sdf.specs import config_from_specs, paper_config, read_specs, specs_from_config

CHAIRS = {
    "Description": ["This experiment learns a shape representation for chairs ", "using ShapeNet version 2."],
    "DataSource": "data",
    "TrainSplit": "examples/splits/sv2_chairs_train.json",
    "TestSplit": "examples/splits/sv2_chairs_test.json",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {
        "dims": [512, 512, 512, 512, 512, 512, 512, 512],
        "dropout": [0, 1, 2, 3, 4, 5, 6, 7],
        "dropout_prob": 0.2,
        "norm_layers": [0, 1, 2, 3, 4, 5, 6, 7],
        "latent_in": [4],
        "xyz_in_all": False,
        "use_tanh": False,
        "latent_dropout": False,
        "weight_norm": True,
    },
    "CodeLength": 256,
    "NumEpochs": 2001,
    "SnapshotFrequency": 1000,
    "AdditionalSnapshots": [100, 500],
    "LearningRateSchedule": [
        {"Type": "Step", "Initial": 0.0005, "Interval": 500, "Factor": 0.5},
        {"Type": "Step", "Initial": 0.001, "Interval": 500, "Factor": 0.5},
    ],
    "SamplesPerScene": 16384,
    "ScenesPerBatch": 64,
    "DataLoaderThreads": 16,
    "ClampingDistance": 0.1,
    "CodeRegularization": True,
    "CodeRegularizationLambda": 0.0001,
    "CodeBound": 1.0,
}
# What the original takes where a key is absent.
BARE = {
    "NetworkSpecs": {"dims": [16, 16]},
    "CodeLength": 4,
    "NumEpochs": 10,
    "LearningRateSchedule": [{"Type": "Constant", "Value": 0.1}, {"Type": "Constant", "Value": 0.2}],
    "SamplesPerScene": 100,
    "ScenesPerBatch": 2,
}


def changed(path, value):
    """Return the chairs' specifications with one entry changed; ``path`` has dots."""
    specs = copy.deepcopy(CHAIRS)
    *parents, last = path.split(".")
    place = specs
    for name in parents:
        place = place[int(name) if isinstance(place, list) else name]
    place[last] = value
    return specs


def test_the_original_file_becomes_the_published_settings():
    config = config_from_specs(CHAIRS)
    paper = paper_config()
    assert config.network == paper.network
    assert config.optim == paper.optim
    assert (config.codes, config.loss, config.fit, config.mesh) == (paper.codes, paper.loss, paper.fit, paper.mesh)
    assert (
        config.data.description == "This experiment learns a shape representation for chairs using ShapeNet version 2."
    )
    assert config.data.train_split == "examples/splits/sv2_chairs_train.json"


def test_the_paper_preset_has_every_published_number():
    config = paper_config()
    assert config.network == DecoderConfig(
        code_length=256,
        widths=(512,) * 8,
        latent_in=(4,),
        norm_layers=tuple(range(8)),
        weight_norm=True,
        dropout_layers=tuple(range(8)),
        dropout=0.2,
        init="default",
    )
    assert config.optim.decoder_rate == RateConfig(kind="step", initial=5e-4, interval=500, factor=0.5)
    assert config.optim.code_rate == RateConfig(kind="step", initial=1e-3, interval=500, factor=0.5)
    assert (config.optim.precision, config.optim.row_wise, config.optim.gradient_clip) == ("fp32", False, None)
    assert (config.data.samples_per_shape, config.data.shapes_per_batch, config.data.workers) == (16384, 64, 16)
    assert (config.codes.bound, config.codes.init_std, config.codes.penalty, config.codes.penalty_ramp) == (
        1,
        1,
        1e-4,
        100,
    )
    assert (config.loss.kind, config.loss.clamp, config.loss.target_only_share) == ("l1", 0.1, 0.0)
    assert (config.num_epochs, config.keep_every, config.keep_at, config.save_latest_every) == (
        2001,
        1000,
        (100, 500),
        10,
    )
    assert (config.fit.recipe, config.fit.iterations, config.fit.samples, config.fit.rate) == ("paper", 800, 8000, 5e-3)
    assert config.mesh.resolution == 256
    assert sum(parameter.numel() for parameter in Decoder(config.network).parameters()) == 1_843_195


def test_absent_keys_take_the_originals_defaults():
    config = config_from_specs(BARE)
    assert config.network == DecoderConfig(code_length=4, widths=(16, 16), latent_in=(), init="default")
    assert config.data.workers == 1
    assert (config.codes.bound, config.codes.init_std, config.codes.penalty) == (None, 1.0, 1e-4)
    assert (config.optim.gradient_clip, config.optim.batch_split) == (None, 1)
    assert (config.keep_every, config.keep_at, config.save_latest_every) == (None, (), 10)
    assert (config.data.train_split, config.data.test_split, config.data.description) == (None, None, "")


def test_null_stands_for_nothing_where_the_original_allows_it():
    network = {"dims": [16, 16], "dropout": None, "norm_layers": None, "latent_in": None, "xyz_in_all": None}
    nulls = {"CodeBound": None, "GradientClipNorm": None, "AdditionalSnapshots": None}
    assert config_from_specs({**BARE, "NetworkSpecs": network, **nulls}) == config_from_specs(BARE)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"Type": "Constant", "Value": 0.5}, RateConfig(kind="constant", initial=0.5)),
        (
            {"Type": "Warmup", "Initial": 0.1, "Final": 0.2, "Length": 7},
            RateConfig(kind="warmup", initial=0.1, final=0.2, length=7),
        ),
        (
            {"Type": "Step", "Initial": 1, "Interval": 3, "Factor": 0.1},
            RateConfig(kind="step", initial=1.0, interval=3, factor=0.1),
        ),
    ],
)
def test_schedules_go_both_ways(schedule, expected):
    config = config_from_specs(changed("LearningRateSchedule", [schedule, CHAIRS["LearningRateSchedule"][1]]))
    assert config.optim.decoder_rate == expected
    assert config.optim.code_rate == RateConfig(kind="step", initial=1e-3, interval=500, factor=0.5)
    assert specs_from_config(config)["LearningRateSchedule"][0] == schedule


def test_a_penalty_that_is_switched_off_counts_nothing():
    config = config_from_specs(changed("CodeRegularization", False))
    assert config.codes.penalty == 0.0
    written = specs_from_config(config)
    assert written["CodeRegularization"] is False
    assert config_from_specs(written) == config


def test_the_published_file_comes_back_key_by_key():
    specs = {**CHAIRS, "Description": "Chairs", "CodeInitStdDev": 0.5, "GradientClipNorm": 2.0, "LogFrequency": 3}
    assert specs_from_config(config_from_specs(specs)) == specs
    with_split = {**specs, "BatchSplit": 4}
    assert specs_from_config(config_from_specs(with_split)) == with_split


@st.composite
def configs(draw):
    """Draw settings that the original can express."""
    layers = st.lists(st.integers(0, 3), unique=True).map(tuple)
    rates = st.one_of(
        st.builds(RateConfig, kind=st.just("constant"), initial=st.floats(0, 1)),
        st.builds(
            RateConfig, kind=st.just("warmup"), initial=st.floats(0, 1), final=st.floats(0, 1), length=st.integers(1, 9)
        ),
        st.builds(
            RateConfig,
            kind=st.just("step"),
            initial=st.floats(0, 1),
            interval=st.integers(1, 9),
            factor=st.floats(0, 1),
        ),
    )
    base = paper_config()
    network = DecoderConfig(
        code_length=draw(st.integers(0, 8)),
        widths=(16, 20, 24),
        latent_in=tuple(draw(st.lists(st.integers(1, 3), unique=True))),
        norm_layers=draw(layers),
        dropout_layers=draw(layers),
        dropout=draw(st.floats(0, 1)),
        weight_norm=draw(st.booleans()),
        xyz_in_all=draw(st.booleans()),
        use_tanh=draw(st.booleans()),
        latent_dropout=draw(st.booleans()),
        init="default",
    )
    return DeepSdfConfig(
        network=network,
        codes=type(base.codes)(
            bound=draw(st.one_of(st.none(), st.floats(0.1, 2))),
            init_std=draw(st.floats(0, 2)),
            penalty=draw(st.floats(0, 1)),
        ),
        loss=type(base.loss)(clamp=draw(st.floats(0.01, 1)), target_only_share=0.0),
        optim=type(base.optim)(
            decoder_rate=draw(rates),
            code_rate=draw(rates),
            precision="fp32",
            gradient_clip=draw(st.one_of(st.none(), st.floats(0.1, 2))),
            batch_split=draw(st.integers(1, 4)),
        ),
        data=type(base.data)(
            samples_per_shape=draw(st.integers(2, 99)),
            train_split=draw(st.one_of(st.none(), st.just("train.json"))),
            workers=draw(st.integers(0, 9)),
            description=draw(st.sampled_from(("", "A text"))),
        ),
        fit=base.fit,
        mesh=base.mesh,
        num_epochs=draw(st.integers(1, 99)),
        keep_every=draw(st.integers(1, 99)),
        keep_at=tuple(draw(st.lists(st.integers(1, 99)))),
        save_latest_every=draw(st.integers(1, 99)),
    )


@settings(max_examples=60, deadline=None)
@given(configs())
def test_settings_survive_a_file_of_the_original(config):
    assert config_from_specs(json.loads(json.dumps(specs_from_config(config)))) == config


def test_settings_without_a_key_are_named_in_the_description():
    config = DeepSdfConfig(
        codes=CodeConfig(penalty_kind="square", on_sphere=True),
        loss=LossConfig(kind="curriculum", eikonal=0.1, off_surface=0.1, grow=True),
    )
    specs = specs_from_config(config)
    training = ("cosine", "geometric start", "clamp of the target", "length in steps", "loss curriculum")
    for words in (*training, "eikonal", "off-surface", "join one after another", "squares", "sphere"):
        assert words in specs["Description"]
    assert config_from_specs(specs).network.widths == config.network.widths


@pytest.mark.parametrize("network", [DecoderConfig(encoding="fourier"), DecoderConfig(keep_width=True, latent_in=(2,))])
def test_a_decoder_that_the_original_lacks_is_not_written(network):
    with pytest.raises(UserError, match=r"original program has no decoder with (encoding|keep_width)"):
        specs_from_config(DeepSdfConfig(network=network))


def test_a_key_of_early_examples_without_effect_is_accepted():
    assert config_from_specs({**CHAIRS, "CodeTargetStdDev": 1.0}) == config_from_specs(CHAIRS)


@pytest.mark.parametrize(
    ("path", "value", "message", "hint"),
    [
        ("CodeLenght", 3, "unknown key 'CodeLenght'", "Did you mean 'CodeLength'?"),
        ("NetworkSpecs.drop_out", [1], "NetworkSpecs: unknown key 'drop_out'", "'dropout'"),
        ("LearningRateSchedule.0.Intervall", 3, r"Schedule\[0\]: unknown key 'Intervall'", "'Interval'"),
        ("NetworkArch", "siren", "NetworkArch is 'siren'", "deep_sdf_decoder"),
        ("CodeLength", "256", "CodeLength is '256', but must be a whole number from 0", "Correct"),
        ("CodeLength", True, "CodeLength is True", "Correct"),
        ("NumEpochs", 0, "NumEpochs is 0, but must be a whole number from 1", "Correct"),
        ("NumEpochs", None, "NumEpochs is None", "Correct"),
        ("ClampingDistance", -1, "ClampingDistance is -1", "Correct"),
        ("ClampingDistance", 0, "clamp must be positive", "Correct"),
        ("ClampingDistance", float("nan"), "ClampingDistance is nan", "Correct"),
        ("CodeBound", 0, "CodeBound is 0, but must be a positive number", "Correct"),
        ("CodeRegularization", 1, "CodeRegularization is 1, but must be true or false", "Correct"),
        ("SamplesPerScene", 1, "SamplesPerScene is 1", "Correct"),
        ("AdditionalSnapshots", 100, "AdditionalSnapshots is 100, but must be a list", "Correct"),
        ("Description", [1], "Description is .*a text or a list of texts", "Correct"),
        ("TrainSplit", 3, "TrainSplit is 3, but must be a text", "Correct"),
        ("NetworkSpecs", [], "NetworkSpecs is .*must be an object", "Correct"),
        ("NetworkSpecs.dims", [], "at least one hidden layer", "Correct"),
        ("NetworkSpecs.dims", [512, 0], "a width must lie in", "Correct"),
        ("NetworkSpecs.latent_in", [0], r"a layer of latent_in must lie in \[1, 8\], got 0", "Correct"),
        ("NetworkSpecs.dropout_prob", 1.5, "dropout must lie in", "Correct"),
        ("CodeLength", 509, "layer 3 of NetworkSpecs.dims has 512 outputs", "wider layers"),
        ("NetworkSpecs", {"dims": [8, 3], "xyz_in_all": True}, r"layer 1 .* the position takes 3", "wider layers"),
        ("LearningRateSchedule", [CHAIRS["LearningRateSchedule"][0]], "LearningRateSchedule is", "two schedules"),
        ("LearningRateSchedule.1.Type", "step", r"Schedule\[1\]: Type is 'step'", "Did you mean 'Step'?"),
        ("LearningRateSchedule.1.Interval", 0, "Interval is 0", "Correct"),
    ],
)
def test_wrong_entries_are_named(path, value, message, hint):
    if path.startswith("LearningRateSchedule."):
        specs = copy.deepcopy(CHAIRS)
        _, index, name = path.split(".")
        specs["LearningRateSchedule"][int(index)][name] = value
    else:
        specs = changed(path, value)
    with pytest.raises(UserError, match=message) as caught:
        config_from_specs(specs)
    assert hint in caught.value.hint
    assert caught.value.message.startswith("specs.json")


@pytest.mark.parametrize("name", sorted(BARE))
def test_keys_without_a_default_are_asked_for(name):
    with pytest.raises(UserError, match=f"the key '{name}' is missing"):
        config_from_specs({key: value for key, value in BARE.items() if key != name})


def test_a_file_is_read_and_named_in_messages(tmp_path):
    path = tmp_path / "specs.json"
    path.write_text(json.dumps(CHAIRS))
    assert read_specs(path) == config_from_specs(CHAIRS)
    path.write_text(json.dumps({**CHAIRS, "Foo": 1}))
    with pytest.raises(UserError, match=r"specs\.json: unknown key 'Foo'") as caught:
        read_specs(path)
    assert str(path) in caught.value.message
    with pytest.raises(UserError, match="Cannot read"):
        read_specs(tmp_path / "none.json")
