"""Training of a shape space in a run folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shapewright.data.sdf_samples import SdfFolder, ShapeKey, read_split
from shapewright.engine.checkpoint import load_checkpoint, save_checkpoint
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.device import prepare_process, resolve_device
from shapewright.engine.run_dir import RunDir
from shapewright.engine.schedule import Moment
from shapewright.engine.start import Start
from shapewright.engine.trainer import Trainer, TrainResult
from shapewright.errors import TrainingDiverged, UserError
from shapewright.methods.deep_sdf.config import DeepSdfConfig
from shapewright.methods.deep_sdf.method import DeepSdfMethod
from shapewright.methods.deep_sdf.shapes import ShapeSet

COLLAPSE_SHARE = 0.001
COLLAPSE_STEPS = 200


def train(config: DeepSdfConfig, data: Path, out: Path, start: Start | None = None) -> RunDir:
    """Learn the shapes in a folder of samples, in a new run folder.

    Args:
        config: Settings.
        data: Folder that ``data sample-sdf`` wrote, or DeepSDF's own.
        out: The run folder; new or empty.
        start: Device, seed, record.

    Raises:
        UserError: if the samples, the folder or the device cannot be used.
        TrainingDiverged: if the field keeps one sign everywhere.
    """
    start = start or Start()
    prepare_process()
    device = resolve_device(start.device)
    RunDir.check_new(out, start.force)
    shapes = ShapeSet.choose(SdfFolder(data), config.data, start.seed)
    store = shapes.store(config.data, start.seed)
    config = _in_steps(config, store.steps_per_epoch(config.data.shapes_per_batch))
    method = DeepSdfMethod(config, store, len(store), device, start.seed)
    details = {"method": "deep_sdf", "data": str(data.resolve()), "device": str(device), "seed": start.seed}
    run = RunDir.create(out, to_dict(config), start.command, details, start.force)
    shapes.write(run)
    run.log(f"{data}: {len(shapes.train)} shapes to learn, {len(shapes.test)} held out.")
    if len(store) < config.data.shapes_per_batch:
        run.log(f"A batch has {len(store)} shapes, not {config.data.shapes_per_batch}: there are no more.")
    Trainer(method, run, config.train, [CollapseGuard(), Snapshots(method)]).fit()
    return run


def _in_steps(config: DeepSdfConfig, steps_per_epoch: int) -> DeepSdfConfig:
    """Return the settings with lengths in epochs turned into steps."""
    length = config.train
    if config.num_epochs is not None:
        length = dataclasses.replace(length, steps=config.num_epochs * steps_per_epoch, minutes=None)
    if config.save_latest_every is not None:
        length = dataclasses.replace(length, checkpoint_every_steps=config.save_latest_every * steps_per_epoch)
    return dataclasses.replace(config, train=length)


def import_original(experiment: Path, data: Path, out: Path, start: Start | None = None) -> RunDir:
    """Make a run of an experiment folder of the original program: its settings, decoder, codes and optimizer.

    The run can be resumed, measured and fitted with as if it had been trained here.

    Args:
        experiment: The folder with ``specs.json``.
        data: The samples; the original's folder is read as it is.
        out: The run folder; new or empty.
        start: Device, seed, record.

    Raises:
        UserError: if the experiment is damaged, or does not say which shapes it learned.
    """
    from shapewright.methods.deep_sdf.original import read_experiment

    start = start or Start()
    RunDir.check_new(out, start.force)
    found = read_experiment(experiment)
    if found.keys is None:
        raise UserError(
            f"{experiment} does not say which shapes it learned: the split that its specs.json names is missing.",
            "Put the split file where specs.json looks for it, relative to the experiment.",
        )
    folder = SdfFolder(data)
    shapes = ShapeSet(folder, found.keys, _test_split(folder, found.config))
    steps_per_epoch = max(1, len(found.keys) // found.config.data.shapes_per_batch)
    details = {"method": "deep_sdf", "data": str(data.resolve()), "device": start.device, "seed": start.seed}
    run = RunDir.create(out, to_dict(_in_steps(found.config, steps_per_epoch)), start.command, details, start.force)
    shapes.write(run)
    save_checkpoint(run, found.epoch * steps_per_epoch, found.checkpoint_tensors(), {"seconds": 0.0})
    run.log(f"{experiment}: epoch {found.epoch}, {len(found.keys)} shapes.")
    return run


def _test_split(folder: SdfFolder, config: DeepSdfConfig) -> list[ShapeKey]:
    """Return the held-out shapes of which there are samples."""
    if config.data.test_split is None or not (folder.root / config.data.test_split).exists():
        return []
    return [key for key in read_split(folder.root / config.data.test_split) if key in folder.files]


def resume(run_path: Path, device: str = "auto") -> TrainResult:
    """Go on with a run from its latest checkpoint that is whole.

    Raises:
        UserError: if the folder is no run, holds no checkpoint, or its samples are gone.
    """
    prepare_process()
    run = RunDir.open(run_path)
    config = from_dict(DeepSdfConfig, run.config)
    load_checkpoint(run)
    store = ShapeSet.of_run(run).store(config.data, int(run.info["seed"]))
    method = DeepSdfMethod(config, store, len(store), resolve_device(device), int(run.info["seed"]))
    return Trainer(method, run, config.train, [CollapseGuard(), Snapshots(method)]).fit()


class Snapshots:
    """Keep the checkpoints of the epochs that the settings name.

    Args:
        method: The method that is trained.
    """

    def __init__(self, method: DeepSdfMethod) -> None:
        self._method = method

    def __call__(self, trainer: Trainer, moment: Moment, _: Mapping[str, Any]) -> None:
        """Save at the end of an epoch, if it is one of them."""
        config, epoch = self._method.config, self._method.epoch(moment.step)
        is_last = self._method.epoch(trainer.step) > epoch
        by_cadence = config.keep_every is not None and epoch % config.keep_every == 0
        if is_last and (by_cadence or epoch in config.keep_at):
            trainer.save(kept=True)


class CollapseGuard:
    """Stop a training whose field has had one sign at all samples for a while: it will not come back."""

    def __init__(self) -> None:
        self._steps = 0

    def __call__(self, trainer: Trainer, moment: Moment, values: Mapping[str, Any]) -> None:
        """Look at the share of positive predictions of a step.

        Raises:
            TrainingDiverged: after too many steps with one sign.
        """
        share = float(values.get("positive_share", 0.5))
        self._steps = 0 if COLLAPSE_SHARE < share < 1 - COLLAPSE_SHARE else self._steps + 1
        if self._steps >= COLLAPSE_STEPS:
            trainer.save()
            raise TrainingDiverged(
                f"The field is {'positive' if share > 0.5 else 'negative'} everywhere since {self._steps} steps "
                f"(step {moment.step}): it has collapsed.",
                "Start with --network.init geometric and --loss.target-only-share 0.1, or lower the learning rates.",
            )
