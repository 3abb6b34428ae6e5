"""Experiment folders of the original program (facebookresearch/DeepSDF) and of NeoRender, read and written.

An experiment holds ``specs.json``, ``Logs.pth`` and one file a checkpoint in each of ``ModelParameters``,
``OptimizerParameters`` and ``LatentCodes``. Files are unpickled with ``weights_only``: they cannot run code.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.sdf_samples import ShapeKey, read_split
from shapewright.errors import UserError
from shapewright.io.files import atomic_write, make_folder, write_json
from shapewright.methods.deep_sdf.config import DecoderConfig, DeepSdfConfig
from shapewright.methods.deep_sdf.model import Decoder
from shapewright.methods.deep_sdf.specs import read_specs, specs_from_config

SPECS, LOGS, LATEST = "specs.json", "Logs.pth", "latest"
MODELS, OPTIMIZERS, CODES = "ModelParameters", "OptimizerParameters", "LatentCodes"
PREFIX = "module."
# Weight normalisation as torch spells it since 2.0.
SPELLINGS = {
    ".parametrizations.weight.original0": ".weight_g",
    ".parametrizations.weight.original1": ".weight_v",
}
NEORENDER_MODEL = re.compile(r"model_(\d+)\.pt")
HINT = "Copy the experiment again from where it was trained."


@dataclass(frozen=True)
class Moments:
    """Hold Adam's state of one tensor.

    Args:
        mean: Running mean of the gradient.
        square: Running mean of its square.
        steps: Steps made.
    """

    mean: Tensor
    square: Tensor
    steps: int


@dataclass(frozen=True)
class OriginalLogs:
    """Hold the curves of a training.

    Args:
        loss: One number an iteration.
        rates: Learning rates of decoder and codes, one pair an epoch.
        seconds: One number an epoch.
        code_norms: Mean length of the codes, one number an epoch.
        parameter_norms: For each parameter one number an epoch.
    """

    loss: list[float] = field(default_factory=list)
    rates: list[list[float]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    code_norms: list[float] = field(default_factory=list)
    parameter_norms: dict[str, list[float]] = field(default_factory=dict)

    def until(self, epoch: int) -> OriginalLogs:
        """Return the curves up to an epoch, as the original clips them when it goes on from there."""
        iterations = len(self.loss) // max(len(self.rates), 1)
        return OriginalLogs(
            self.loss[: iterations * epoch] if self.rates else self.loss,
            self.rates[:epoch],
            self.seconds[:epoch],
            self.code_norms[:epoch],
            {name: values[:epoch] for name, values in self.parameter_norms.items()},
        )


@dataclass(frozen=True)
class OriginalExperiment:
    """Hold a checkpoint of the original program.

    Args:
        config: What its ``specs.json`` says.
        epoch: Epochs trained.
        decoder_state: Parameters under the names of our ``Decoder``.
        codes: Codes of the training shapes, in the order of the split.
        moments: Adam's state by parameter; ``codes`` is that of the codes; empty: there is none.
        logs: The curves up to the epoch.
        keys: The training shapes; none: the split was not found.
    """

    config: DeepSdfConfig
    epoch: int
    decoder_state: dict[str, Tensor]
    codes: Float[Tensor, "shapes code"]
    moments: dict[str, Moments] = field(default_factory=dict)
    logs: OriginalLogs = field(default_factory=OriginalLogs)
    keys: list[ShapeKey] | None = None

    def checkpoint_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint of ``deep_sdf``, so that a run goes on from here."""
        tensors = {f"decoder.{name}": value for name, value in self.decoder_state.items()}
        for index, (name, _) in enumerate(Decoder(self.config.network).named_parameters()):
            if moments := self.moments.get(name):
                tensors[f"adam.{index}.step"] = torch.tensor(float(moments.steps))
                tensors[f"adam.{index}.exp_avg"] = moments.mean
                tensors[f"adam.{index}.exp_avg_sq"] = moments.square
        codes = self.moments.get("codes", Moments(torch.zeros_like(self.codes), torch.zeros_like(self.codes), 0))
        return tensors | {
            "codes.codes": self.codes,
            "codes.mean": codes.mean,
            "codes.square": codes.square,
            "codes.steps": torch.full((len(self.codes), 1), float(codes.steps)),
        }

    def write(self, folder: Path) -> None:
        """Write everything as an experiment folder of the original program, under the epoch and as ``latest``.

        Raises:
            UserError: if the original has no such decoder, or the folder cannot be written.
        """
        specs = specs_from_config(self.config)
        epoch = {"epoch": self.epoch}
        names = _original_order(self.decoder_state)
        state = {PREFIX + name: self.decoder_state[name].detach().cpu().clone() for name in names}
        files: dict[str, dict[str, Any]] = {
            MODELS: {**epoch, "model_state_dict": state},
            OPTIMIZERS: {**epoch, "optimizer_state_dict": _optimizer_state(self, names)},
            CODES: {**epoch, "latent_codes": {"weight": self.codes.detach().cpu().clone()}},
        }
        for kind, values in files.items():
            make_folder(folder / kind)
            for name in (str(self.epoch), LATEST):
                _save(folder / kind / f"{name}.pth", values)
        curves = {
            "loss": self.logs.loss,
            "learning_rate": self.logs.rates,
            "timing": self.logs.seconds,
            "latent_magnitude": self.logs.code_norms,
            "param_magnitude": self.logs.parameter_norms,
        }
        _save(folder / LOGS, {**epoch, **curves})
        write_json(folder / SPECS, specs)


