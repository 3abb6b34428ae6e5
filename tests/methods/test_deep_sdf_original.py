"""Experiment folders of the original program, built here as its programs write them, from the format's text."""

from __future__ import annotations

import json
import warnings
from collections import OrderedDict

import pytest
import torch
from torch import nn

from shapewright.data.sdf_samples import ShapeKey
from shapewright.errors import UserError
from shapewright.methods.deep_sdf.config import DecoderConfig, DeepSdfConfig
from shapewright.methods.deep_sdf.model import Decoder
from shapewright.methods.deep_sdf.original import (
    OriginalExperiment,
    OriginalLogs,
    read_code,
    read_experiment,
    reconstructed_code_path,
    write_code,
    write_experiment,
)

SPECS = {
    "Description": ["Two", "lines"],
    "DataSource": "data",
    "TrainSplit": "splits/train.json",
    "TestSplit": "splits/test.json",
    "NetworkArch": "deep_sdf_decoder",
    "NetworkSpecs": {
        "dims": [12, 12, 12],
        "dropout": [0, 1],
        "dropout_prob": 0.2,
        "norm_layers": [0, 1],
        "latent_in": [2],
        "weight_norm": True,
    },
    "CodeLength": 4,
    "NumEpochs": 20,
    "SnapshotFrequency": 10,
    "AdditionalSnapshots": [5],
    "LearningRateSchedule": [
        {"Type": "Step", "Initial": 0.0005, "Interval": 500, "Factor": 0.5},
        {"Type": "Step", "Initial": 0.001, "Interval": 500, "Factor": 0.5},
    ],
    "SamplesPerScene": 100,
    "ScenesPerBatch": 2,
    "ClampingDistance": 0.1,
}
SHAPES = ("a", "b", "c")
LAYERS = ((7, 12), (12, 5), (12, 12), (12, 1))
EPOCH = 10


class TheirDecoder(nn.Module):
    """Layers under the original's names; what they compute is tested with the model."""

    def __init__(self, new_spelling=False):
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm if new_spelling else nn.utils.weight_norm
        for index, (num_in, num_out) in enumerate(LAYERS):
            linear = nn.Linear(num_in, num_out)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.add_module(f"lin{index}", norm(linear) if index < 2 else linear)


class Training:
    """Train a decoder and codes as the original does, and write its files."""

    def __init__(self, folder, new_spelling=False):
        torch.manual_seed(0)
        self.folder = folder
        self.decoder = TheirDecoder(new_spelling)
        self.codes = nn.Embedding(len(SHAPES), 4)
        self.adam = torch.optim.Adam(
            [{"params": self.decoder.parameters(), "lr": 5e-4}, {"params": self.codes.parameters(), "lr": 1e-3}]
        )
        for _ in range(3):
            self.adam.zero_grad()
            sum((p * torch.randn_like(p)).sum() for p in [*self.decoder.parameters(), self.codes.weight]).backward()
            self.adam.step()
        self.files = {
            "ModelParameters": {
                "model_state_dict": OrderedDict((f"module.{k}", v) for k, v in self.decoder.state_dict().items())
            },
            "OptimizerParameters": {"optimizer_state_dict": self.adam.state_dict()},
            "LatentCodes": {"latent_codes": self.codes.state_dict()},
        }
        self.logs = {
            "epoch": 12,
            "loss": [float(i) for i in range(36)],
            "learning_rate": [[5e-4, 1e-3]] * 12,
            "timing": [1.5] * 12,
            "latent_magnitude": [torch.tensor(0.5)] * 12,
            "param_magnitude": {"lin0.bias": [0.1] * 12},
        }

    def write(self, names=(str(EPOCH), "latest")):
        self.folder.mkdir(exist_ok=True)
        (self.folder / "specs.json").write_text(json.dumps(SPECS))
        for kind, values in self.files.items():
            (self.folder / kind).mkdir(exist_ok=True)
            for name in names:
                torch.save({"epoch": EPOCH, **values}, self.folder / kind / f"{name}.pth")
        torch.save(self.logs, self.folder / "Logs.pth")
        return self.folder


@pytest.fixture
def training(tmp_path):
    return Training(tmp_path / "chairs")


def split(path, names=SHAPES):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"ShapeNetV2": {"03001627": list(names)}}))
    return path


