"""The method learns: unseen ellipsoids come out of one picture, and what must fail does."""

import dataclasses

import pytest

from shapewright.engine.schedule import TrainConfig
from shapewright.engine.start import Start
from shapewright.methods.pose_invariant.config import NetworkConfig, OptimConfig, PoseInvariantConfig
from shapewright.methods.pose_invariant.judging import controls, predict, shape_rows
from shapewright.methods.pose_invariant.trained import TrainedRun
from shapewright.methods.pose_invariant.training import train
from tests.methods.picture_family import write_ellipsoids

CONFIG = PoseInvariantConfig(
    mode="plain",
    media_every=10_000,
    network=NetworkConfig(encoder_widths=(16, 32, 32), encoder_hidden=128, code_dim=64, decoder_hidden=(128,)),
    optim=OptimConfig(batch_size=16, lr=2e-3, schedule="cosine"),
    train=TrainConfig(steps=250, log_every=50),
)


def judged(config, data, out):
    opened = TrainedRun.open(train(config, data, out, Start(device="cpu", seed=0)).path)
    pictures = opened.pictures("test")
    rows = shape_rows(pictures, predict(opened.method, pictures), num_points=0)
    return float(rows["voxel_iou_32"].mean()), controls(opened.pictures("train"), pictures)


@pytest.mark.slow
def test_unseen_ellipsoids_are_learned_from_single_pictures(tmp_path):
    data = write_ellipsoids(tmp_path / "data", seed=1, sizes={"train": 24, "test": 6})
    learned, known = judged(CONFIG, data, tmp_path / "learned")
    untrained, _ = judged(dataclasses.replace(CONFIG, train=TrainConfig(steps=1)), data, tmp_path / "untrained")
    assert learned > 0.58
    assert learned > known["voxel_iou_32_mean_shape"] + 0.05
    assert untrained < learned - 0.2
