"""Options of the commands that start a run: a preset, its settings, and where things are."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro

from shapewright.cli.arguments import SceneFolder
from shapewright.engine.config import suggestion
from shapewright.engine.start import Start
from shapewright.errors import UserError
from shapewright.methods.surface.config import SurfaceConfig
from shapewright.methods.surface.presets import DEFAULT_PRESET, PRESETS

Presets = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Start a run.

    Args:
        out: Folder to write; it must be new or empty.
        preset: Settings to start from; the options below change them one by one.
        minutes: Train for this long.
        steps: Train for this many steps.
        device: auto, cpu, cuda or cuda:N.
        seed: Start of all random numbers.
        force: Replace an earlier run in the folder.
    """

    out: Path
    preset: str
    minutes: float | None = None
    steps: int | None = None
    device: str = "auto"
    seed: int = 0
    force: bool = False

    def start(self, command: Sequence[str]) -> Start:
        """Return what the pipeline is told beside the settings."""
        return Start(device=self.device, seed=self.seed, command=command, force=self.force)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(RunOptions):
    """Train on the pictures, cameras and masks of one object.

    Args:
        data: Folder of the scene.
        config: All settings.
    """

    data: Path
    config: Annotated[SurfaceConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


@dataclass(frozen=True, kw_only=True)
class ReconstructOptions(RunOptions):
    """Turn the pictures of one object into a mesh, novel views and a report.

    Args:
        data: Folder of the scene: pictures, cameras and masks.
        config: All settings.
    """

    data: SceneFolder
    config: Annotated[SurfaceConfig, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]


Options = TypeVar("Options", bound=RunOptions)


def parse_run(cls: type[Options], program: str, words: Sequence[str], presets: Presets, usual: str) -> Options:
    """Return the options in ``words``, with the preset they name as the default of every setting.

    Args:
        cls: Options with ``config`` beside those of every run.
        program: Name in the help.
        words: The command line after the name.
        presets: Ready settings by name.
        usual: The preset where none is named.

    Raises:
        UserError: if the preset is unknown, or settings do not go together.
        SystemExit: from the parser, with status 2, if an option is unknown or has a wrong value.
    """
    preset = _preset(words, usual)
    if preset not in presets:
        raise UserError(f"There is no preset {preset!r}.", suggestion(preset, presets))
    given = {"preset": preset, "config": presets[preset]}
    missing = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    default = cls(**dict.fromkeys(missing, tyro.MISSING) | given)
    # The hints of the readers name the option as `data check` has it.
    words = ["--data.normalise" if word == "--normalise" else word for word in words]
    words = [word.capitalize() if word in ("true", "false") else word for word in words]
    try:
        options = tyro.cli(cls, prog=program, args=words, default=default, config=(tyro.conf.AvoidSubcommands,))
    except ValueError as error:
        raise UserError(f"The settings are wrong: {error}", f"Correct them; `{program} --help` lists all.") from error
    return dataclasses.replace(options, config=_with_length(options))  # type: ignore[call-arg]


def parse_surface(cls: type[Options], program: str, words: Sequence[str]) -> Options:
    """Return the options of a command of ``surface``; see ``parse_run``."""
    return parse_run(cls, program, words, PRESETS, DEFAULT_PRESET)


def _preset(words: Sequence[str], usual: str) -> str:
    """Return the last preset that ``words`` name, before the parser proper can run."""
    found = usual
    for i, word in enumerate(words):
        if word == "--preset" and i + 1 < len(words):
            found = words[i + 1]
        elif word.startswith("--preset="):
            found = word.partition("=")[2]
    return found


def _with_length(options: Any) -> Any:
    """Return the settings with ``--minutes`` and ``--steps`` in place of the preset's length."""
    if options.minutes is None and options.steps is None:
        return options.config
    try:
        train = dataclasses.replace(options.config.train, minutes=options.minutes, steps=options.steps)
    except ValueError as error:
        raise UserError(f"The length of the run is wrong: {error}", "Correct --minutes or --steps.") from error
    return dataclasses.replace(options.config, train=train)