@pytest.mark.parametrize("new_spelling", [False, True])
@pytest.mark.parametrize("checkpoint", ["latest", "10", 10])
def test_an_experiment_is_read_whichever_way_weights_are_spelled(tmp_path, new_spelling, checkpoint):
    training = Training(tmp_path / "chairs", new_spelling)
    found = read_experiment(training.write(), checkpoint)
    assert found.epoch == EPOCH
    assert found.config.data.description == "Two lines"
    assert torch.equal(found.codes, training.codes.weight)
    ours = Decoder(found.config.network)
    ours.load_state_dict(found.decoder_state)
    for index in range(len(LAYERS)):
        theirs, own = (module.get_submodule(f"lin{index}") for module in (training.decoder, ours))
        inputs = torch.randn(5, LAYERS[index][0])
        torch.testing.assert_close(nn.functional.linear(inputs, own.folded_weight(), own.bias), theirs(inputs))


def test_adams_state_goes_to_the_parameter_it_belongs_to(training):
    found = read_experiment(training.write())
    for name, parameter in training.decoder.named_parameters():
        state = training.adam.state[parameter]
        assert torch.equal(found.moments[name].mean, state["exp_avg"])
        assert torch.equal(found.moments[name].square, state["exp_avg_sq"])
        assert found.moments[name].steps == 3
    assert torch.equal(found.moments["codes"].mean, training.adam.state[training.codes.weight]["exp_avg"])


def test_a_checkpoint_of_ours_goes_on_with_the_same_state(training):
    found = read_experiment(training.write())
    tensors = found.checkpoint_tensors()
    decoder = Decoder(found.config.network)
    adam = torch.optim.Adam(decoder.parameters())
    for index, (name, parameter) in enumerate(decoder.named_parameters()):
        assert tensors[f"adam.{index}.exp_avg"].shape == parameter.shape
        assert torch.equal(tensors[f"adam.{index}.exp_avg"], found.moments[name].mean)
        assert float(tensors[f"adam.{index}.step"]) == 3
    assert tensors["codes.steps"].tolist() == [[3.0]] * 3
    assert {name for name in tensors if name.startswith("decoder.")} == {f"decoder.{n}" for n in decoder.state_dict()}
    assert len(adam.param_groups[0]["params"]) == sum(name.endswith(".exp_avg") for name in tensors)
    bare = OriginalExperiment(found.config, 1, found.decoder_state, found.codes).checkpoint_tensors()
    assert not any(name.startswith("adam") for name in bare)
    assert not bare["codes.mean"].any()


def test_logs_are_clipped_to_the_models_epoch(training):
    logs = read_experiment(training.write()).logs
    assert logs.loss == [float(i) for i in range(30)]
    assert len(logs.rates) == len(logs.seconds) == len(logs.code_norms) == len(logs.parameter_norms["lin0.bias"]) == 10
    assert logs.code_norms[0] == 0.5
    assert OriginalLogs([1.0]).until(3).loss == [1.0]


def test_codes_of_early_versions_are_read(training):
    training.files["LatentCodes"]["latent_codes"] = training.codes.weight.detach()[:, None]
    assert torch.equal(read_experiment(training.write()).codes, training.codes.weight)


def test_optimizer_and_logs_may_be_missing(training):
    folder = training.write()
    for path in (folder / "OptimizerParameters").iterdir():
        path.unlink()
    (folder / "Logs.pth").unlink()
    found = read_experiment(folder)
    assert found.moments == {}
    assert found.logs == OriginalLogs()


def test_the_highest_epoch_is_the_latest_where_there_is_no_such_file(training):
    training.write(("9",))
    assert read_experiment(training.write((str(EPOCH),))).epoch == EPOCH


def test_the_split_is_found_from_the_folder_up_and_counted(training, tmp_path):
    folder = training.write()
    assert read_experiment(folder).keys is None
    split(tmp_path / "splits" / "train.json")
    assert read_experiment(folder).keys == [ShapeKey("ShapeNetV2", "03001627", name) for name in SHAPES]
    shorter = split(tmp_path / "other.json", "ab")
    with pytest.raises(UserError, match="3 codes for the 2 shapes"):
        read_experiment(folder, split=shorter)