def read_experiment(folder: Path, checkpoint: str | int = LATEST, split: Path | None = None) -> OriginalExperiment:
    """Return a checkpoint of an experiment folder of the original program or of NeoRender.

    Args:
        folder: The folder with ``specs.json``.
        checkpoint: An epoch, or ``latest``.
        split: The file of the training shapes; none: the one that ``specs.json`` names, looked for from the folder up.

    Raises:
        UserError: if a file is missing or damaged, or the files do not belong together.
    """
    config = read_specs(folder / SPECS)
    if (folder / MODELS).is_dir():
        experiment = _read_trio(folder, config, str(checkpoint))
    elif any(NEORENDER_MODEL.fullmatch(path.name) for path in folder.iterdir()):
        experiment = _read_neorender(folder, config, str(checkpoint))
    else:
        raise UserError(f"{folder} has no folder {MODELS} and no file model_<epoch>.pt.", HINT)
    keys = _read_keys(folder, config, split)
    if keys is not None and len(keys) != len(experiment.codes):
        raise UserError(
            f"{folder}: there are {len(experiment.codes)} codes for the {len(keys)} shapes of the split.",
            "Name the split of the training, as it was then.",
        )
    return OriginalExperiment(**{**vars(experiment), "keys": keys})


def write_experiment(
    folder: Path,
    config: DeepSdfConfig,
    decoder_state: Mapping[str, Tensor],
    codes: Float[Tensor, "shapes code"],
    epoch: int | None = None,
) -> None:
    """Write a decoder and its codes as an experiment folder of the original program.

    Args:
        folder: The folder; made where it is missing.
        config: Settings of the training.
        decoder_state: Parameters under the names of our ``Decoder``.
        codes: Codes of the training shapes, in the order of the split.
        epoch: Epochs trained; none: as many as the settings say.

    Raises:
        UserError: if the original has no such decoder, or the folder cannot be written.
    """
    trained = config.num_epochs or 1 if epoch is None else epoch
    OriginalExperiment(config, trained, dict(decoder_state), codes).write(folder)


def reconstructed_code_path(folder: Path, epoch: int, key: ShapeKey) -> Path:
    """Return where the original keeps the code of a fitted shape."""
    return key.file(folder / "Reconstructions" / str(epoch), "Codes", ".pth")


def write_code(path: Path, code: Float[Tensor, " code"]) -> None:
    """Write the code of a fitted shape as the original does: a tensor [1, 1, code].

    Raises:
        UserError: if it cannot be written.
    """
    make_folder(path.parent)
    _save(path, code.detach().cpu().clone().reshape(1, 1, -1))


def read_code(path: Path) -> Float[Tensor, " code"]:
    """Return the code of a fitted shape.

    Raises:
        UserError: if the file is missing or damaged or holds something else.
    """
    code = _load(path)
    if not isinstance(code, Tensor) or not code.is_floating_point() or code.numel() != code.shape[-1:].numel():
        raise UserError(f"{path} holds no code, which is a tensor [1, 1, numbers].", HINT)
    return _finite(code.reshape(-1).float(), path)


def _read_trio(folder: Path, config: DeepSdfConfig, checkpoint: str) -> OriginalExperiment:
    """Read the three files of a checkpoint, and the logs."""
    name = _checkpoint_name(folder, checkpoint)
    path = folder / MODELS / name
    epoch, found = _entry(path, "model_state_dict")
    state = _decoder_state(found, config.network, path)
    codes_path = folder / CODES / name
    codes_epoch, stored = _entry(codes_path, "latent_codes")
    _check_epoch(codes_path, codes_epoch, epoch)
    codes = _codes(stored, config.network.code_length, codes_path)
    moments: dict[str, Moments] = {}
    optimizer_path = folder / OPTIMIZERS / name
    if optimizer_path.exists():
        optimizer_epoch, optimizer = _entry(optimizer_path, "optimizer_state_dict")
        _check_epoch(optimizer_path, optimizer_epoch, epoch)
        moments = _moments(optimizer, list(map(_own_name, found)), state, codes, optimizer_path)
    logs = _read_logs(folder / LOGS).until(epoch) if (folder / LOGS).exists() else OriginalLogs()
    return OriginalExperiment(config, epoch, state, codes, moments, logs)


