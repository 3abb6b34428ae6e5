import importlib.util
import re
from pathlib import Path

from shapewright.cli.doctor import EXTRAS
from shapewright.cli.main import main


def test_doctor_names_versions_machine_kernels_and_extras(capsys):
    assert main(["doctor"]) == 0
    rows = [line.split("  ", 1) for line in capsys.readouterr().out.splitlines()]
    labels = {label for label, _ in rows}
    assert {"shapewright", "python", "torch", "processors", "memory", "kernels reference on cpu"} <= labels
    assert {f"extra {name}" for name in EXTRAS} <= labels


def test_a_missing_extra_is_named_with_the_command(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert "pip install 'shapewright[cuda]'" in capsys.readouterr().out


def test_every_extra_of_the_package_is_known():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert set(EXTRAS) == set(re.findall(r"(?m)^(\w+) = ", section)) - {"dev"}
