"""A trained run, opened: its networks, and what it knows of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from shapewright.data.kato_renders import MANIFEST
from shapewright.data.picture_folders import has_split, open_pictures
from shapewright.data.picture_sets import PictureSet
from shapewright.engine.checkpoint import load_checkpoint
from shapewright.engine.config import from_dict, suggestion, to_dict
from shapewright.engine.device import prepare_process, resolve_device
from shapewright.engine.run_dir import RunDir
from shapewright.errors import UserError
from shapewright.geometry.pose_bins import BinTable
from shapewright.io.files import file_sha256
from shapewright.methods.pose_invariant.config import PoseInvariantConfig
from shapewright.methods.pose_invariant.framing import (
    cut_photograph,
    framed_picture,
    framing_of,
    unframed_picture,
    whole_photograph,
)
from shapewright.methods.pose_invariant.method import PoseInvariantMethod
from shapewright.methods.pose_invariant.model import PictureKind
from shapewright.methods.pose_invariant.pose_search import OrbitRig

Split = Literal["train", "val", "test"]
Checkpoint = Literal["latest", "last", "best"] | int


@dataclass(frozen=True)
class TrainedRun:
    """Hold the networks of a run.

    Args:
        run: Its folder.
        config: Its settings.
        method: The networks, as they were at ``step``.
        step: Of the checkpoint.
    """

    run: RunDir
    config: PoseInvariantConfig
    method: PoseInvariantMethod
    step: int

    @staticmethod
    def open(path: Path, checkpoint: Checkpoint = "latest", device: str = "auto") -> TrainedRun:
        """Return the networks of a run folder.

        Raises:
            UserError: if the folder is no run of ``pose_invariant``, or has no such checkpoint.
        """
        prepare_process()
        run = RunDir.open(path)
        if run.info.get("method") != "pose_invariant":
            raise UserError(f"{path} is a run of {run.info.get('method')}.", "Give a run of pose_invariant.")
        config = from_dict(PoseInvariantConfig, run.config)
        step, tensors, _ = load_checkpoint(run, "latest" if checkpoint == "last" else checkpoint)
        kind = from_dict(PictureKind, run.info["pictures"])
        method = PoseInvariantMethod(config, kind, None, resolve_device(device))
        method.load_state_dict(tensors)
        return TrainedRun(run, config, method, step)

    @property
    def framing_px(self) -> float:
        """Return how long the longer side of the mask was in training, on average, in pixels."""
        return float(self.run.info["framing_px"])

    @property
    def rig(self) -> OrbitRig:
        """Return how far from the objects the cameras of its pictures stood, and how much they saw."""
        return OrbitRig(float(self.run.info["camera_distance"]), self.method.kind.half_angle_deg)

    @property
    def is_of_photographs(self) -> bool:
        """Tell if it has learned from pictures without masks, whose background stays."""
        return bool(self.run.info.get("photographs", self.config.augment == "moving_crops"))

    def read_picture(
        self, path: Path, mask: Path | None = None, framing: bool = True
    ) -> tuple[Float[Tensor, "channels size size"], Float[Tensor, "4 size size"]]:
        """Return a picture of a person as the encoder takes it, and as the masks of the training are framed.

        Args:
            path: With transparency unless there is a mask.
            mask: A picture, bright where the object is.
            framing: Crop to the object and scale it as in training; otherwise the picture must be framed like the data.

        Returns:
            given: Colours, and the mask where training had masks.
            framed: RGB times mask, then the mask; both in [0, 1].

        Raises:
            UserError: if it cannot be read, does not tell where the object is, or has another size without framing.
        """
        size, turns = self.method.kind.size, self.config.data.invert_colours
        if framing:
            framed = framed_picture(path, size, min(self.framing_px, size), mask)
        else:
            framed = unframed_picture(path, size, mask)
        if self.is_of_photographs:
            given = cut_photograph(path, size, mask) if framing else whole_photograph(path)
            return 1 - given if turns else given, framed
        return torch.cat([framed[3:] - framed[:3], framed[3:]]) if turns else framed, framed

    def category_place(self, name: str | None) -> int:
        """Return the place of a category among those that it has learned.

        Args:
            name: The category; none: the only one, or any if the decoder is not told it.

        Raises:
            UserError: if it is unknown or must be named.
        """
        classes = self.method.kind.classes
        if name is None and (len(classes) == 1 or not self.method.judged.num_told):
            return 0
        if name is None:
            raise UserError(f"The run has learned {len(classes)} categories.", f"Name one: --category {classes[0]}")
        if name not in classes:
            raise UserError(f"The run has not learned {name!r}.", suggestion(name, classes))
        return classes.index(name)

    @property
    def data(self) -> Path:
        """Return the folder of the pictures that it learned from."""
        return Path(self.run.info["data"])

    def pictures(self, split: Split, data: Path | None = None) -> PictureSet:
        """Return a set of the pictures that it learned from, or of others; bins of poses are those of its training.

        Raises:
            UserError: if they are missing, of another size, or not those that it learned from any more.
        """
        if data is None:
            check_data(self.run)
        seed = int(self.run.info["seed"])
        return open_pictures(data or self.data, split, self.config.data, seed, bin_table_of(self.run))

    def splits(self, data: Path | None = None) -> list[Split]:
        """Return the sets that its pictures, or others, have: test, val, train; the first is the one to judge by."""
        order: tuple[Split, ...] = ("test", "val", "train")
        return [split for split in order if has_split(data or self.data, split, self.config.data)]

    def test_split(self, data: Path | None = None) -> Split:
        """Return the set to judge by: test, or val, or train, whichever is the first to exist."""
        return next(iter(self.splits(data)), "train")


def check_data(run: RunDir) -> None:
    """Raise if the folder of a run's pictures holds others than those that it has learned from.

    The manifest names all files with their sums; Kato's own files have none, and an old run does not know it.
    """
    known, data = run.info.get("manifest_sha256"), Path(run.info["data"])
    if known is not None and (data / MANIFEST).is_file() and file_sha256(data / MANIFEST) != known:
        raise UserError(
            f"{data / MANIFEST} is not what {run.path} was trained with: the pictures were made anew since, "
            "and objects of the training may be among those to judge by.",
            "Make them as they were, or train anew; `eval --data` judges other pictures.",
        )


def bin_table_of(run: RunDir) -> BinTable | None:
    """Return what the pose bins of a run's training are numbered by; None: by the views, or the run is an old one."""
    known = run.info.get("bin_table")
    return None if known is None else from_dict(BinTable, known)


def run_details(method: PoseInvariantMethod, pictures: PictureSet, data: Path, seed: int) -> dict[str, Any]:
    """Return what ``run.json`` says beside the command: what the verbs must know of the pictures, without them."""
    return {
        "method": "pose_invariant",
        "data": str(data.resolve()),
        "manifest_sha256": file_sha256(data / MANIFEST) if (data / MANIFEST).is_file() else None,
        "device": str(method.device),
        "seed": seed,
        "pictures": to_dict(method.kind),
        "photographs": pictures.images.shape[2] == 3,
        "bin_table": None if pictures.bin_table is None else to_dict(pictures.bin_table),
        "framing_px": framing_of(pictures),
        "camera_distance": OrbitRig.of(pictures.views).distance,
    }
