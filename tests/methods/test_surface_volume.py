"""The volume renderer: its gradients are those of autograd, its runs repeat, and it finds a ball in its pictures."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from PIL import Image

from shapewright.data.scene import load_scene
from shapewright.data.toy import write_toy_scene
from shapewright.engine.schedule import Moment
from shapewright.errors import UserError
from shapewright.kernels import backend
from shapewright.kernels.backends import find_problem
from shapewright.methods.surface.config import SurfaceConfig
from shapewright.methods.surface.method import SurfaceMethod
from shapewright.methods.surface.volume import VolumeModel
from shapewright.methods.surface.volume_config import (
    GridConfig,
    SamplingConfig,
    VolumeConfig,
    VolumeLossConfig,
    VolumeOptimConfig,
)
from shapewright.methods.surface.volume_torch import TorchVolumeModel, Weights

STEPS = 40
CPU = torch.device("cpu")
CONFIG = VolumeConfig(
    grid=GridConfig(
        num_levels=4, log2_table_size=12, base_resolution=8, max_resolution=64, start_levels=2, hidden=16, features=7,
        color_hidden=16,
    ),
    sampling=SamplingConfig(samples=2048, eikonal_points=256, cache_resolution=32, cache_every=5, sharpness_end=300.0),
    loss=VolumeLossConfig(clipped_from=0.6, smoothness=0.01, smoothness_clipped=0.1),
    optim=VolumeOptimConfig(exposure_rate=1e-3, table_decay=0.1, table_decay_fine=0.01),
    hull_fit_steps=30,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("toy") / "sphere"
    write_toy_scene(path, "sphere", num_views=8, size=(48, 42), supersample=1)
    return path


@pytest.fixture(scope="module")
def scene(folder):
    return load_scene(folder)


@pytest.fixture(scope="module")
def young(scene):
    """Return the state of a model after a few steps, with exposures that are not all equal."""
    model = VolumeModel.start(CONFIG, scene, seed=0, threads=1)
    train(model, range(10))
    return copy(model.state_dict())


def copy(state):
    return {name: value.clone() for name, value in state.items()}


def train(model, steps, of=STEPS):
    moments = [Moment(step, step / of) for step in steps]
    return [model.train_step(model.next_batch(moment), moment) for moment in moments]


def restored(state, scene, threads=1):
    model = VolumeModel.restore(CONFIG, copy(state), threads)
    model.read_pixels(scene)
    return model


def relative_error(ours, theirs):
    return float((ours.double() - theirs).abs().max() / theirs.abs().max())


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


# Gradients.


def double_weights(model):
    sdf, color = model.field.sdf_weights, model.field.color_weights
    table, flat, colors, gains = (
        value.detach().double().requires_grad_() for value in (sdf.table, sdf.flat, color.flat, model.log_gains.exp())
    )
    return Weights(replace(sdf, table=table, flat=flat), replace(color, flat=colors), gains)


def test_a_steps_gradients_are_those_of_autograd_in_float64(young, scene):
    model = restored(young, scene)
    model.log_gains.normal_(0.0, 0.1, generator=model.generator)
    oracle = TorchVolumeModel(restored(model.state_dict(), scene), CPU)
    batches = model.next_batch(Moment(12, 0.3))
    for each in (model, oracle):
        each.field.set_progress(0.3)
    results = [model._shard_step(batch) for batch in batches]
    for level in range(model.field.grid.active):
        model._add_table_gradient(level, results)
    weights = double_weights(model)
    with backend("reference"):
        losses = [oracle.losses(batch, weights)[0] for batch in batches]
    expected = torch.autograd.grad(sum(loss["loss"] for loss in losses), weights.leaves())
    found = [
        model.table_grad.view_as(weights.sdf.table),
        sum(result.sdf_grad.flat for result in results),
        sum(result.color_grad.flat for result in results),
        sum(result.gain_grad for result in results),
    ]
    assert "smoothness" in losses[0]
    for ours, theirs in zip(found, expected, strict=True):
        assert relative_error(ours, theirs) < 1e-3
    for result, loss in zip(results, losses, strict=True):
        assert result.losses == pytest.approx({name: value.item() for name, value in loss.items()}, rel=1e-4)


# The same in torch operations.


def test_twenty_steps_with_autograd_have_the_same_losses(young, scene):
    ours, theirs = restored(young, scene), TorchVolumeModel(restored(young, scene), CPU)
    for first, second in zip(train(ours, range(10, 30)), train(theirs, range(10, 30)), strict=True):
        assert first == pytest.approx(second, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", ["reference", "warp"])
def test_every_back_end_makes_the_same_step(young, scene, name):
    problem = find_problem(name, "cpu")
    if problem is not None:
        pytest.skip(problem.message)
    ours, theirs = restored(young, scene), TorchVolumeModel(restored(young, scene), CPU)
    (first,) = train(ours, [12])
    with backend(name):
        (second,) = train(theirs, [12])
    assert first == pytest.approx(second, rel=1e-4)
    for parameter in ("table", "sdf", "color"):
        means = (model.state_dict()[f"mean.{parameter}"] for model in (ours, theirs))
        assert relative_error(*means) < 1e-3


def test_a_run_changes_its_device_and_shows_the_same(young, scene):
    moved = TorchVolumeModel(restored(young, scene), CPU)
    train(moved, range(10, 15))
    back = restored(moved.state_dict(), scene)
    assert equal(back.state_dict(), moved.state_dict())
    points = torch.rand(500, 3, generator=torch.Generator().manual_seed(0)) - 0.5
    along = torch.nn.functional.normalize(points, dim=1)
    for first, second in (
        (moved.sdf(points), back.sdf(points)),
        *zip(moved.sdf_and_normal(points), back.sdf_and_normal(points), strict=True),
        (moved.color(points, along), back.color(points, along)),
    ):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)
    first, second = moved.render_view(scene.cameras, 0), back.render_view(scene.cameras, 0)
    for name in ("rgb", "opacity", "normal"):
        difference = (getattr(first, name) - getattr(second, name)).abs()
        assert difference.quantile(0.99) < 1e-3, name
    assert (first.depth.isnan() == second.depth.isnan()).float().mean() > 0.99


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_a_cuda_device_learns_the_same(young, scene):
    config = SurfaceConfig(volume=CONFIG)
    theirs = SurfaceMethod.restore(config, copy(young), torch.device("cuda"), scene)
    assert isinstance(theirs.model, TorchVolumeModel)
    ours = restored(young, scene)
    for first, second in zip(train(ours, range(10, 15)), train(theirs, range(10, 15)), strict=True):
        assert first == pytest.approx(second, rel=1e-2, abs=1e-4)
    shown = theirs.render_view(scene.cameras, 0)
    assert (shown.opacity.cpu() - ours.render_view(scene.cameras, 0).opacity).abs().mean() < 1e-2


def test_the_cpu_runs_the_hand_written_kernels(young, scene):
    config = SurfaceConfig(volume=CONFIG)
    assert type(SurfaceMethod.restore(config, copy(young), CPU, scene).model) is VolumeModel
    assert type(SurfaceMethod.restore(config, copy(young), torch.device("meta")).model) is TorchVolumeModel


# Runs.


@pytest.fixture
def num_threads():
    """Set the number of torch's threads, and put it back at the end."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_one_and_two_threads_give_the_same_bits(scene, num_threads):
    states = []
    for threads in (1, 2):
        num_threads(threads)
        model = VolumeModel.start(CONFIG, scene, seed=3, threads=threads)
        losses = train(model, range(8))
        states.append((losses, copy(model.state_dict()), model.render_view(scene.cameras, 1).rgb))
    assert states[0][0] == states[1][0]
    assert equal(states[0][1], states[1][1])
    assert torch.equal(states[0][2], states[1][2])


