"""The tracing model: it learns a ball from its pictures, resumes exactly, and refuses what it cannot use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shapewright.data.capture import View
from shapewright.data.normalisation import NormalisationReport
from shapewright.data.scene import Scene
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.fields.config import EncodingConfig, RadianceConfig, SdfConfig
from shapewright.geometry.cameras import Cameras
from shapewright.methods.surface.tracing import TracingModel
from shapewright.methods.surface.tracing_config import (
    IDR_PAPER,
    TracingBatchConfig,
    TracingLossConfig,
    TracingModelConfig,
    TracingOptimConfig,
)
from shapewright.rendering.sphere_tracing import Rays, TracingConfig

CPU = torch.device("cpu")
SIZE = 40
BALL_RADIUS = 0.4
SMALL = TracingModelConfig(
    encoding=EncodingConfig(kind="posenc", num_frequencies=2),
    sdf=SdfConfig(width=32, feature_size=4),
    radiance=RadianceConfig(width=32),
    tracing=TracingConfig(cache_resolution=32),
    batch=TracingBatchConfig(num_rays=256),
)
EXACT_TRACING = TracingConfig(tracer="exact")


def ball_cameras(views: int = 6) -> Cameras:
    angle = torch.arange(views, dtype=torch.float64) * (2 * torch.pi / views)
    eyes = torch.stack([3 * angle.cos(), torch.full_like(angle, 0.6), 3 * angle.sin()], dim=1)
    sizes = torch.tensor([[SIZE, SIZE]]).expand(views, 2)
    return Cameras.from_look_at(eyes, torch.zeros(3).double(), torch.tensor([0.0, 1.0, 0.0]).double(), 30.0, sizes)


def ball_scene(folder: Path, has_masks: bool = True) -> Scene:
    """Write pictures of a ball whose colour is its normal, and return them as a scene."""
    cameras = ball_cameras()
    views = []
    for index in range(len(cameras)):
        rays = Rays.through_sphere(*cameras.image_rays(index), radius=BALL_RADIUS)
        normals = torch.nn.functional.normalize(rays.points(rays.near), dim=-1)
        rgb = (127.5 * (1 + normals)).round().where(rays.is_searched[:, None], torch.tensor(255.0).double())
        alpha = torch.where(rays.is_searched, 255.0, 0.0)[:, None]
        rgba = torch.cat([rgb, alpha], dim=1).view(SIZE, SIZE, 4).numpy().astype(np.uint8)
        path = folder / f"{index}.png"
        Image.fromarray(rgba).save(path)
        views.append(View(path.name, path, uses_alpha=has_masks))
    report = NormalisationReport("file", 1.0, np.zeros(3))
    return Scene(folder, "test", tuple(views), cameras, 1.0, np.zeros(3), (1, 2, 3, 4, 5), (0,), report)


def train(model: TracingModel, first: int, last: int, total: int) -> list[float]:
    losses = []
    for step in range(first, last):
        moment = Moment(step, step / total)
        report = model.train_step(model.next_batch(moment), moment)
        assert "skipped" not in report
        losses.append(float(report["loss"]))
    return losses


def test_a_ball_is_learned_from_its_pictures(tmp_path):
    scene = ball_scene(tmp_path)
    model = TracingModel(SMALL, scene, CPU, seed=0)
    train(model, 0, 150, 150)
    rendering = model.render_view(scene.cameras, view=0)
    picture = scene.picture(0)
    truth = torch.from_numpy(picture.rgb / 255.0).float()
    mask = torch.from_numpy(picture.alpha > 127)
    hit = rendering.opacity > 0.5
    assert (hit & mask).sum() / (hit | mask).sum() >= 0.93
    assert (rendering.rgb - truth)[hit & mask].square().mean() <= 0.01
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    assert model.sdf(BALL_RADIUS * directions).abs().mean() <= 0.02
    _, normals = model.sdf_and_normal(BALL_RADIUS * directions)
    assert (normals * directions).sum(-1).mean() >= 0.97
    assert (model.color(BALL_RADIUS * directions) - 0.5 * (1 + directions)).abs().mean() <= 0.15


def test_shuffled_pictures_are_not_learned(tmp_path):
    scene = ball_scene(tmp_path)
    model = TracingModel(SMALL, replace(scene, views=(scene.views[0], *scene.views[:0:-1])), CPU, seed=0)
    train(model, 0, 150, 150)
    rendering = model.render_view(scene.cameras, view=0)
    picture = scene.picture(0)
    both = (rendering.opacity > 0.5) & torch.from_numpy(picture.alpha > 127)
    error = (rendering.rgb - torch.from_numpy(picture.rgb / 255.0).float())[both].square().mean()
    assert error > 0.01


@pytest.mark.parametrize("from_one_image", [False, True])
@pytest.mark.parametrize("tracing", [SMALL.tracing, EXACT_TRACING], ids=["fast", "exact"])
def test_resuming_gives_the_same_losses(tmp_path, tracing, from_one_image):
    config = replace(SMALL, tracing=tracing, batch=TracingBatchConfig(num_rays=64, from_one_image=from_one_image))
    scene = ball_scene(tmp_path)
    model = TracingModel(config, scene, CPU, seed=3)
    train(model, 0, 3, 10)
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    expected = train(model, 3, 7, 10)
    resumed = TracingModel(config, scene, CPU, seed=99)
    resumed.load_state_dict(saved)
    assert train(resumed, 3, 7, 10) == expected
    assert torch.equal(resumed.sdf(torch.zeros(1, 3)), model.sdf(torch.zeros(1, 3)))


def test_rendering_does_not_change_training(tmp_path):
    scene = ball_scene(tmp_path)
    watched, alone = (TracingModel(SMALL, scene, CPU, seed=1) for _ in range(2))
    train(watched, 0, 2, 10), train(alone, 0, 2, 10)
    watched.render_view(scene.cameras, view=0, step=4)
    assert train(watched, 2, 5, 10) == train(alone, 2, 5, 10)


def test_a_step_that_is_not_finite_changes_nothing(tmp_path):
    model = TracingModel(SMALL, ball_scene(tmp_path), CPU, seed=0)
    moment = Moment(0, 0.0)
    batch = model.next_batch(moment)
    before = [parameter.clone() for parameter in model.sdf_network.parameters()]
    report = model.train_step(replace(batch, colors=batch.colors * torch.nan), moment)
    assert report["skipped"] == 1.0
    assert all(torch.equal(old, new) for old, new in zip(before, model.sdf_network.parameters(), strict=True))


def test_pictures_have_the_cameras_size_and_miss_as_promised(tmp_path):
    cameras = ball_cameras()
    model = TracingModel(SMALL, None, CPU, seed=0)
    rendering = model.render_view(cameras, view=2, step=3)
    assert rendering.rgb.shape == rendering.normal.shape == (14, 14, 3)
    missed = rendering.opacity == 0
    assert bool(missed.any())
    assert torch.equal(rendering.depth.isnan(), missed)
    assert float(rendering.rgb[missed].abs().sum() + rendering.normal[missed].abs().sum()) == 0.0
    torch.testing.assert_close(rendering.normal[~missed].norm(dim=-1), torch.ones(int((~missed).sum())))


def test_paper_takes_each_image_once_a_round(tmp_path):
    config = replace(IDR_PAPER, batch=TracingBatchConfig(num_rays=8, from_one_image=True, foreground_share=0.0))
    small = replace(config, sdf=SMALL.sdf, radiance=SMALL.radiance)
    model = TracingModel(small, ball_scene(tmp_path), CPU, seed=0)
    for _ in range(2):
        origins = [model.next_batch(Moment(0, 0.0)).origins for _ in range(5)]
        assert all((origin == origin[0]).all() for origin in origins)
        assert len({tuple(origin[0].tolist()) for origin in origins}) == 5


def test_foreground_share_is_kept(tmp_path):
    config = replace(SMALL, batch=TracingBatchConfig(num_rays=1000, foreground_share=0.7))
    model = TracingModel(config, ball_scene(tmp_path), CPU, seed=0)
    batch = model.next_batch(Moment(0, 0.0))
    inside = Rays.through_sphere(batch.origins, batch.directions, BALL_RADIUS).is_searched
    assert torch.equal(inside, batch.is_object)
    anywhere = float(inside[700:].float().mean())
    assert bool(inside[:700].all())
    assert 0.1 < anywhere < 0.5


def test_schedules_follow_progress():
    loss, paper = TracingLossConfig(), IDR_PAPER.optim
    assert [loss.sharpness_at(p) for p in (0.0, 0.125, 0.3, 0.625, 1.0)] == [50.0, 100.0, 200.0, 1600.0, 1600.0]
    assert [paper.factor_at(p) for p in (0.0, 0.5, 0.75, 1.0)] == [1.0, 0.5, 0.25, 0.25]
    ours = TracingOptimConfig()
    assert ours.factor_at(0.005) == pytest.approx(0.5)
    assert ours.factor_at(0.4) == 1.0
    assert ours.factor_at(1.0) == pytest.approx(0.1)


def test_missing_masks_and_scenes_are_explained(tmp_path):
    with pytest.raises(UserError, match="no masks"):
        TracingModel(SMALL, ball_scene(tmp_path, has_masks=False), CPU, seed=0)
    with pytest.raises(ValueError, match="scene"):
        TracingModel(SMALL, None, CPU, seed=0).next_batch(Moment(0, 0.0))
    empty = ball_scene(tmp_path)
    for view in empty.views:
        pixels = np.array(Image.open(view.image_path))
        pixels[..., 3] = 0
        Image.fromarray(pixels).save(view.image_path)
    with pytest.raises(UserError, match="empty"):
        TracingModel(SMALL, empty, CPU, seed=0)