def test_what_is_written_is_read_back_and_loads_in_the_original(training, tmp_path):
    found = read_experiment(training.write())
    found.write(tmp_path / "out")
    back = read_experiment(tmp_path / "out")
    assert (back.config, back.epoch, back.logs, back.keys) == (found.config, found.epoch, found.logs, None)
    assert torch.equal(back.codes, found.codes)
    for name, value in found.decoder_state.items():
        assert torch.equal(back.decoder_state[name], value)
        assert torch.equal(back.moments[name].square, found.moments[name].square)

    def theirs(kind, entry):
        values = torch.load(tmp_path / "out" / kind / f"{EPOCH}.pth", weights_only=True)
        assert values["epoch"] == EPOCH
        return values[entry]

    decoder, codes = nn.Module(), nn.Embedding(3, 4)
    decoder.module = TheirDecoder()
    decoder.load_state_dict(theirs("ModelParameters", "model_state_dict"))
    codes.load_state_dict(theirs("LatentCodes", "latent_codes"))
    adam = torch.optim.Adam([{"params": decoder.parameters(), "lr": 1.0}, {"params": codes.parameters(), "lr": 1.0}])
    adam.load_state_dict(theirs("OptimizerParameters", "optimizer_state_dict"))
    for name, parameter in decoder.module.named_parameters():
        expected = training.adam.state[training.decoder.get_parameter(name)]["exp_avg"]
        assert torch.equal(adam.state[parameter]["exp_avg"], expected)
    assert torch.load(tmp_path / "out" / "Logs.pth", weights_only=True)["epoch"] == EPOCH


def test_a_run_of_ours_is_written(tmp_path):
    config = DeepSdfConfig(network=DecoderConfig(code_length=4, widths=(12, 12), latent_in=(1,)), num_epochs=7)
    decoder = Decoder(config.network, torch.Generator().manual_seed(0))
    codes = torch.randn(5, 4)
    write_experiment(tmp_path / "out", config, decoder.state_dict(), codes)
    back = read_experiment(tmp_path / "out", "7")
    assert torch.equal(back.codes, codes)
    assert back.config.network.widths == (12, 12)
    write_experiment(tmp_path / "out", config, decoder.state_dict(), codes, epoch=9)
    assert read_experiment(tmp_path / "out").epoch == 9
    encoded = DeepSdfConfig(network=DecoderConfig(encoding="fourier"))
    with pytest.raises(UserError, match="no decoder with encoding"):
        write_experiment(tmp_path / "none", encoded, {}, codes)
    assert not (tmp_path / "none").exists()


def test_neorenders_files_are_read(training, tmp_path):
    folder = tmp_path / "train_3"
    folder.mkdir()
    (folder / "specs.json").write_text(json.dumps({**SPECS, "BatchSplit": 2}))
    for epoch in (0, 2, 10):
        torch.save(training.decoder.state_dict(), folder / f"model_{epoch}.pt")
        torch.save(training.adam.state_dict(), folder / f"optimizer_{epoch}.pt")
        torch.save({"weight": training.codes.weight.detach() + epoch}, folder / f"latent_vecs_{epoch}.pt")
    torch.save([3.0, 2.0], folder / "losses.pt")
    found = read_experiment(folder)
    assert (found.epoch, found.config.optim.batch_split, found.logs.loss) == (10, 2, [3.0, 2.0])
    assert torch.equal(read_experiment(folder, 0).codes, training.codes.weight)
    assert torch.equal(found.moments["lin0.bias"].mean, training.adam.state[training.decoder.lin0.bias]["exp_avg"])
    with pytest.raises(UserError, match="no checkpoint '7'") as caught:
        read_experiment(folder, 7)
    assert "0, 2, 10" in caught.value.hint


def test_codes_of_fitted_shapes_lie_where_the_original_looks(tmp_path):
    key = ShapeKey("ShapeNetV2", "03001627", "abc")
    path = reconstructed_code_path(tmp_path, 2000, key)
    assert path == tmp_path / "Reconstructions" / "2000" / "Codes" / "ShapeNetV2" / "03001627" / "abc.pth"
    write_code(path, torch.arange(4.0))
    assert torch.load(path, weights_only=True).shape == (1, 1, 4)
    assert torch.equal(read_code(path), torch.arange(4.0))
    torch.save(torch.zeros(2, 4), path)
    with pytest.raises(UserError, match="holds no code"):
        read_code(path)
    torch.save(torch.tensor([1.0, float("inf")]), path)
    with pytest.raises(UserError, match="not finite"):
        read_code(path)


class Evil:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return (print, ("unpickled",))


def overwrite(kind, change):
    """Return a function that damages one file of an experiment."""

    def act(folder):
        path = folder / kind / "latest.pth" if kind != "Logs.pth" else folder / kind
        values = torch.load(path, weights_only=True)
        torch.save(change(values), path)

    return act


def with_entry(name, value):
    return lambda values: {**values, name: value}