def test_a_restored_run_goes_on_with_the_same_bits(scene):
    model = VolumeModel.start(CONFIG, scene, seed=1, threads=1)
    train(model, range(7))
    other = restored(model.state_dict(), scene)
    assert train(model, range(7, 14)) == train(other, range(7, 14))
    assert equal(model.state_dict(), other.state_dict())


def test_a_step_that_is_not_finite_is_skipped_and_changes_no_parameter(young, scene):
    model = restored(young, scene)
    model.field.color_weights.flat[3] = torch.nan
    before = copy(model.state_dict())
    (report,) = train(model, [10])
    after = model.state_dict()
    assert report["skipped"] == 1.0
    kept = [name for name in before if name.startswith(("weights.", "mean.", "square.", "updates"))]
    assert all(torch.equal(before[name].nan_to_num(7.0), after[name].nan_to_num(7.0)) for name in kept)
    model.field.color_weights.flat[3] = 0.0
    (report,) = train(model, [11])
    assert "skipped" not in report
    assert all(value.isfinite().all() for name, value in model.state_dict().items() if name.startswith("weights."))


def test_a_scene_without_masks_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare" / "mask")
    for path in (tmp_path / "bare" / "image").iterdir():
        Image.open(path).convert("RGB").save(path)
    with pytest.raises(UserError, match="no masks") as caught:
        VolumeModel.start(CONFIG, load_scene(tmp_path / "bare"), seed=0, threads=1)
    assert "mask/" in caught.value.hint


def test_training_without_pictures_is_an_error_of_the_caller(young):
    with pytest.raises(ValueError, match="read_pixels"):
        VolumeModel.restore(CONFIG, copy(young), threads=1).next_batch(Moment(0, 0.0))


# Learning.


def surface_error(model):
    """Return the mean distance between the ball of radius 0.6 and the surface."""
    directions = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    return float(model.sdf(0.6 * directions).abs().mean())


def test_a_second_of_training_finds_the_ball(scene):
    config = replace(CONFIG, loss=VolumeLossConfig(), optim=VolumeOptimConfig())
    model = VolumeModel.start(config, scene, seed=0, threads=1)
    start = surface_error(model)
    losses = train(model, range(300), of=300)
    end = surface_error(model)
    assert end < 0.04
    assert end < 0.7 * start
    assert sum(r["photometric"] for r in losses[-20:]) < 0.3 * sum(r["photometric"] for r in losses[:20])
    seen = model.render_view(scene.cameras, 0)
    mask = torch.from_numpy(scene.mask(0))
    shown = seen.opacity > 0.5
    assert (shown & mask).sum() / (shown | mask).sum() > 0.9
