import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from shapewright.cli.main import main
from shapewright.data.partial_views import ScanView
from shapewright.data.sdf_samples import SAMPLES, SdfSamples, ShapeKey, write_samples, write_split
from shapewright.engine.run_dir import RunDir
from shapewright.engine.schedule import Moment
from shapewright.errors import TrainingDiverged
from shapewright.io.meshes import read_mesh
from shapewright.methods.deep_sdf.space import ShapeSpace
from shapewright.methods.deep_sdf.training import COLLAPSE_STEPS, CollapseGuard
from tests.methods.sdf_family import ball_rows, write_balls

RADII = (0.3, 0.4, 0.5, 0.6, 0.7)
SMALL = [
    *("--network.code-length", "4", "--network.widths", "32", "32", "--network.latent-in", "1"),
    *("--network.encoding", "none", "--data.samples-per-shape", "256", "--optim.precision", "fp32"),
    *("--optim.code-rate.initial", "0.02", "--optim.decoder-rate.initial", "0.005", "--mesh.resolution", "32"),
    *("--fit.iterations", "120", "--fit.samples", "256", "--fit.starts", "4", "--fit.refine-iterations", "20"),
]
UNIT = ["--frame", "unit"]


def train(data, out, *words):
    return main(["train", "deep_sdf", "--data", str(data), "--out", str(out), "--steps", "250", *SMALL, *words])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_balls(tmp_path_factory.mktemp("balls"), RADII)


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    assert train(data, out, "--data.test-share", "0.2") == 0
    return out


def radii_of(path):
    return read_mesh(path).vertices.double().norm(dim=1)


def test_a_run_keeps_its_splits(run):
    names = [
        name
        for split in ("train_split.json", "test_split.json")
        for name in json.loads((run / split).read_text())["toy"]["balls"]
    ]
    assert sorted(names) == [f"ball{place:02d}" for place in range(5)]
    assert len(json.loads((run / "test_split.json").read_text())["toy"]["balls"]) == 1


def test_eval_fits_held_out_shapes_and_writes_tables_and_a_report(run, capsys):
    assert main(["eval", str(run)]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert metrics["metrics"]["sign_accuracy_mean"] > 0.95
    assert len(metrics["items"]) == 1
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "metrics.csv").read_text().startswith("shape,")
    assert len(list((run / "codes").glob("*.npz"))) == 1
    assert "Written" in capsys.readouterr().out


def test_eval_of_learned_shapes_needs_no_fit(run):
    assert main(["eval", str(run), "--split", "train"]) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["split"] == "train"
    assert len(metrics["items"]) == 4
    assert metrics["metrics"]["sdf_error_mean"] < 0.02


def test_refined_shapes_are_fitted_again_and_kept(run):
    assert main(["eval", str(run), "--refine"]) == 0
    with np.load(next((run / "codes").glob("*.npz"))) as arrays:
        assert any(name.startswith("refined.") for name in arrays.files)
    assert "last layers fitted" in json.loads((run / "metrics.json").read_text())["protocol"]


def test_export_writes_shapes_in_the_units_of_their_files(run):
    split = json.loads((run / "train_split.json").read_text())["toy"]["balls"]
    assert main(["export", str(run), "--format", "glb,obj"]) == 0
    for name in split:
        radius = RADII[int(name[-2:])]
        radii = radii_of(run / "meshes" / f"toy__balls__{name}.glb")
        assert float(radii.mean()) == pytest.approx(2 * radius, rel=0.06)  # the files' scale is one half
    assert main(["export", str(run), "--ids", split[0], "--keep-normalized"]) == 0
    radii = radii_of(run / "meshes" / f"toy__balls__{split[0]}.glb")
    assert float(radii.mean()) == pytest.approx(RADII[int(split[0][-2:])], rel=0.06)


def test_the_way_between_two_shapes_grows_from_one_to_the_other(run, tmp_path):
    split = json.loads((run / "train_split.json").read_text())["toy"]["balls"]
    words = ["interpolate", str(run), split[0], split[-1], "--steps", "4", "--out", str(tmp_path / "way")]
    assert main(words) == 0
    sizes = [float(radii_of(tmp_path / "way" / f"step_{step:03d}.glb").mean()) for step in range(4)]
    assert sizes == sorted(sizes)
    assert (tmp_path / "way" / "interpolation.gif").read_bytes()[:3] == b"GIF"