def _read_neorender(folder: Path, config: DeepSdfConfig, checkpoint: str) -> OriginalExperiment:
    """Read NeoRender's ``model_``, ``optimizer_`` and ``latent_vecs_<epoch>.pt``; epochs count from 0 there."""
    epochs = sorted(int(m[1]) for path in folder.iterdir() if (m := NEORENDER_MODEL.fullmatch(path.name)))
    wanted = epochs[-1] if checkpoint == LATEST else int(checkpoint) if checkpoint.isdecimal() else -1
    if wanted not in epochs:
        raise UserError(f"{folder} has no checkpoint {checkpoint!r}.", f"There are: {', '.join(map(str, epochs))}.")
    path = folder / f"model_{wanted}.pt"
    found = _load(path)
    state = _decoder_state(found, config.network, path)
    codes_path = folder / f"latent_vecs_{wanted}.pt"
    codes = _codes(_load(codes_path), config.network.code_length, codes_path)
    optimizer_path = folder / f"optimizer_{wanted}.pt"
    moments: dict[str, Moments] = {}
    if optimizer_path.exists():
        moments = _moments(_load(optimizer_path), list(map(_own_name, found)), state, codes, optimizer_path)
    losses = folder / "losses.pt"
    logs = OriginalLogs(loss=_numbers(_load(losses), "loss", losses)) if losses.exists() else OriginalLogs()
    return OriginalExperiment(config, wanted, state, codes, moments, logs)


def _checkpoint_name(folder: Path, checkpoint: str) -> str:
    """Return the name of a checkpoint's files; without a ``latest`` the highest epoch is the latest."""
    present = {path.stem for path in (folder / MODELS).glob("*.pth")}
    if checkpoint in present:
        return f"{checkpoint}.pth"
    epochs = sorted(int(name) for name in present if name.isdecimal())
    if checkpoint == LATEST and epochs:
        return f"{epochs[-1]}.pth"
    hint = f"There are: {', '.join(sorted(present - {LATEST}, key=lambda n: (len(n), n)))}." if present else HINT
    raise UserError(f"{folder / MODELS} has no checkpoint {checkpoint!r}.", hint)


def _read_keys(folder: Path, config: DeepSdfConfig, split: Path | None) -> list[ShapeKey] | None:
    """Return the shapes of the split of the training, if it is there."""
    if split is None and config.data.train_split is not None:
        # The original's paths start where its programs were run, which is a folder above the experiment.
        places = (base / config.data.train_split for base in (folder, *folder.absolute().parents))
        split = next((path for path in places if path.is_file()), None)
    return None if split is None else read_split(split)


def _load(path: Path) -> Any:
    """Return what ``torch.save`` wrote; classes other than tensors and plain values are refused."""
    if not path.is_file():
        raise UserError(f"The file {path} does not exist.", HINT)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).split("\n")[0][:200]
        raise UserError(f"{path} cannot be read as a file of torch: {reason}", HINT) from error


def _save(path: Path, values: Any) -> None:
    buffer = io.BytesIO()
    torch.save(values, buffer)
    atomic_write(path, buffer.getvalue())


def _entry(path: Path, name: str) -> tuple[int, Any]:
    """Return the epoch and the named entry of a file."""
    values = _load(path)
    if not isinstance(values, Mapping) or name not in values or not isinstance(values.get("epoch"), int):
        raise UserError(f"{path} holds no 'epoch' and {name!r}.", HINT)
    return values["epoch"], values[name]


def _check_epoch(path: Path, epoch: int, expected: int) -> None:
    if epoch != expected:
        raise UserError(
            f"{path} is of epoch {epoch}, but the model of epoch {expected}.",
            "Copy the three files of one checkpoint, or name the epoch of a whole one.",
        )


def _own_name(name: str) -> str:
    """Return our name of one of the original's parameters."""
    name = name.removeprefix(PREFIX)
    for theirs, ours in SPELLINGS.items():
        if name.endswith(theirs):
            return name.removesuffix(theirs) + ours
    return name


def _decoder_state(found: Any, config: DecoderConfig, path: Path) -> dict[str, Tensor]:
    """Return a state whose names and shapes are those of the decoder."""
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds no table of parameters.", HINT)
    state = {_own_name(name): value.float() for name, value in found.items()}
    expected = {name: list(value.shape) for name, value in Decoder(config).state_dict().items()}
    for name, shape in expected.items():
        have = list(state[name].shape) if name in state else None
        if have != shape:
            problem = "misses" if have is None else f"has shape {have} for"
            raise UserError(
                f"{path} {problem} the parameter {name!r}, which {SPECS} makes {shape}.",
                "The specifications are those of another experiment, or were edited.",
            )
    if extra := state.keys() - expected.keys():
        raise UserError(
            f"{path} has the parameter {min(extra)!r}, which {SPECS} does not.",
            "The specifications are those of another experiment, or were edited.",
        )
    return {name: _finite(state[name], path) for name in expected}


