"""Each verb hands what the person wrote to the function that does the work, and says what came of it."""

import inspect
from pathlib import Path

import pytest

from shapewright.cli.main import main
from shapewright.engine.start import Start
from shapewright.methods.surface import pipeline
from shapewright.methods.surface.presets import PRESETS


@pytest.fixture
def calls(monkeypatch):
    """Replace the pipeline by functions that note how they were called, with the signatures of the real ones."""
    noted = {}

    def note(name, result):
        signature = inspect.signature(getattr(pipeline, name))

        def function(*positional, **named):
            noted[name] = dict(signature.bind(*positional, **named).arguments)
            return result

        monkeypatch.setattr(pipeline, name, function)

    paths = [Path("a.png"), Path("b.png")]
    results = {"evaluate": {"metrics": {"psnr": 26.51234, "count": 3}}, "export": paths, "render": paths}
    for name in ("train", "reconstruct", "resume", "evaluate", "render", "export", "demo"):
        note(name, results.get(name))
    return noted


def test_train_starts_from_the_preset_and_changes_what_was_named(calls, capsys):
    words = ["train", "surface", "--data", "D", "--out", "O", "--preset", "idr-paper", "--seed", "3", "--steps", "7"]
    words += ["--mesh.resolution", "99", "--mesh.hull_cull", "false", "--device", "cpu", "--force"]
    assert main(words) == 0
    call = calls["train"]
    config = call.pop("config")
    assert call == {
        "data": Path("D"),
        "out": Path("O"),
        "start": Start(device="cpu", seed=3, force=True, command=["shapewright", *words]),
    }
    assert config.renderer == PRESETS["idr-paper"].renderer == "tracing"
    assert (config.mesh.resolution, config.mesh.hull_cull) == (99, False)
    assert (config.train.steps, config.train.minutes) == (7, None)
    assert config.train.log_every == PRESETS["idr-paper"].train.log_every
    assert "shapewright eval O" in capsys.readouterr().out


def test_without_options_the_default_preset_is_trained(calls):
    assert main(["train", "surface", "--data", "D", "--out", "O"]) == 0
    assert calls["train"]["config"] == PRESETS["cpu-fast"]
    start = calls["train"]["start"]
    assert (start.device, start.seed, start.force) == ("auto", 0, False)


@pytest.mark.parametrize(
    ("words", "steps", "minutes"),
    [(["--minutes", "2"], None, 2.0), (["--steps", "5", "--minutes", "2"], 5, 2.0), (["--preset=hash"], 20_000, None)],
)
def test_minutes_and_steps_replace_the_length_of_the_preset(calls, words, steps, minutes):
    assert main(["reconstruct", "D", "--out", "O", *words]) == 0
    train = calls["reconstruct"]["config"].train
    assert (train.steps, train.minutes) == (steps, minutes)


@pytest.mark.parametrize("words", [["--minutes", "-1"], ["--steps", "0"]])
def test_a_run_without_length_is_refused(calls, capsys, words):
    assert main(["reconstruct", "D", "--out", "O", *words]) == 2
    assert "error: The length of the run is wrong" in capsys.readouterr().err
    assert calls == {}


def test_reconstruct_says_where_mesh_and_report_are(calls, capsys):
    assert main(["reconstruct", "D", "--out", "O"]) == 0
    assert calls["reconstruct"]["data"] == Path("D")
    assert capsys.readouterr().out == "Mesh:   O/meshes/mesh.glb\nReport: O/report.html\n"


def test_demo_needs_no_option(calls, capsys):
    assert main(["demo"]) == 0
    assert calls["demo"]["out"] == Path("runs/demo")
    assert "runs/demo/meshes/mesh.glb" in capsys.readouterr().out


def test_the_hints_of_the_readers_name_an_option_that_training_takes(calls):
    assert main(["reconstruct", "D", "--out", "O", "--normalise", "masks"]) == 0
    assert calls["reconstruct"]["config"].data.normalise == "masks"


def test_resume_needs_the_run_alone(calls):
    assert main(["resume", "R"]) == 0
    assert calls["resume"]["run_path"] == Path("R")


@pytest.mark.parametrize(("words", "expected"), [([], "latest"), (["--checkpoint", "best"], "best")])
def test_eval_prints_the_metrics(calls, capsys, words, expected):
    assert main(["eval", "R", *words]) == 0
    assert calls["evaluate"] == {"run_path": Path("R"), "checkpoint": expected, "resolution_step": 1}
    assert capsys.readouterr().out == "count  3\npsnr   26.512\nWritten: R/metrics.json\n"


def test_eval_takes_a_step_for_a_checkpoint(calls):
    assert main(["eval", "R", "--checkpoint", "1500", "--pixel-step", "4"]) == 0
    assert calls["evaluate"] == {"run_path": Path("R"), "checkpoint": 1500, "resolution_step": 4}


def test_render_splits_its_lists(calls, capsys):
    assert main(["render", "R", "--what", "rgb,depth", "--views", "0,8", "--path", "train", "--video"]) == 0
    expected = {"what": ("rgb", "depth"), "views": (0, 8), "path_kind": "train", "video": True, "frames": 60}
    assert calls["render"] == {"run_path": Path("R"), **expected}
    assert capsys.readouterr().out == "a.png\nb.png\n"


def test_export_splits_its_formats(calls, capsys):
    words = ["--format", "glb,ply", "--resolution", "128", "--units", "normalised", "--components", "all"]
    assert main(["export", "R", *words, "--no-hull-cull"]) == 0
    assert calls["export"] == {
        "run_path": Path("R"),
        "formats": ("glb", "ply"),
        "resolution": 128,
        "units": "normalised",
        "components": "all",
        "hull_cull": False,
    }
    assert capsys.readouterr().out == "a.png\nb.png\n"