def test_embed_places_every_code(run, tmp_path):
    out = tmp_path / "map.png"
    assert main(["embed", str(run), "--method", "pca", "--out", str(out)]) == 0
    assert len(json.loads(out.with_suffix(".json").read_text())) >= 4
    assert out.read_bytes()[:4] == b"\x89PNG"


def test_reconstruct_finds_a_ball_from_samples_points_and_half_of_its_points(run, tmp_path):
    rows = ball_rows(0.45, seed=5)
    write_samples(tmp_path / "samples.npz", SdfSamples.from_rows(rows))
    directions = torch.nn.functional.normalize(torch.randn(3000, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    np.savez(tmp_path / "cloud.npz", points=0.45 * directions.numpy(), normals=directions.numpy())
    front = directions[directions[:, 2] > 0.1]
    np.savez(tmp_path / "half.npz", points=0.45 * front.numpy(), normals=front.numpy())
    for name, words in (("samples", []), ("cloud", []), ("half", ["--camera", "0", "0", "3"])):
        out = tmp_path / name
        source = str(tmp_path / f"{name}.npz")
        assert main(["reconstruct", source, "--run", str(run), "--out", str(out), *UNIT, *words]) == 0
        radii = radii_of(out / "mesh.glb")
        assert float(radii.mean()) == pytest.approx(0.45, abs=0.03), name
        assert json.loads((out / "result.json").read_text())["faces"] > 100
        assert (out / "picture.png").exists()


def test_a_wrong_scale_is_recovered(run, tmp_path):
    directions = torch.nn.functional.normalize(torch.randn(3000, 3, generator=torch.Generator().manual_seed(2)), dim=1)
    np.savez(tmp_path / "tiny.npz", points=0.04 * directions.numpy(), normals=directions.numpy())
    words = ["--fit-pose", "scale", "--frame", "box", "--out", str(tmp_path / "out")]
    assert main(["reconstruct", str(tmp_path / "tiny.npz"), "--run", str(run), *words]) == 0
    assert float(radii_of(tmp_path / "out" / "mesh.glb").mean()) == pytest.approx(0.04, abs=0.004)


def test_resume_after_the_end_changes_nothing(run):
    before = RunDir.open(run).read_metrics()
    assert main(["resume", str(run)]) == 0
    assert RunDir.open(run).read_metrics() == before


def test_a_split_that_names_a_missing_shape_is_refused(data, tmp_path, capsys):
    write_split(tmp_path / "split.json", [ShapeKey("toy", "balls", "ball00"), ShapeKey("toy", "balls", "nowhere")])
    assert train(data, tmp_path / "run", "--data.train-split", str(tmp_path / "split.json")) == 2
    assert "toy/balls/nowhere" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_shape_with_no_inside_sample_is_named_before_training(tmp_path, capsys):
    folder = write_balls(tmp_path / "data", RADII[:2])
    rows = ball_rows(0.5)
    key = ShapeKey("toy", "balls", "hollow")
    write_samples(key.file(folder, SAMPLES, ".npz"), SdfSamples.from_rows(rows[rows[:, 3] > 0]))
    assert train(folder, tmp_path / "run") == 2
    assert "toy/balls/hollow (inside)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_shapes_in_both_splits_are_refused(data, tmp_path, capsys):
    write_split(tmp_path / "split.json", [ShapeKey("toy", "balls", "ball00")])
    split = str(tmp_path / "split.json")
    assert train(data, tmp_path / "run", "--data.train-split", split, "--data.test-split", split) == 2
    assert "both splits" in capsys.readouterr().err


def test_an_unknown_shape_is_answered_with_the_closest(run, tmp_path, capsys):
    assert main(["interpolate", str(run), "ball99", "ball01", "--out", str(tmp_path)]) == 2
    assert "Did you mean 'ball" in capsys.readouterr().err


def test_variants_go_with_the_shape_that_they_were_made_from(tmp_path):
    from shapewright.data.sdf_samples import SdfFolder
    from shapewright.methods.deep_sdf.config import DataConfig
    from shapewright.methods.deep_sdf.shapes import ShapeSet

    folder = write_balls(tmp_path, RADII)
    for place in range(5):
        key = ShapeKey("toy", "balls", f"ball{place:02d}~1")
        write_samples(key.file(folder, SAMPLES, ".npz"), SdfSamples.from_rows(ball_rows(0.4)))
    shapes = ShapeSet.choose(SdfFolder(folder), DataConfig(test_share=0.4), seed=3)
    held = {key.name for key in shapes.test}
    assert len(held) == 2
    assert not any("~" in name for name in held)
    assert not any(key.name.partition("~")[0] in held for key in shapes.train)
    assert len(shapes.train) == 6


def test_a_field_of_one_sign_stops_the_training_after_a_checkpoint():
    saved = []
    trainer = SimpleNamespace(save=lambda: saved.append(True))
    guard = CollapseGuard()
    for step in range(COLLAPSE_STEPS - 1):
        guard(trainer, Moment(step, 0.1), {"positive_share": 1.0})
    guard(trainer, Moment(199, 0.1), {"positive_share": 0.5})
    for step in range(COLLAPSE_STEPS - 1):
        guard(trainer, Moment(step, 0.1), {"positive_share": 0.0})
    with pytest.raises(TrainingDiverged, match="negative everywhere"):
        guard(trainer, Moment(500, 0.1), {"positive_share": 0.0})
    assert saved == [True]


def test_a_run_goes_to_the_original_program_and_back(data, tmp_path):
    words = ["train", "deep_sdf", "--data", str(data), "--out", str(tmp_path / "run"), *SMALL]
    words += ["--network.keep-width", "False", "--steps", "20"]
    assert main(words) == 0
    assert main(["export", str(tmp_path / "run"), "--to-deepsdf", str(tmp_path / "experiment")]) == 0
    assert (tmp_path / "experiment" / "ModelParameters" / "latest.pth").exists()
    words = ["train", "deep_sdf", "--data", str(data), "--out", str(tmp_path / "back")]
    assert main([*words, "--original", str(tmp_path / "experiment")]) == 0
    first, second = ShapeSpace.open(tmp_path / "run"), ShapeSpace.open(tmp_path / "back")
    assert first.shapes.train == second.shapes.train
    points = torch.rand(100, 3)
    for place in range(5):
        torch.testing.assert_close(
            first.decoder.sdf(points, first.codes[place]), second.decoder.sdf(points, second.codes[place])
        )


def test_reconstruct_completes_a_depth_map(run, tmp_path):
    camera = ScanView(size_px=96).camera()
    origins, directions = camera.image_rays(0)
    middle = -(origins * directions).sum(1)
    square = middle**2 - (origins**2).sum(1) + 0.45**2
    lengths = torch.where(square > 0, middle - square.clamp(min=0).sqrt(), 0.0)
    depth = (lengths * (directions @ camera.forward[0])).reshape(96, 96)
    arrays = {"K": camera.intrinsics[0].numpy(), "world_from_camera": camera.world_from_camera[0].numpy()}
    np.savez(tmp_path / "depth.npz", depth=depth.numpy(), mask=(depth > 0).numpy(), **arrays)
    source, out = str(tmp_path / "depth.npz"), tmp_path / "out"
    assert main(["reconstruct", source, "--run", str(run), "--out", str(out), *UNIT]) == 0
    radii = radii_of(out / "mesh.glb")
    assert float(radii.mean()) == pytest.approx(0.45, abs=0.02)
    assert float(radii.std()) < 0.03


def test_a_file_that_is_no_shape_is_refused(run, tmp_path, capsys):
    (tmp_path / "notes.docx").write_text("no shape")
    assert main(["reconstruct", str(tmp_path / "notes.docx"), "--run", str(run)]) == 2
    assert "notes.docx" in capsys.readouterr().err