def _codes(stored: Any, length: int, path: Path) -> Float[Tensor, "shapes code"]:
    """Return the table of codes: the state of an embedding, or a tensor [shapes, 1, code] of early versions."""
    codes = stored.get("weight") if isinstance(stored, Mapping) else stored
    if not isinstance(codes, Tensor) or not (codes.ndim == 2 or (codes.ndim == 3 and codes.shape[1] == 1)):
        raise UserError(f"{path} holds no table of codes.", HINT)
    if codes.shape[-1] != length:
        raise UserError(
            f"{path} has codes of {codes.shape[-1]} numbers, but {SPECS} says CodeLength {length}.",
            "The specifications are those of another experiment, or were edited.",
        )
    return _finite(codes.reshape(len(codes), length).float(), path)


def _finite(values: Tensor, path: Path) -> Tensor:
    if not values.isfinite().all():
        raise UserError(
            f"{path} holds numbers that are not finite.", "The training diverged; take an earlier checkpoint."
        )
    return values.clone()


def _moments(
    stored: Any, names: list[str], state: Mapping[str, Tensor], codes: Tensor, path: Path
) -> dict[str, Moments]:
    """Return Adam's state by our names: the first group is the decoder's, in the order of its file, then the codes."""
    try:
        groups = [list(group["params"]) for group in stored["param_groups"]]
        places = dict(zip([*names, "codes"], [place for group in groups for place in group], strict=True))
        found = {}
        for name, place in places.items():
            if not (values := stored["state"].get(place)):
                continue
            shape = codes.shape if name == "codes" else state[name].shape
            mean, square = (values[part].float().reshape(shape) for part in ("exp_avg", "exp_avg_sq"))
            found[name] = Moments(_finite(mean, path), _finite(square, path), int(values["step"]))
        return found
    except (TypeError, KeyError, IndexError, AttributeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} holds no state of Adam for this decoder and its codes: {error}.", HINT) from error


def _read_logs(path: Path) -> OriginalLogs:
    values = _load(path)
    if not isinstance(values, Mapping):
        raise UserError(f"{path} holds no curves.", HINT)
    norms = values.get("param_magnitude") or {}
    rates = values.get("learning_rate") or []
    if not isinstance(norms, Mapping) or not isinstance(rates, list):
        raise UserError(f"{path}: param_magnitude or learning_rate is of another kind.", HINT)
    return OriginalLogs(
        _numbers(values.get("loss"), "loss", path),
        [_numbers(pair, "learning_rate", path) for pair in rates],
        _numbers(values.get("timing"), "timing", path),
        _numbers(values.get("latent_magnitude"), "latent_magnitude", path),
        {str(name): _numbers(curve, "param_magnitude", path) for name, curve in norms.items()},
    )


def _numbers(values: Any, name: str, path: Path) -> list[float]:
    """Return a curve as plain numbers; early versions hold tensors."""
    try:
        return [float(value) for value in values] if values is not None else []
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: {name} is no list of numbers.", HINT) from error


def _original_order(state: Mapping[str, Tensor]) -> list[str]:
    """Return the names in the order of the original's parameters: weight normalisation puts the bias first there."""
    normed = {_layer(name) for name in state if name.endswith(".weight_g")}
    order = list(dict.fromkeys(map(_layer, state)))
    return sorted(
        state, key=lambda name: (order.index(_layer(name)), _layer(name) in normed and not name.endswith(".bias"))
    )


def _layer(name: str) -> str:
    return name.partition(".")[0]


def _optimizer_state(experiment: OriginalExperiment, names: list[str]) -> dict[str, Any]:
    """Return the state of an Adam over the decoder, in its order, and the codes."""
    optim = experiment.config.optim
    tensors = {**experiment.decoder_state, "codes": experiment.codes}
    parameters = {name: torch.nn.Parameter(tensors[name].detach().cpu()) for name in [*names, "codes"]}
    adam = torch.optim.Adam(
        [
            {"params": [parameters[name] for name in names], "lr": optim.decoder_rate.initial},
            {"params": [parameters["codes"]], "lr": optim.code_rate.initial},
        ]
    )
    for name, moments in experiment.moments.items():
        adam.state[parameters[name]] = {
            "step": torch.tensor(float(moments.steps)),
            "exp_avg": moments.mean.cpu(),
            "exp_avg_sq": moments.square.cpu(),
        }
    return adam.state_dict()