def with_parameter(name, value):
    return lambda values: {**values, "model_state_dict": {**values["model_state_dict"], name: value}}


def without_parameter(name):
    def change(values):
        return {**values, "model_state_dict": {k: v for k, v in values["model_state_dict"].items() if k != name}}

    return change


DAMAGES = {
    "code that would run": (overwrite("ModelParameters", lambda _: Evil()), "cannot be read as a file of torch"),
    "another kind": (overwrite("ModelParameters", lambda _: [1, 2]), "no 'epoch' and 'model_state_dict'"),
    "no table": (overwrite("ModelParameters", with_entry("model_state_dict", [1])), "no table of parameters"),
    "a layer less": (
        overwrite("ModelParameters", without_parameter("module.lin3.bias")),
        r"misses the parameter 'lin3\.bias'",
    ),
    "a layer more": (
        overwrite("ModelParameters", with_parameter("module.lin9.bias", torch.zeros(1))),
        r"'lin9\.bias', which",
    ),
    "another size": (
        overwrite("ModelParameters", with_parameter("module.lin3.bias", torch.zeros(2))),
        r"has shape \[2\] for the parameter 'lin3\.bias', which specs\.json makes \[1\]",
    ),
    "a NaN": (
        overwrite("ModelParameters", with_parameter("module.lin3.bias", torch.tensor([float("nan")]))),
        "not finite",
    ),
    "codes of another epoch": (
        overwrite("LatentCodes", with_entry("epoch", 9)),
        "is of epoch 9, but the model of epoch 10",
    ),
    "optimizer of another epoch": (overwrite("OptimizerParameters", with_entry("epoch", 11)), "of epoch 11"),
    "codes of another length": (
        overwrite("LatentCodes", with_entry("latent_codes", torch.zeros(3, 5))),
        "codes of 5 numbers, but specs.json says CodeLength 4",
    ),
    "codes of another kind": (overwrite("LatentCodes", with_entry("latent_codes", [1.0])), "no table of codes"),
    "codes with an infinity": (
        overwrite("LatentCodes", with_entry("latent_codes", torch.full((3, 4), float("inf")))),
        "not finite",
    ),
    "another optimizer": (
        overwrite("OptimizerParameters", with_entry("optimizer_state_dict", {"state": {}, "param_groups": []})),
        "no state of Adam",
    ),
    "no optimizer": (overwrite("OptimizerParameters", with_entry("optimizer_state_dict", 3)), "no state of Adam"),
    "no curves": (overwrite("Logs.pth", lambda _: 3), "holds no curves"),
    "curves of words": (overwrite("Logs.pth", with_entry("loss", ["a"])), "loss is no list of numbers"),
    "norms of another kind": (overwrite("Logs.pth", with_entry("param_magnitude", [1])), "param_magnitude"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_named_with_its_file(training, damage, capsys):
    act, message = damage
    folder = training.write()
    act(folder)
    with pytest.raises(UserError, match=message) as caught:
        read_experiment(folder)
    assert str(folder) in caught.value.message
    assert caught.value.hint
    assert "unpickled" not in capsys.readouterr().out


@pytest.mark.parametrize("length", [0, 10, 500])
@pytest.mark.parametrize("kind", ["ModelParameters", "LatentCodes", "OptimizerParameters"])
def test_a_truncated_file_is_named(training, kind, length):
    path = training.write() / kind / "latest.pth"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=rf"{kind}.latest\.pth cannot be read"):
        read_experiment(training.folder)


def test_missing_parts_are_named(training):
    folder = training.write()
    with pytest.raises(UserError, match="has no checkpoint '30'") as caught:
        read_experiment(folder, 30)
    assert caught.value.hint == "There are: 10."
    (folder / "LatentCodes" / "latest.pth").unlink()
    with pytest.raises(UserError, match=r"LatentCodes.latest\.pth does not exist"):
        read_experiment(folder)
    (folder / "specs.json").unlink()
    with pytest.raises(UserError, match=r"Cannot read .*specs\.json"):
        read_experiment(folder)


def test_a_folder_without_checkpoints_is_no_experiment(tmp_path):
    (tmp_path / "specs.json").write_text(json.dumps(SPECS))
    with pytest.raises(UserError, match="no folder ModelParameters"):
        read_experiment(tmp_path)
    (tmp_path / "ModelParameters").mkdir()
    with pytest.raises(UserError, match="has no checkpoint 'latest'"):
        read_experiment(tmp_path)
