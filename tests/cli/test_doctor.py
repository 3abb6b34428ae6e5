import importlib.util
import re
from pathlib import Path

from shapewright.cli.doctor import EXTRAS
from shapewright.cli.main import main


def test_doctor_names_versions_machine_kernels_and_extras(capsys):
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    labels = {line.strip().split("  ", 1)[0] for line in lines}
    assert {"shapewright", "python", "torch", "processors", "memory", "on cpu"} <= labels
    assert {f"extra {name}" for name in EXTRAS} <= labels


def test_a_kernel_that_is_wrong_is_an_error(capsys, monkeypatch):
    from shapewright.kernels import diagnosis

    wrong = diagnosis.KernelCheck("hash grid", 0.1, 0.5)
    monkeypatch.setattr(diagnosis, "warm_up", lambda device: (wrong,))
    assert main(["doctor"]) == 2
    output = capsys.readouterr()
    assert "WRONG by 5.0e-01" in output.out
    assert "SHAPEWRIGHT_KERNELS=reference" in output.err


def test_a_missing_extra_is_named_with_the_command(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["doctor"]) == 0
    assert "pip install 'shapewright[cuda]'" in capsys.readouterr().out


def test_every_extra_of_the_package_is_known():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    section = project.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    assert set(EXTRAS) == set(re.findall(r"(?m)^(\w+) = ", section)) - {"dev"}
