"""The help of every command is kept in ``help/``: an option that comes or goes is a decision, not an accident.

``SHAPEWRIGHT_WRITE_HELP=1 pytest tests/cli/test_help.py`` writes the files anew.
"""

import contextlib
import os
import re
from pathlib import Path

import pytest

from shapewright.cli.main import VERBS, main

FOLDER = Path(__file__).parent / "help"
COMMANDS = [
    "",
    *sorted(VERBS),
    "train surface",
    "train deep_sdf",
    "train pose_invariant",
    "data check",
    "data prepare",
    "data render",
    "data sample-sdf",
]
NAMES_ALONE = ("train surface", "train deep_sdf", "train pose_invariant")


def help_of(command, capsys):
    """Return the help of a command."""
    with contextlib.suppress(SystemExit):
        main([*command.split(), "--help"])
    return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n"


def option_names(text):
    """Return the names of the options in a help text, one a line."""
    return "\n".join(dict.fromkeys(re.findall(r"(?m)^[│ ]+(--[a-z][\w.-]+)", text))) + "\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_is_as_agreed(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    path = FOLDER / f"{command.replace(' ', '_') or 'shapewright'}.txt"
    text = help_of(command, capsys)
    if command in NAMES_ALONE:
        text = option_names(text)
    if os.environ.get("SHAPEWRIGHT_WRITE_HELP"):
        FOLDER.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_reconstruct_takes_the_options_of_train(capsys):
    train, reconstruct = (option_names(help_of(words, capsys)).split() for words in ("train surface", "reconstruct D"))
    assert reconstruct == [name for name in train if name != "--data"]


def test_every_file_is_of_a_command():
    names = {f"{command.replace(' ', '_') or 'shapewright'}.txt" for command in COMMANDS}
    assert {path.name for path in FOLDER.iterdir()} == names
