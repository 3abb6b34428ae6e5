import subprocess
import sys

import pytest
import torch

from shapewright.engine.device import _container_limit, available_cpus, resolve_device
from shapewright.errors import UserError


def test_names_are_resolved():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "cuda:-1", "", "mps"])
def test_unknown_names_are_refused(name):
    with pytest.raises(UserError, match="Unknown device"):
        resolve_device(name)


def test_a_device_that_is_not_there_is_said():
    with pytest.raises(UserError, match=r"no device 'cuda:99'"):
        resolve_device("cuda:99")


def test_denormals_are_flushed_and_threads_set():
    code = (
        "import torch; from shapewright.engine.device import prepare_process; prepare_process(2)\n"
        "print(torch.get_num_threads(), float(torch.tensor([1e-40]) * 0.5))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["2", "0.0"]


@pytest.mark.parametrize(
    ("text", "expected"), [("max 100000", None), ("150000 100000", 2), ("100000 100000", 1), ("x", None)]
)
def test_the_container_limit_is_rounded_up(tmp_path, text, expected):
    (tmp_path / "cpu.max").write_text(text)
    assert _container_limit(tmp_path / "cpu.max") == expected
    assert _container_limit(tmp_path / "missing") is None


def test_there_is_a_processor():
    assert available_cpus() >= 1
