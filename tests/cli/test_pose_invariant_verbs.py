"""The commands of a run of pictures, as a person types them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from shapewright.cli.main import main
from shapewright.engine.checkpoint import load_checkpoint, save_checkpoint
from shapewright.engine.run_dir import RunDir
from shapewright.io.meshes import read_mesh
from tests.methods.picture_family import write_ellipsoids

SMALL = [
    *("--network.encoder-widths", "8", "8", "8", "--network.encoder-hidden", "16", "--network.code-dim", "8"),
    *("--network.decoder-hidden", "16", "--network.discriminator-hidden", "8", "--optim.batch-size", "4"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    data = write_ellipsoids(folder / "data", sizes={"train": 5, "test": 3})
    words = ["--data", str(data), "--out", str(folder / "run"), "--steps", "2", "--device", "cpu"]
    assert main(["train", "pose_invariant", "--mode", "plain", *words, *SMALL]) == 0
    return folder / "run"


@pytest.fixture
def photo(run, tmp_path):
    pixels = np.zeros((90, 120, 4), np.uint8)
    pixels[20:70, 30:100] = (200, 100, 50, 255)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def scored(run, tmp_path):
    """Return a run whose best checkpoint is step 2, and whose last one, step 3, has other weights."""
    folder = shutil.copytree(run, tmp_path / "scored")
    step, tensors, meta = load_checkpoint(RunDir.open(folder))
    save_checkpoint(RunDir.open(folder), step, tensors, meta, score=0.9)
    changed = [name for name in tensors if name.removeprefix("average.").startswith("encoder.")]
    other = tensors | {name: 0.5 * tensors[name] for name in changed}
    save_checkpoint(RunDir.open(folder), step + 1, other, meta, score=0.1)
    return folder


def written_by(verb, run, photo, out, checkpoint):
    """Return what a verb makes of a run at a checkpoint: the bytes of a file that depends on the weights."""
    words = ["--checkpoint", checkpoint] if checkpoint else []
    if verb == "reconstruct":
        assert main(["reconstruct", str(photo), "--run", str(run), "--out", str(out), *words]) == 0
        return (out / "mesh.obj").read_bytes()
    if verb == "interpolate":
        assert main(["interpolate", str(run), str(photo), str(photo), "--steps", "2", "--out", str(out), *words]) == 0
        return (out / "step_000.glb").read_bytes()
    if verb == "embed":
        assert main(["embed", str(run), "--method", "pca", "--out", str(out / "map"), *words]) == 0
        return np.load(out / "map.npz")["positions"].tobytes()
    assert main(["export", str(run), "--format", "obj", *words]) == 0
    return b"".join(path.read_bytes() for path in sorted((run / "meshes").glob("*.obj")))


@pytest.mark.parametrize("verb", ["reconstruct", "interpolate", "embed", "export"])
def test_every_verb_opens_the_checkpoint_that_is_asked_for(verb, scored, photo, tmp_path):
    names = (None, "last", "best", "2")
    usual, last, best, second = (written_by(verb, scored, photo, tmp_path / f"at_{name}", name) for name in names)
    assert usual == last
    assert best == second
    assert best != last


@pytest.mark.parametrize("verb", ["embed", "export"])
def test_a_run_without_scores_opens_the_latest_and_says_so(verb, run, photo, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    told = "No whole checkpoint has a score: taking the latest, step 2."
    latest = written_by(verb, folder, photo, tmp_path / "latest", None)
    assert told not in (folder / "log.txt").read_text()
    assert written_by(verb, folder, photo, tmp_path / "best", "best") == latest
    assert told in (folder / "log.txt").read_text()


def test_a_checkpoint_that_is_not_there_is_one_sentence(run, photo, capsys):
    inputs = {"eval": [str(run)], "embed": [str(run)], "export": [str(run)]}
    inputs |= {"interpolate": [str(run), str(photo), str(photo)], "reconstruct": [str(photo), "--run", str(run)]}
    for verb, words in inputs.items():
        assert main([verb, *words, "--checkpoint", "7"]) == 2
        message = capsys.readouterr().err
        assert "has no intact checkpoint 7" in message
        assert "Steps with a checkpoint: 2." in message


def test_runs_are_measured_in_one_table(run, capsys):
    assert main(["eval", str(run), str(run), "--points", "200"]) == 0
    text = capsys.readouterr().out
    assert "voxel_iou_32" in text
    assert "mean of the classes" not in text  # it is the same class twice
    assert json.loads((run / "metrics.json").read_text())["mode"] == "plain"


def test_one_picture_becomes_a_mesh(run, photo, tmp_path, capsys):
    assert main(["reconstruct", str(photo), "--run", str(run), "--out", str(tmp_path / "out")]) == 0
    assert "azimuth_deg" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "mesh.obj",
        "mesh.glb",
        "turntable.png",
        "turntable.gif",
        "input.png",
        "overlay.png",
        "result.json",
    }
    assert read_mesh(tmp_path / "out" / "mesh.glb").num_vertices == 642


def test_a_picture_that_cannot_be_used_is_one_sentence(run, photo, tmp_path, capsys):
    Image.open(photo).convert("RGB").save(tmp_path / "opaque.png")
    assert main(["reconstruct", str(tmp_path / "opaque.png"), "--run", str(run)]) == 2
    assert "no transparent pixel" in capsys.readouterr().err
    assert main(["reconstruct", str(photo), "--run", str(run), "--no-framing"]) == 2
    assert "must have 64 x 64" in capsys.readouterr().err
    assert main(["reconstruct", str(photo), "--run", str(run), "--category", "dog"]) == 2
    assert "has not learned 'dog'" in capsys.readouterr().err
    assert not (run / "reconstructions").exists()


def test_the_map_the_curves_and_the_way_are_drawn(run, photo, tmp_path):
    assert main(["embed", str(run), "--method", "pca"]) == 0
    assert (run / "media" / "embedding.png").is_file()
    assert main(["plot", str(run), "--out", str(tmp_path / "curves.svg")]) == 0
    assert main(["interpolate", str(run), str(photo), str(photo), "--steps", "2", "--out", str(tmp_path / "way")]) == 0
    assert (tmp_path / "way" / "interpolation.png").is_file()


def test_meshes_are_exported_and_pictures_of_a_surface_are_not_drawn(run, capsys):
    assert main(["export", str(run), "--format", "ply"]) == 0
    assert len(list((run / "meshes").glob("*.ply"))) == 3
    assert main(["render", str(run)]) == 2
    assert "pose_invariant" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--mode", "prior", "--loss.code-prior-weight", "0"], "The mode prior needs loss.code_prior_weight"),
        (["--media-every", "0"], "media_every"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(words, message, run, tmp_path, capsys):
    data = json.loads((run / "run.json").read_text())["data"]
    assert main(["train", "pose_invariant", "--data", data, "--out", str(tmp_path / "no"), *words]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "no").exists()


def test_a_setting_of_a_part_that_cannot_be_is_refused_by_the_parser(run, tmp_path, capsys):
    data = json.loads((run / "run.json").read_text())["data"]
    with pytest.raises(SystemExit) as caught:
        main(["train", "pose_invariant", "--data", data, "--out", str(tmp_path / "no"), "--data.image-size", "0"])
    assert caught.value.code == 2
    assert "image_size must lie in [1, inf], got 0" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_numbers_that_are_too_small_and_folders_that_are_files_are_one_sentence(run, photo, tmp_path, capsys):
    pair = [str(run), str(photo), str(photo)]
    for words, message in (
        (["interpolate", *pair, "--steps", "1"], "--steps is 1, but must be 2 or more"),
        (["eval", str(run), "--points", "-3"], "--points is -3, but must be 0 or more"),
        (["embed", str(run), "--seed", "-1"], "--seed is -1, but must be 0 or more"),
        (
            ["data", "prepare", str(run), "--format", "kato", "--size", "0", "--out", str(tmp_path / "no")],
            "--size is 0",
        ),
        (["interpolate", *pair, "--out", str(photo / "way")], f"Cannot write {photo / 'way'}: "),
        (["reconstruct", str(photo), "--run", str(run), "--out", str(photo)], f"Cannot write {photo}: "),
        (["embed", str(run), "--method", "pca", "--out", str(photo / "map")], f"Cannot write {photo}: "),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err


def test_a_missing_class_is_told_with_those_that_are_there(run, tmp_path, capsys):
    data = json.loads((run / "run.json").read_text())["data"]
    words = ["train", "pose_invariant", "--data", data, "--out", str(tmp_path / "no"), "--data.classes", "car"]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "car" in message
    assert "egg" in message
    assert not (tmp_path / "no").exists()
