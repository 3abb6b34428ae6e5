"""Training in a run folder."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from shapewright.data.pascal3d import PascalCrops, read_crops
from shapewright.data.picture_folders import empty_masks, has_split, open_pictures
from shapewright.data.picture_sets import PictureSet
from shapewright.data.single_views import SingleViewSampler
from shapewright.engine.checkpoint import load_checkpoint
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.device import prepare_process, resolve_device
from shapewright.engine.run_dir import RunDir
from shapewright.engine.schedule import Moment
from shapewright.engine.start import Start
from shapewright.engine.trainer import Callback, Trainer, TrainResult
from shapewright.errors import UserError
from shapewright.geometry.mesh import Mesh
from shapewright.io.images import write_image
from shapewright.io.meshes import write_mesh
from shapewright.methods.pose_invariant.adversaries import PoseAdversary
from shapewright.methods.pose_invariant.batches import BatchRule, BatchSource
from shapewright.methods.pose_invariant.config import PoseInvariantConfig
from shapewright.methods.pose_invariant.drawings import training_grids
from shapewright.methods.pose_invariant.judging import (
    Predictions,
    discrepancy_of,
    predict,
    shape_rows,
    silhouette_rows,
)
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.methods.pose_invariant.original import read_original, read_resnet
from shapewright.methods.pose_invariant.trained import bin_table_of, check_data, run_details
from shapewright.metrics.mmd import MmdResult
from shapewright.networks.residual_encoders import WIDTHS

GRID_SIDE = 5
# Held-out objects that are looked at while training.
MOST_VALIDATED = 24
BLIND = (
    "The held-out objects have no pictures from 90 and 180 degrees away: the best checkpoint goes by silhouettes from "
    "the sides of the pictures, which cannot see entanglement."
)


def train(
    config: PoseInvariantConfig,
    data: Path,
    out: Path,
    start: Start | None = None,
    original: Path | None = None,
    encoder_weights: Path | None = None,
) -> RunDir:
    """Learn from the pictures of a folder, in a new run folder.

    Args:
        config: Settings.
        data: Pictures that ``data render`` or ``data prepare`` wrote, or Kato's own files.
        out: The run folder; new or empty.
        start: Device, seed, record.
        original: Checkpoint of the original program to start from; its sizes replace those of the settings.
        encoder_weights: A ResNet-18 to start the encoder ``resnet`` from.

    Raises:
        UserError: if the pictures, the weights, the folder or the device cannot be used.
        TrainingDiverged: if too many steps are not finite.
    """
    start = start or Start()
    prepare_process()
    device = resolve_device(start.device)
    RunDir.check_new(out, start.force)
    found = read_original(original) if original is not None else None
    weights = _encoder_weights(config, encoder_weights, found is not None) if encoder_weights is not None else None
    if found is not None:
        sized = dataclasses.replace(config.data, image_size=found.image_size)
        config = dataclasses.replace(config, network=found.network, data=sized)
    pictures = open_pictures(data, "train", config.data, start.seed)
    method = prepare_method(config, pictures, data, device, start.seed)
    if found is not None:
        method.take_over(found)
    if weights is not None:
        method.start_encoder(weights)
    details = run_details(method, pictures, data, start.seed)
    callbacks = _callbacks(method, data, pictures, start.seed)
    run = RunDir.create(out, to_dict(config), start.command, details, start.force)
    run.log(f"{data}: {len(pictures)} objects, {pictures.num_views} pictures of each, {pictures.size} px.")
    Trainer(method, run, config.train, callbacks).fit()
    return run


def _encoder_weights(config: PoseInvariantConfig, path: Path, has_original: bool) -> dict[str, Tensor]:
    """Return the parameters to start the encoder from."""
    if has_original:
        raise UserError("Both --original and --encoder-weights say where the encoder starts.", "Leave one of them out.")
    network = config.network
    if (network.encoder, network.channels, network.code_dim) != ("resnet", 3, WIDTHS[-1]):
        raise UserError(
            f"{path} is for the encoder resnet with 3 channels and a code of {WIDTHS[-1]}, but the settings have "
            f"{network.encoder}, {network.channels} and {network.code_dim}.",
            f"Set --network.encoder resnet --network.channels 3 --network.code-dim {WIDTHS[-1]}, or a preset for "
            "photographs.",
        )
    return read_resnet(path)


def resume(run_path: Path, device: str = "auto") -> TrainResult:
    """Go on with a run from its latest checkpoint that is whole.

    Raises:
        UserError: if the folder is no run, holds no checkpoint, or its pictures are gone or not what they were.
    """
    prepare_process()
    run = RunDir.open(run_path)
    config = from_dict(PoseInvariantConfig, run.config)
    load_checkpoint(run)
    check_data(run)
    seed, data = int(run.info["seed"]), Path(run.info["data"])
    pictures = open_pictures(data, "train", config.data, seed, bin_table_of(run))
    method = prepare_method(config, pictures, data, resolve_device(device), seed)
    return Trainer(method, run, config.train, _callbacks(method, data, pictures, seed)).fit()


def prepare_method(
    config: PoseInvariantConfig, pictures: PictureSet, data: Path, device: torch.device, seed: int
) -> PoseInvariantMethod:
    """Return the untrained method with its batches.

    Args:
        config: Settings.
        pictures: Of the training objects.
        data: Their folder.
        device: Where to compute.
        seed: Of the run.

    Raises:
        UserError: if the pictures do not suit the mode.
    """
    is_usable = torch.ones(len(pictures), pictures.num_views, dtype=torch.bool)
    for place, view in empty_masks(pictures):
        is_usable[place, view] = False
    by_number = config.has_view_prior and config.adversary.form == "onehot"
    _check_suits(config, pictures, is_usable, by_number)
    kind = PictureKind.of(pictures)
    crops: list[PascalCrops] = []
    if config.augment == "moving_crops":
        crops = [read_crops(data, name, has_colours=config.network.texture) for name in pictures.classes]
    sampler = SingleViewSampler(is_usable, config.optim.batch_size, config.has_pairs)
    rule = BatchRule(
        size=config.render.size or kind.size,
        seed=seed,
        draws_any_view=by_number,
        shuffle_poses=config.adversary.shuffle_poses,
        flips=config.augment.startswith("flip"),
        exchanges_colours=config.augment == "flip_and_colours",
        crops=crops,
    )
    return PoseInvariantMethod(config, kind, BatchSource(pictures, sampler, rule), device, seed)


def _check_suits(
    config: PoseInvariantConfig, pictures: PictureSet, is_usable: Bool[Tensor, "objects views"], by_number: bool
) -> None:
    """Raise if the mode cannot learn from the pictures."""
    if not bool(is_usable.any()):
        raise UserError("All masks of the training set are empty.", "Check the pictures with `shapewright data check`.")
    if pictures.images.shape[2] < config.network.channels:
        raise UserError(
            f"The network takes {config.network.channels} channels, but the pictures have {pictures.images.shape[2]}.",
            "Give pictures with masks, or train new networks with --network.channels 3.",
        )
    if config.has_pairs and pictures.num_views < 2:
        raise UserError(
            f"The mode {config.mode} needs two or more pictures of each object, but there is one.",
            "Use --mode plain, or leave --data.views-per-object out.",
        )
    if by_number and not pictures.views.is_shared:
        raise UserError(
            f"The form onehot of {config.mode} needs all objects seen from the same views.", "Use --adversary.form vpl."
        )
    size, halvings = config.render.size or pictures.size, len(config.network.image_widths) or 4
    if by_number and size % 2**halvings:
        raise UserError(
            f"The discriminator of the form onehot halves pictures of {size} px {halvings} times: that leaves a rest.",
            f"Set --render.size to a multiple of {2**halvings}, or fewer --network.image-widths.",
        )
    uses_bins = config.mode == "pose_invariant" and config.adversary.kind != "continuous"
    if uses_bins and len(pictures.pose_bins.unique()) < 2:
        raise UserError(
            "All pictures have the same pose bin: there is no pose to be invariant to.",
            "Use --mode plain, narrower bins (--data.azimuth-bin-deg), or pictures from several sides.",
        )
    has_colours = pictures.images.shape[2] == 4 or config.augment == "moving_crops"
    can_be_painted = config.network.decoder.startswith("patches") and has_colours and size == pictures.size
    if config.network.texture and not can_be_painted:
        raise UserError(
            "A texture needs a decoder of patches, and pictures with colours and masks of the size that is drawn.",
            "Set --network.decoder patches, and leave --render.size out; for photographs --augment moving_crops.",
        )
    if config.augment.startswith("flip") and (by_number or uses_bins) and pictures.mirrored_bins is None:
        raise UserError(
            f"With --augment {config.augment}, pictures are seen from poses that the bins of these data do not have.",
            "Use --augment none, --adversary.kind continuous, or a mode that does not use bins.",
        )
    if config.augment == "moving_crops" and config.mode == "pose_invariant" and not uses_bins:
        raise UserError(
            "The adversary continuous does not know from where mirrored photographs were taken.",
            "Use --augment none, or another --adversary.kind.",
        )


def _callbacks(method: PoseInvariantMethod, data: Path, pictures: PictureSet, seed: int) -> list[Callback]:
    """Return what happens while training: pictures, and a look at the validation set where there is one."""
    callbacks: list[Callback] = [LostMeshes(), Media(method, pictures)]
    if has_split(data, "val", method.config.data):
        held_out = open_pictures(data, "val", method.config.data, seed, pictures.bin_table)
        callbacks.append(Validation(method, held_out))
    return callbacks


class LostMeshes:
    """Warn, once, of meshes that have left their pictures: no silhouette brings them back."""

    def __init__(self) -> None:
        self._is_told = False

    def __call__(self, trainer: Trainer, _: Moment, values: Mapping[str, Any]) -> None:
        """Look at what a step reports."""
        if self._is_told or not values.get("out_of_sight"):
            return
        self._is_told = True
        trainer.run.log(
            f"Step {trainer.step}: {100 * values['out_of_sight']:.0f} % of the meshes cover no pixel, and learn "
            "nothing from silhouettes. If out_of_sight stays above 0, lower --optim.lr.",
            logging.WARNING,
        )


def _is_due(trainer: Trainer, config: PoseInvariantConfig) -> bool:
    """Tell if a step is one of those to look at: every ``media_every``-th, and the last."""
    return trainer.step % config.media_every == 0 or trainer.step == config.train.steps


class Media:
    """Draw what training sees and makes of it, and write a mesh.

    Args:
        method: The method that is trained.
        pictures: Of the training objects.
    """

    def __init__(self, method: PoseInvariantMethod, pictures: PictureSet) -> None:
        self._method = method
        objects = torch.linspace(0, len(pictures) - 1, min(len(pictures), GRID_SIDE**2)).long()
        views = torch.arange(len(objects)) * 5 % pictures.num_views
        self._shown, self._masks = pictures.pictures(objects, views), pictures.masks(objects, views)
        self._poses = pictures.views.poses(objects, views)
        self._classes = method.kind.places([pictures.categories[place] for place in objects.tolist()])

    def __call__(self, trainer: Trainer, _: Moment, __: Mapping[str, Any]) -> None:
        """Write pictures of a step, if they are due."""
        if not _is_due(trainer, self._method.config):
            return
        model = self._method.judged
        vertices = model.reconstruct(self._shown, self._classes)[1]
        faces = model.faces.cpu()
        half_angle = self._method.kind.half_angle_deg
        grids = training_grids(vertices, faces, self._poses, half_angle, self._shown, self._masks)
        for name, grid in zip((f"gen_{trainer.step:06d}", "input", "gt"), grids, strict=True):
            write_image(trainer.run.media / f"{name}.png", grid)
        write_mesh(trainer.run.meshes / "training.obj", Mesh(vertices[0], faces))


class Validation:
    """Judge held-out objects while training, and keep the best checkpoint.

    The best one has the highest silhouette IoU at sides that the picture does not show, where the data have them, else
    at the side of the picture, which cannot see entanglement: the log says so. Voxels are only logged, unless the
    settings select by them, which is 3D supervision.

    Args:
        method: The method that is trained.
        pictures: Held-out objects.

    Raises:
        UserError: if the settings select by voxels, but there are none.
    """

    def __init__(self, method: PoseInvariantMethod, pictures: PictureSet) -> None:
        if method.config.select == "voxel_compat" and pictures.voxels is None:
            raise UserError("The validation pictures have no voxels to select by.", "Use --select silhouette.")
        self._method, self._pictures = method, pictures.spread(MOST_VALIDATED)
        self._is_blind_told = False

    def __call__(self, trainer: Trainer, _: Moment, __: Mapping[str, Any]) -> None:
        """Judge a step, if it is due, and save it with its score."""
        if not _is_due(trainer, self._method.config):
            return
        found = predict(self._method, self._pictures)
        rows = silhouette_rows(self._method, self._pictures, found) | shape_rows(self._pictures, found, num_points=0)
        means = {name: float(values.mean()) for name, values in rows.items()}
        novel = [means[name] for name in means if name.endswith("deg")]
        score = sum(novel) / len(novel) if novel else means["silhouette_iou_input"]
        if self._method.config.select == "voxel_compat":
            score = means["voxel_iou_32"]
        elif not novel and not self._is_blind_told:
            self._is_blind_told = True
            trainer.run.log(BLIND, logging.WARNING)
        discrepancy = discrepancy_of(self._pictures, found)
        if isinstance(discrepancy, MmdResult) and math.isfinite(discrepancy.mean):
            means["mmd"] = discrepancy.mean
        if (accuracy := self._accuracy(found)) is not None:
            means["discriminator_accuracy"] = accuracy
        trainer.run.append_metrics({"step": trainer.step} | {f"val_{name}": value for name, value in means.items()})
        trainer.save(score=score)

    def _accuracy(self, found: Predictions) -> float | None:
        """Return how often the bins of held-out pictures are named, poses in no bin left out; None: by nobody."""
        adversary = self._method.adversary
        if not isinstance(adversary, PoseAdversary):
            return None
        bins = self._pictures.pose_bins
        classes = self._method.kind.places(self._pictures.categories)[:, None].expand_as(bins)
        known = bins >= 0
        device = self._method.device
        told = self._method.model.tell_discriminator(found.codes[known].to(device), classes[known].to(device))
        return adversary.accuracy(told, bins[known].to(device))
