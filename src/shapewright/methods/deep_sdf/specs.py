"""``specs.json`` of the original program (facebookresearch/DeepSDF) <-> settings.

The files hold what training and network need. What the original fixes in its code (fit, extraction, precision) becomes
the published value; what only exists here (encodings, other losses) cannot be said in such a file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shapewright.engine.config import suggestion
from shapewright.errors import UserError
from shapewright.io.files import read_json
from shapewright.methods.deep_sdf.config import (
    CodeConfig,
    DataConfig,
    DecoderConfig,
    DeepSdfConfig,
    FitConfig,
    LossConfig,
    MeshConfig,
    OptimConfig,
    RateConfig,
)

NETWORK = "deep_sdf_decoder"
# Shipped in some of the original's examples and read by none of its programs.
WITHOUT_EFFECT = ("CodeTargetStdDev",)
RAMP_EPOCHS = 100

PUBLISHED: dict[str, Any] = {
    "Description": "DeepSDF as published (arXiv:1901.05103).",
    "DataSource": "data",
    "NetworkArch": NETWORK,
    "NetworkSpecs": {
        "dims": [512] * 8,
        "dropout": list(range(8)),
        "dropout_prob": 0.2,
        "norm_layers": list(range(8)),
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
    "CodeRegularizationLambda": 1e-4,
    "CodeBound": 1.0,
    "CodeInitStdDev": 1.0,
}


def paper_config() -> DeepSdfConfig:
    """Return the settings of the published system (64 shapes a batch, as in its lamps and planes)."""
    return config_from_specs(PUBLISHED)


def read_specs(path: Path) -> DeepSdfConfig:
    """Return the settings in a ``specs.json`` of the original program.

    Raises:
        UserError: if the file is missing or damaged, a key unknown or missing, or a value impossible.
    """
    return config_from_specs(read_json(path), str(path))


def config_from_specs(specs: Mapping[str, Any], where: str = "specs.json") -> DeepSdfConfig:
    """Return the settings that the original's specifications mean; absent keys take the original's defaults.

    Args:
        specs: The object in the file.
        where: Name of the file in messages.

    Raises:
        UserError: if a key is unknown or missing, or a value impossible; the message names it.
    """
    entries = _Entries(specs, where)
    if (architecture := entries.text("NetworkArch", NETWORK)) != NETWORK:
        raise UserError(f"{where}: NetworkArch is {architecture!r}.", f"Only {NETWORK!r} can be built.")
    entries.text("DataSource", "")
    for name in WITHOUT_EFFECT:
        entries.take(name, None)
    rates = _rates(entries)
    penalty = entries.number("CodeRegularizationLambda", 1e-4)
    try:
        config = DeepSdfConfig(
            network=_network(entries),
            codes=CodeConfig(
                bound=entries.positive_or_none("CodeBound"),
                init_std=entries.number("CodeInitStdDev", 1.0),
                penalty=penalty if entries.flag("CodeRegularization", True) else 0.0,
                penalty_ramp=RAMP_EPOCHS,
            ),
            loss=LossConfig(clamp=entries.number("ClampingDistance", 0.1), target_only_share=0.0),
            optim=OptimConfig(
                decoder_rate=rates[0],
                code_rate=rates[1],
                gradient_clip=entries.positive_or_none("GradientClipNorm"),
                batch_split=entries.integer("BatchSplit", 1, lowest=1),
                precision="fp32",
                row_wise=False,
            ),
            data=_data(entries),
            fit=FitConfig(recipe="paper", iterations=800, starts=1, samples=8000, rate=5e-3, prior=1e-4),
            mesh=MeshConfig(resolution=256, components="all"),
            num_epochs=entries.integer("NumEpochs", lowest=1),
            keep_every=entries.integer("SnapshotFrequency", None, lowest=1),
            keep_at=tuple(entries.integers("AdditionalSnapshots")),
            save_latest_every=entries.integer("LogFrequency", 10, lowest=1),
        )
    except ValueError as error:
        raise UserError(f"{where}: {error}", "Correct the value.") from None
    entries.finish()
    _check_room(config.network, where)
    return config


def specs_from_config(config: DeepSdfConfig) -> dict[str, Any]:
    """Return the original's specifications for some settings.

    Settings of training that have no key there are named in the description; a cosine of the learning rate is written
    as a line to its end.

    Raises:
        UserError: if the original cannot build the decoder.
    """
    network, codes, optim, data = config.network, config.codes, config.optim, config.data
    if foreign := _foreign_network(network):
        raise UserError(
            f"The original program has no decoder with {', '.join(foreign)}.",
            "Only decoders without encoding and with the original's widths can be written for it.",
        )
    rates = [_schedule(rate, config.num_epochs or 1) for rate in (optim.decoder_rate, optim.code_rate)]
    specs: dict[str, Any] = {
        "Description": " ".join(part for part in (data.description, _unsaid(config)) if part),
        "DataSource": "data",
        "TrainSplit": data.train_split,
        "TestSplit": data.test_split,
        "NetworkArch": NETWORK,
        "NetworkSpecs": {
            "dims": list(network.widths),
            "dropout": list(network.dropout_layers),
            "dropout_prob": network.dropout,
            "norm_layers": list(network.norm_layers),
            "latent_in": list(network.latent_in),
            "xyz_in_all": network.xyz_in_all,
            "use_tanh": network.use_tanh,
            "latent_dropout": network.latent_dropout,
            "weight_norm": network.weight_norm,
        },
        "CodeLength": network.code_length,
        "NumEpochs": config.num_epochs or 1,
        "SnapshotFrequency": config.keep_every or config.num_epochs or 1,
        "AdditionalSnapshots": list(config.keep_at),
        "LearningRateSchedule": rates,
        "SamplesPerScene": data.samples_per_shape,
        "ScenesPerBatch": data.shapes_per_batch,
        "DataLoaderThreads": data.workers,
        "ClampingDistance": config.loss.clamp,
        "CodeRegularization": codes.penalty > 0,
        "CodeRegularizationLambda": codes.penalty if codes.penalty > 0 else None,
        "CodeBound": codes.bound,
        "CodeInitStdDev": codes.init_std,
        "GradientClipNorm": optim.gradient_clip,
        "LogFrequency": config.save_latest_every if config.save_latest_every != 10 else None,
        "BatchSplit": optim.batch_split if optim.batch_split > 1 else None,
    }
    return {name: value for name, value in specs.items() if value is not None}


class _Entries:
    """Read the entries of an object by name and type, and know at the end which nobody asked for."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values = values
        self.where = where
        self.known: list[str] = []

    def take(self, name: str, *default: Any) -> Any:
        """Return a value as it is.

        Raises:
            UserError: if it is absent and has no default.
        """
        self.known.append(name)
        if name not in self.values and not default:
            raise UserError(f"{self.where}: the key {name!r} is missing.", "Restore the file; the key has no default.")
        return self.values.get(name, *default)

    def _checked(self, name: str, kind: str, fits: Callable[[Any], bool], *default: Any) -> Any:
        value = self.take(name, *default)
        is_default = bool(default) and value is default[0]
        if not is_default and not fits(value):
            raise self.wrong(name, f"{value!r}, but must be {kind}")
        return value

    def wrong(self, name: str, problem: str) -> UserError:
        """Return the error that says what is wrong with an entry."""
        return UserError(f"{self.where}: {name} is {problem}.", "Correct the value.")

    def integer(self, name: str, *default: int | None, lowest: int = 0) -> Any:
        """Return a whole number; null where the default is none."""
        return self._checked(
            name, f"a whole number from {lowest}", lambda value: _is_integer(value) and value >= lowest, *default
        )

    def number(self, name: str, *default: float) -> float:
        """Return a number that is not negative."""
        return float(self._checked(name, "a number from 0", lambda value: _is_number(value) and value >= 0, *default))

    def positive_or_none(self, name: str) -> float | None:
        """Return a positive number, or none."""
        value = self._checked(name, "a positive number", lambda value: _is_number(value) and value > 0, None)
        return None if value is None else float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false; null is the default."""
        value = self._checked(name, "true or false", lambda value: value is None or isinstance(value, bool), default)
        return default if value is None else bool(value)

    def text(self, name: str, default: str | None) -> Any:
        """Return a text."""
        return self._checked(name, "a text", lambda value: isinstance(value, str), default)

    def integers(self, name: str) -> list[int]:
        """Return a list of whole numbers; null and an absent key are an empty one."""
        value = self._checked(
            name,
            "a list of whole numbers",
            lambda value: value is None or (isinstance(value, list) and all(map(_is_integer, value))),
            [],
        )
        return list(value or [])

    def finish(self) -> None:
        """Refuse entries that nobody asked for.

        Raises:
            UserError: naming the first and the known key most like it.
        """
        for name in self.values:
            if name not in self.known:
                raise UserError(f"{self.where}: unknown key {name!r}.", suggestion(name, self.known))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _objects(value: Any) -> bool:
    return isinstance(value, Mapping)


def _network(entries: _Entries) -> DecoderConfig:
    values = entries.take("NetworkSpecs")
    if not _objects(values):
        raise entries.wrong("NetworkSpecs", f"{values!r}, but must be an object")
    network = _Entries(values, f"{entries.where}: NetworkSpecs")
    network.take("dims")
    config = DecoderConfig(
        code_length=entries.integer("CodeLength"),
        widths=tuple(network.integers("dims")),
        latent_in=tuple(network.integers("latent_in")),
        xyz_in_all=network.flag("xyz_in_all", False),
        norm_layers=tuple(network.integers("norm_layers")),
        weight_norm=network.flag("weight_norm", False),
        dropout_layers=tuple(network.integers("dropout")),
        dropout=network.number("dropout_prob", 0.0),
        latent_dropout=network.flag("latent_dropout", False),
        use_tanh=network.flag("use_tanh", False),
        init="default",
    )
    network.finish()
    return config


def _data(entries: _Entries) -> DataConfig:
    description = entries.take("Description", "")
    if isinstance(description, list) and all(isinstance(line, str) for line in description):
        description = " ".join(line.strip() for line in description)
    if not isinstance(description, str):
        raise entries.wrong("Description", f"{description!r}, but must be a text or a list of texts")
    return DataConfig(
        samples_per_shape=entries.integer("SamplesPerScene", lowest=2),
        shapes_per_batch=entries.integer("ScenesPerBatch", lowest=1),
        train_split=entries.text("TrainSplit", None),
        test_split=entries.text("TestSplit", None),
        workers=entries.integer("DataLoaderThreads", 1),
        description=description,
    )


def _rates(entries: _Entries) -> list[RateConfig]:
    values = entries.take("LearningRateSchedule")
    if not (isinstance(values, list) and len(values) == 2 and all(map(_objects, values))):
        raise UserError(
            f"{entries.where}: LearningRateSchedule is {values!r}.",
            "Write a list of two schedules: the first for the decoder, the second for the codes.",
        )
    return [_rate(_Entries(v, f"{entries.where}: LearningRateSchedule[{i}]")) for i, v in enumerate(values)]


def _rate(entries: _Entries) -> RateConfig:
    kind = entries.text("Type", "")
    if kind == "Step":
        rate = RateConfig(
            kind="step",
            initial=entries.number("Initial"),
            interval=entries.integer("Interval", lowest=1),
            factor=entries.number("Factor"),
        )
    elif kind == "Warmup":
        rate = RateConfig(
            kind="warmup",
            initial=entries.number("Initial"),
            final=entries.number("Final"),
            length=entries.integer("Length", lowest=1),
        )
    elif kind == "Constant":
        rate = RateConfig(kind="constant", initial=entries.number("Value"))
    else:
        raise UserError(f"{entries.where}: Type is {kind!r}.", suggestion(kind, ("Step", "Warmup", "Constant")))
    entries.finish()
    return rate


def _schedule(rate: RateConfig, num_epochs: int) -> dict[str, Any]:
    if rate.kind == "step":
        return {"Type": "Step", "Initial": rate.initial, "Interval": rate.interval, "Factor": rate.factor}
    if rate.kind == "constant":
        return {"Type": "Constant", "Value": rate.initial}
    length = rate.length if rate.kind == "warmup" else num_epochs
    return {"Type": "Warmup", "Initial": rate.initial, "Final": rate.final, "Length": length}


def _check_room(network: DecoderConfig, where: str) -> None:
    """Refuse decoders with a layer that would have no output left."""
    for layer, width in enumerate(network.widths):
        is_joined = layer + 1 in network.latent_in
        taken = network.code_length + 3 if is_joined else 3 if network.xyz_in_all else 0
        if width <= taken:
            raise UserError(
                f"{where}: layer {layer} of NetworkSpecs.dims has {width} outputs, of which "
                f"{'code and position take' if is_joined else 'the position takes'} {taken}.",
                "Use wider layers or a shorter CodeLength.",
            )


def _foreign_network(network: DecoderConfig) -> list[str]:
    """Return the settings of a decoder that the original does not have."""
    found = []
    if network.encoding != "none":
        found.append(f"encoding {network.encoding!r}")
    if network.keep_width and (network.latent_in or network.xyz_in_all):
        found.append("keep_width")
    return found


def _unsaid(config: DeepSdfConfig) -> str:
    """Return a sentence that names the settings of training without a key in the original."""
    optim, loss = config.optim, config.loss
    unsaid = {
        "length in steps": config.num_epochs is None,
        "learning rate along a cosine": "cosine" in (optim.decoder_rate.kind, optim.code_rate.kind),
        f"loss {loss.kind}": loss.kind != "l1",
        "clamp of the target alone at first": loss.target_only_share > 0,
        "geometric start": config.network.init != "default",
        "eikonal term": loss.eikonal > 0,
        "off-surface term": loss.off_surface > 0,
        "layers that join one after another": loss.grow,
        "penalty of squares": config.codes.penalty_kind != "norm",
        "codes on a sphere": config.codes.on_sphere,
        f"penalty over {config.codes.penalty_ramp} epochs": config.codes.penalty_ramp != RAMP_EPOCHS,
        "codes that rest outside their batch": optim.row_wise,
    }
    names = [name for name, holds in unsaid.items() if holds]
    return f"Trained by Shapewright with settings that have no key here: {', '.join(names)}." if names else ""
