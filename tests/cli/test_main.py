import importlib
import os
import subprocess
import sys

import pytest

from shapewright import __version__
from shapewright.cli import main as cli
from shapewright.errors import TrainingDiverged, UserError


def raising(error):
    def run_verb(words):
        raise error

    return run_verb


@pytest.mark.parametrize(
    ("error", "code", "printed"),
    [
        (UserError("a.png is missing.", "Copy it."), 2, "error: a.png is missing.\nnext: Copy it.\n"),
        (UserError("No hint."), 2, "error: No hint.\n"),
        (TrainingDiverged("Diverged.", "Lower the rate."), 2, "error: Diverged.\nnext: Lower the rate.\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
    ],
)
def test_what_a_person_can_mend_is_said_without_a_traceback(monkeypatch, capsys, error, code, printed):
    monkeypatch.setattr(cli, "run_verb", raising(error))
    assert cli.main([]) == code
    assert capsys.readouterr() == ("", printed)


def test_a_reader_that_stops_reading_is_no_bug():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "import sys; from shapewright.cli.main import main; sys.exit(main(['--help']))"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_bug_shows_its_traceback_and_asks_for_a_report(monkeypatch, capsys):
    monkeypatch.setattr(cli, "run_verb", raising(RuntimeError("boom")))
    assert cli.main([]) == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert errors.splitlines()[-1].startswith("This is a bug in Shapewright: please report")


def test_the_exit_status_of_a_signal_passes_through(monkeypatch):
    monkeypatch.setattr(cli, "run_verb", raising(SystemExit(143)))
    with pytest.raises(SystemExit, match="143"):
        cli.main([])


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (["trian"], "Unknown command 'trian'", "'train'"),
        (["data", "chek"], "Unknown command 'data chek'", "'check'"),
        (["train", "surfce"], "no method 'surfce'", "'surface'"),
        (["train", "surface", "--preset", "cpu-fst"], "no preset 'cpu-fst'", "'cpu-fast'"),
        (["render", "RUN", "--what", "rgb,norml"], "--what 'norml'", "'normal'"),
        (["render", "RUN", "--views", "1,x"], "--views '1,x'", "0,8,16"),
        (["export", "RUN", "--format", "stl"], "--format 'stl'", "glb, ply, obj"),
        (["export", "RUN", "--format", ","], "--format is empty", "glb, ply, obj"),
        (["info", "nowhere"], "nowhere is not a run folder", "train"),
        (["plot"], "No run was given", "plot RUN1 RUN2"),
    ],
)
def test_wrong_words_are_answered_with_the_closest(capsys, words, error, hint):
    assert cli.main(words) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("error: ")
    assert error in first
    assert second.startswith("next: ")
    assert hint in second


@pytest.mark.parametrize(
    ("words", "closest"),
    [
        (["eval", "RUN", "--chekpoint", "best"], "--checkpoint"),
        (["train", "surface", "--data", "D", "--out", "O", "--volume.grid.num-levls", "3"], "--volume.grid.num-levels"),
    ],
)
def test_unknown_options_are_refused_with_the_closest(capsys, words, closest):
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert closest in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"shapewright {__version__}\n"


@pytest.mark.parametrize("verb", cli.VERBS)
def test_each_verb_is_a_module_with_a_run(verb):
    assert callable(importlib.import_module(f"shapewright.cli.{verb}").run)


def test_without_arguments_those_of_the_process_are_read(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["shapewright", "--help"])
    assert cli.main() == 0
    assert "usage: shapewright COMMAND" in capsys.readouterr().out
