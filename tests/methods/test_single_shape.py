"""One shape from points, signed distances or a mesh: learning, its controls, exact resume, bad input."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch

from shapewright.cli.main import main
from shapewright.engine.checkpoint import list_checkpoints, load_checkpoint
from shapewright.engine.config import from_dict, to_dict
from shapewright.engine.run_dir import RunDir
from shapewright.engine.schedule import Moment, TrainConfig
from shapewright.engine.seed import make_generator
from shapewright.errors import UserError
from shapewright.fields.config import SdfConfig
from shapewright.geometry.isosurface import extract_isosurface
from shapewright.geometry.mesh import Mesh
from shapewright.geometry.point_cloud import PointCloud
from shapewright.geometry.topology import count_components, is_watertight
from shapewright.io.meshes import read_mesh, write_mesh
from shapewright.io.point_clouds import write_point_cloud
from shapewright.methods.deep_sdf.single_config import (
    SINGLE_PRESETS,
    ScanConfig,
    SingleConfig,
    SingleLossConfig,
    SingleMeshConfig,
    SingleOptimConfig,
    SpaceConfig,
)
from shapewright.methods.deep_sdf.single_data import from_cloud, read_training_points, winding_bounds
from shapewright.methods.deep_sdf.single_field import fitted_grid
from shapewright.methods.deep_sdf.single_loss import ShapeBatch, shape_loss
from shapewright.methods.deep_sdf.single_mesh import supported_components, truth_metrics
from shapewright.methods.deep_sdf.single_method import SingleShapeMethod
from shapewright.methods.deep_sdf.single_shape import (
    SingleStart,
    evaluate_single,
    export_single,
    reconstruct_single,
    resume_single,
)
from tests.geometry.test_point_cloud import sphere
from tests.geometry.test_point_orientation import torus

QUICK = SingleConfig(
    space=SpaceConfig(near=12_000, uniform=6000),
    optim=SingleOptimConfig(surface_points=1024, space_points=1024),
    mesh=SingleMeshConfig(resolution=64),
    train=TrainConfig(steps=150, log_every=50),
)
SHIFT = torch.tensor([5.0, -3.0, 2.0])


def true_mesh(sdf, half):
    return extract_isosurface(sdf, torch.full((3,), -half), torch.full((3,), half), 96).mesh


def torus_mesh():
    return true_mesh(lambda x: ((x[:, :2].norm(dim=1) - 1.0).square() + x[:, 2].square()).sqrt() - 0.35, 1.5)


def sphere_mesh():
    return true_mesh(lambda x: x.norm(dim=1) - 1.0, 1.2)


def sphere_cloud(count=4000):
    points = sphere(count)
    return PointCloud(points, points)


def f_score(mesh, truth):
    return truth_metrics(mesh, truth)["f_score_radius_2pct"]


def reconstruct(tmp_path, cloud, config=QUICK, **start):
    path = tmp_path / "scan.ply"
    write_point_cloud(path, cloud)
    run = reconstruct_single(config, path, tmp_path / "run", SingleStart(**start))
    return run, read_mesh(run / "meshes" / "mesh.glb")


def test_a_sphere_comes_back_in_its_own_units_with_all_files(tmp_path):
    cloud = dataclasses.replace(sphere_cloud(), colors=sphere(4000) / 2 + 0.5)
    write_mesh(tmp_path / "truth.ply", sphere_mesh().transformed(10.0, SHIFT))
    run, mesh = reconstruct(tmp_path, cloud.transformed(10.0, SHIFT), truth=tmp_path / "truth.ply")
    assert f_score(mesh, sphere_mesh().transformed(10.0, SHIFT)) > 0.99
    assert count_components(mesh) == 1
    assert is_watertight(mesh)
    expected = (mesh.vertices - SHIFT) / 20.0 + 0.5
    assert (mesh.vertex_colors - expected).abs().mean() < 0.03
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert metrics["f_score_radius_2pct"] > 0.99
    assert metrics["f_score_1pct"] > 0.98
    assert metrics["input_share_01"] > 0.9
    info = json.loads((run / "run.json").read_text())
    assert (info["method"], info["mode"]) == ("deep_sdf", "single")
    report = (run / "report.html").read_text()
    assert "true mesh" in report
    assert len(list((run / "media").glob("mesh_*.png"))) == 4


def test_a_bare_torus_is_found(tmp_path):
    points, _ = torus(4000)
    _, mesh = reconstruct(tmp_path, PointCloud(points))
    assert f_score(mesh, torus_mesh()) > 0.97
    assert count_components(mesh) == 1


def test_control_shuffled_normals_fail(tmp_path):
    points, normals = torus(4000)
    order = torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    try:
        _, mesh = reconstruct(tmp_path, PointCloud(points, normals[order]))
    except UserError:
        return
    assert f_score(mesh, torus_mesh()) < 0.8


def test_control_an_untrained_field_fails(tmp_path):
    config = dataclasses.replace(QUICK, train=TrainConfig(steps=1), optim=SingleOptimConfig(sphere_steps=0))
    try:
        _, mesh = reconstruct(tmp_path, PointCloud(*torus(2000)), config)
    except UserError:
        return
    assert f_score(mesh, torus_mesh()) < 0.5


def test_a_viewpoint_turns_normals_and_empties_the_space_before_the_points():
    points = sphere(3000)
    front = PointCloud(points[points[:, 2] > 0])
    eye = (0.0, 0.0, 6.0)
    config = dataclasses.replace(QUICK, scan=ScanConfig(viewpoint=eye))
    data = from_cloud(front, config, make_generator(0), "front")
    upward = torch.tensor(eye) - data.placement.invert(data.surface.points)
    assert ((data.surface.normals * upward).sum(1) >= 0).all()
    free = data.space[QUICK.space.near + QUICK.space.uniform :]
    assert len(free) > 100
    assert (data.placement.invert(free).norm(dim=1) > 0.97).all()
    assert (data.lower[-len(free) :] == 0).all()


def test_signed_distances_are_learned(tmp_path):
    generator = torch.Generator().manual_seed(0)
    points = torch.cat([sphere(8000) * 0.7 + 0.05 * torch.randn(8000, 3, generator=generator), sphere(500, 2) * 0.3])
    points = torch.cat([points, torch.rand(3000, 3, generator=generator) * 2 - 1])
    rows = torch.cat([points, points.norm(dim=1, keepdim=True) - 0.7], dim=1).numpy()
    np.savez(tmp_path / "a.npz", pos=rows[rows[:, 3] > 0], neg=rows[rows[:, 3] <= 0])
    run = reconstruct_single(QUICK, tmp_path / "a.npz", tmp_path / "run")
    mesh = read_mesh(run / "meshes" / "mesh.glb")
    assert abs(float(mesh.vertices.norm(dim=1).mean()) - 0.7) < 0.01
    assert json.loads((run / "metrics.json").read_text())["metrics"]["sign_accuracy"] > 0.98


def test_a_messy_mesh_becomes_a_clean_one(tmp_path):
    torus_ = torus_mesh()
    flip = torch.rand(torus_.num_faces, generator=torch.Generator().manual_seed(0)) < 0.3
    faces = torch.where(flip[:, None], torus_.faces.flip(1), torus_.faces)
    # Every triangle twice, some turned, and a wall inside the tube.
    wall = Mesh(torch.tensor([[1.0, 0.0, 0.2], [1.1, 0.0, -0.2], [0.9, 0.0, -0.2]]), torch.tensor([[0, 1, 2]]))
    vertices = torch.cat([torus_.vertices, wall.vertices])
    messy = Mesh(vertices, torch.cat([faces, faces, wall.faces + torus_.num_vertices]))
    write_mesh(tmp_path / "messy.obj", messy)
    config = dataclasses.replace(QUICK, scan=ScanConfig(samples=40_000), train=TrainConfig(steps=300))
    run = reconstruct_single(config, tmp_path / "messy.obj", tmp_path / "run")
    mesh = read_mesh(run / "meshes" / "mesh.glb")
    assert f_score(mesh, torus_) > 0.97
    assert count_components(mesh) == 1


@pytest.mark.parametrize("model", ["grid", "network"])
def test_resume_equals_the_uninterrupted_run(tmp_path, model):
    network = SdfConfig(width=16, num_layers=3, feature_size=0, weight_norm=False, start="geometric")
    optim = dataclasses.replace(QUICK.optim, average=0.9, surface_points=256, space_points=256)
    config = dataclasses.replace(QUICK, model=model, network=network, optim=optim, mesh=SingleMeshConfig(resolution=32))
    write_point_cloud(tmp_path / "scan.ply", sphere_cloud(1500))
    whole = dataclasses.replace(config, train=TrainConfig(steps=24, log_every=1))
    ends = []
    for name in ("whole", "parts"):
        run = RunDir(reconstruct_single(whole, tmp_path / "scan.ply", tmp_path / name))
        if name == "parts":
            saved = SingleShapeMethod(whole, read_training_points(tmp_path / "scan.ply", whole, 0), 0)
            _go_back(run, saved, whole, 11)
            resume_single(run.path)
        ends.append((load_checkpoint(run)[1], run.read_metrics()))
    assert list_checkpoints(run)[-1] == 24
    assert ends[0][0].keys() == ends[1][0].keys()
    for name, value in ends[0][0].items():
        assert torch.equal(value, ends[1][0][name]), name
    assert [row["loss"] for row in ends[0][1]] == [row["loss"] for row in ends[1][1]]


def _go_back(run, method, config, step):
    """Leave the run as if it had been stopped after some steps."""
    from shapewright.engine.checkpoint import save_checkpoint

    method.fit_sphere()
    for index in range(step):
        moment = Moment(index, index / config.train.steps)
        method.train_step(method.next_batch(moment), moment)
    for path in run.checkpoints.iterdir():
        path.unlink()
    save_checkpoint(run, step, method.state_dict(), {"seconds": 1.0})


def test_a_changed_or_missing_input_stops_a_resume(tmp_path):
    mesh = SingleMeshConfig(resolution=24, components="all")
    config = dataclasses.replace(QUICK, train=TrainConfig(steps=2), mesh=mesh)
    run, _ = reconstruct(tmp_path, sphere_cloud(500), config)
    write_point_cloud(tmp_path / "scan.ply", sphere_cloud(501))
    with pytest.raises(UserError, match="not the file"):
        resume_single(run)
    (tmp_path / "scan.ply").unlink()
    with pytest.raises(UserError, match="gone"):
        evaluate_single(run)


def test_a_run_is_measured_and_exported_again(tmp_path):
    config = dataclasses.replace(QUICK, train=TrainConfig(steps=100))
    run, _ = reconstruct(tmp_path, sphere_cloud().transformed(4.0, SHIFT), config)
    write_mesh(tmp_path / "truth.ply", sphere_mesh().transformed(4.0, SHIFT))
    metrics = evaluate_single(run, truth=tmp_path / "truth.ply")["metrics"]
    assert metrics["f_score_radius_2pct"] > 0.95
    paths = export_single(run, ("ply", "obj"), resolution=32, keep_normalized=True)
    assert [path.name for path in paths] == ["mesh.ply", "mesh.obj"]
    radius = read_mesh(paths[0]).vertices.norm(dim=1)
    assert abs(float(radius.mean()) - 1 / 1.03) < 0.02
    RunDir.create(tmp_path / "other", {}, [], {"method": "surface"})
    with pytest.raises(UserError, match="not a run of one shape"):
        evaluate_single(tmp_path / "other")


def test_ghosts_without_points_near_them_are_left_out():
    body, ghost = sphere_mesh(), sphere_mesh().transformed(0.2, torch.tensor([2.0, 0.0, 0.0]))
    both = Mesh(torch.cat([body.vertices, ghost.vertices]), torch.cat([body.faces, ghost.faces + body.num_vertices]))
    kept = supported_components(both, sphere(2000), 0.1)
    assert kept.num_faces == body.num_faces
    with pytest.raises(UserError, match="nowhere near"):
        supported_components(both, sphere(100) + 50.0, 0.1)


def test_bounds_hold_the_true_distance():
    cloud = sphere_cloud(8000)
    queries = torch.rand(4000, 3, generator=torch.Generator().manual_seed(3)) * 3 - 1.5
    lower, upper = winding_bounds(cloud, queries, 1.5, 0.0)
    truth = queries.norm(dim=1) - 1.0
    assert (lower <= truth + 2e-3).float().mean() > 0.99
    assert (truth - 2e-3 <= upper).float().mean() > 0.99
    assert (upper - lower).median() < 0.01
    assert ((lower + upper).sign() == truth.sign())[truth.abs() > 0.1].all()


@pytest.mark.parametrize("relative", [False, True])
def test_the_loss_s_derivatives_are_those_of_autograd(relative):
    generator = torch.Generator().manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    config = SingleLossConfig(off_surface=0.3, relative=relative)
    normals = torch.nn.functional.normalize(draw(3, 6), dim=0)
    normals[:, 0] = 0.0
    lower = 0.3 * draw(10)
    upper = lower + 0.1
    lower[0], upper[1] = -math.inf, math.inf
    batch = ShapeBatch(draw(3, 16), normals, lower, upper)
    values, gradients = (0.3 * draw(16)).requires_grad_(), draw(3, 16).requires_grad_()
    losses, by_value, by_gradient = shape_loss(values.detach(), gradients.detach(), batch, config)
    total = _plain_loss(values, gradients, batch, config)
    expected = torch.autograd.grad(total, (values, gradients))
    assert losses["loss"] == pytest.approx(total.item(), rel=1e-9)
    torch.testing.assert_close(by_value, expected[0])
    torch.testing.assert_close(by_gradient, expected[1])


def _plain_loss(values, gradients, batch, config):
    """Write the loss as its formula."""
    known = batch.normals.norm(dim=0) > 0.5
    on, off = values[:6], values[6:]
    miss = torch.relu(batch.lower - off) + torch.relu(off - batch.upper)
    if config.relative:
        miss = miss / (torch.minimum(batch.lower.abs(), batch.upper.abs()) + 0.01)
    return (
        config.point * on.abs().mean()
        + config.normal * (gradients[:, :6] - batch.normals).norm(dim=0)[known].mean()
        + config.distance * miss.mean()
        + config.off_surface * (-config.sharpness * off.abs()).exp().mean()
        + config.eikonal * (gradients.norm(dim=0) - 1).square().mean()
    )


def test_the_grid_is_no_finer_than_the_points():
    grid = SINGLE_PRESETS["cpu"].grid
    assert fitted_grid(grid, 1.0, 0.05).max_resolution == 40
    assert fitted_grid(grid, 1.0, 1e-4).max_resolution == grid.max_resolution
    assert fitted_grid(grid, 1.0, 0.0) == grid


@pytest.mark.parametrize("name", SINGLE_PRESETS)
def test_every_preset_makes_a_step_and_survives_a_file(name):
    preset = SINGLE_PRESETS[name]
    assert from_dict(SingleConfig, json.loads(json.dumps(to_dict(preset)))) == preset
    config = dataclasses.replace(
        preset,
        optim=dataclasses.replace(preset.optim, surface_points=64, space_points=64, sphere_steps=1),
        space=dataclasses.replace(preset.space, near=300, uniform=300),
    )
    method = SingleShapeMethod(config, from_cloud(sphere_cloud(500), config, make_generator(0), "ball"), 0)
    moment = Moment(0, 0.0)
    losses = method.train_step(method.next_batch(moment), moment)
    assert math.isfinite(losses["loss"])
    assert "skipped" not in losses
    assert method.sdf(torch.zeros(5, 3)).isfinite().all()


def test_the_paper_s_network_starts_as_a_sphere():
    config = dataclasses.replace(SINGLE_PRESETS["igr-paper"], space=SpaceConfig(guide="none", near=300, uniform=300))
    method = SingleShapeMethod(config, from_cloud(sphere_cloud(500), config, make_generator(0), "ball"), 0)
    assert float(method.sdf(torch.zeros(1, 3))) < 0 < float(method.sdf(torch.ones(1, 3)))


def bad_clouds():
    few, good = sphere(99), sphere(300)
    nan = good.clone().numpy()
    nan[7, 1] = np.nan
    return {
        "few": ({"points": few}, ScanConfig(), "fewer than 100"),
        "not a number": ({"points": nan}, ScanConfig(), "point 7"),
        "zero normals": ({"points": good, "normals": good * 0}, ScanConfig(), "normals are zero"),
        "no normals": ({"points": good}, ScanConfig(normals="file"), "has no normals"),
        "one place": ({"points": good * 0}, ScanConfig(), "fewer than 100"),
        "no inside": ({"pos": np.ones((200, 4)), "neg": np.ones((0, 4))}, ScanConfig(), "no inside"),
        "three columns": ({"pos": np.ones((200, 3)), "neg": np.ones((200, 3))}, ScanConfig(), r"\[200, 3\]"),
    }


@pytest.mark.parametrize("name", bad_clouds())
def test_bad_input_is_named(tmp_path, name):
    arrays, scan, fault = bad_clouds()[name]
    np.savez(tmp_path / "scan.npz", **arrays)
    with pytest.raises(UserError, match=fault) as caught:
        reconstruct_single(dataclasses.replace(QUICK, scan=scan), tmp_path / "scan.npz", tmp_path / "run")
    assert caught.value.hint
    assert not (tmp_path / "run").exists()


def test_an_empty_file_and_an_open_sheet_are_named(tmp_path):
    (tmp_path / "a.ply").touch()
    with pytest.raises(UserError, match=r"a\.ply"):
        reconstruct_single(QUICK, tmp_path / "a.ply", tmp_path / "run")
    sheet = Mesh(torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]), torch.tensor([[0, 1, 2], [0, 2, 1]]))
    write_mesh(tmp_path / "sheet.obj", sheet)
    config = dataclasses.replace(QUICK, scan=ScanConfig(samples=1000))
    with pytest.raises(UserError, match="no inside"):
        reconstruct_single(config, tmp_path / "sheet.obj", tmp_path / "run")


def test_the_command_writes_beside_the_other_runs_by_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_point_cloud(tmp_path / "ring.ply", PointCloud(*torus(3000)))
    words = ["--steps", "60", "--mesh.resolution", "48", "--optim.surface-points", "512", "--optim.space-points", "512"]
    assert main(["reconstruct", "ring.ply", *words]) == 0
    assert (tmp_path / "runs" / "ring" / "meshes" / "mesh.glb").exists()
    assert main(["export", "runs/ring", "--format", "ply"]) == 0
    assert main(["eval", "runs/ring"]) == 0
    assert "runs/ring/report.html" in capsys.readouterr().out
