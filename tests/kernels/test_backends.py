"""The choice of a back end: asked for, by environment, by device, and what is said when one cannot run."""

import os
import stat
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import torch

import shapewright
from shapewright import kernels
from shapewright.errors import UserError
from shapewright.kernels import backends, ops

SOURCE = str(Path(shapewright.__file__).parents[1])
LEVELS = ops.hash_levels(2, 6, 3, 9)
USE = """
import torch
from shapewright.kernels import ops
levels = ops.hash_levels(2, 6, 3, 9)
x, table = torch.rand(9, 3), torch.rand(levels.rows, 2, requires_grad=True)
ops.encode(x, table, levels).sum().backward()
assert float(table.grad.sum()) > 0
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """Let every test find out anew what can run."""
    monkeypatch.delenv(backends.VARIABLE, raising=False)
    caches = (backends._automatic, backends.find_problem, backends.load)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


def run(code, **environment):
    """Run Python code in a new process and return what it did."""
    full = {**os.environ, "PYTHONPATH": SOURCE, **environment}
    return subprocess.run([sys.executable, "-c", code], env=full, capture_output=True, text=True, check=False)


def test_the_device_decides_unless_asked():
    assert backends.choose("cpu") == "cpu"
    assert backends.choose("meta") == "reference"


def test_the_context_wins_over_the_environment(monkeypatch):
    monkeypatch.setenv(backends.VARIABLE, "reference")
    assert backends.choose("cpu") == "reference"
    with kernels.backend("cpu"):
        assert backends.choose("cpu") == "cpu"
        with kernels.backend("reference"):
            assert backends.choose("cpu") == "reference"
        assert backends.choose("cpu") == "cpu"
    with kernels.backend("auto"):
        assert backends.choose("cpu") == "cpu"


def test_the_context_ends_with_an_exception():
    with pytest.raises(KeyError), kernels.backend("reference"):
        raise KeyError
    assert backends.choose("cpu") == "cpu"


def test_backward_runs_where_forward_ran(monkeypatch):
    table = torch.rand(LEVELS.rows, 2, requires_grad=True)
    with kernels.backend("reference"):
        y = ops.encode(torch.rand(5, 3), table, LEVELS)
    monkeypatch.setattr(backends.load("cpu", "hash_grid"), "scatter", None)
    thread = threading.Thread(target=lambda: y.sum().backward())
    thread.start()
    thread.join()
    assert table.grad is not None


def test_unknown_names_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="fortran"), kernels.backend("fortran"):
        pass
    monkeypatch.setenv(backends.VARIABLE, "fortran")
    with pytest.raises(UserError, match="SHAPEWRIGHT_KERNELS=fortran"):
        backends.choose("cpu")


def test_a_back_end_asked_for_that_is_missing_raises_with_the_next_step(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    for name in [name for name in sys.modules if name.startswith("shapewright.kernels.warp.")]:
        monkeypatch.delitem(sys.modules, name)
    with kernels.backend("warp"), pytest.raises(UserError) as caught:
        ops.encode(torch.rand(5, 3), torch.rand(LEVELS.rows, 2), LEVELS)
    assert "shapewright[cuda]" in caught.value.hint


def test_numba_for_another_device_raises():
    with kernels.backend("cpu"), pytest.raises(UserError, match="processor"):
        backends.choose("cuda")


def test_without_warp_a_gpu_gets_the_reference_and_one_warning(monkeypatch):
    monkeypatch.setitem(sys.modules, "warp", None)
    for name in [name for name in sys.modules if name.startswith("shapewright.kernels.warp.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.warns(RuntimeWarning, match=r"shapewright\[cuda\]"):
        assert backends.choose("cuda") == "reference"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert backends.choose("cuda") == "reference"


def test_an_old_driver_is_named(monkeypatch):
    if backends.find_problem("warp", "cpu") is not None:
        pytest.skip("Warp is not installed")
    monkeypatch.setattr(backends.load("warp", "device"), "has_cuda", lambda: False)
    with pytest.warns(RuntimeWarning, match=r"R580.*warp-lang<1.18"):
        assert backends.choose("cuda") == "reference"


def test_a_first_kernel_that_fails_is_told_in_one_line(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no such instruction\nat address 0")

    monkeypatch.setattr(backends.load("cpu", "softplus"), "softplus", fail)
    with pytest.warns(RuntimeWarning, match="no such instruction") as caught:
        assert backends.choose("cpu") == "reference"
    assert "address" not in str(caught[0].message)


def test_without_numba_the_processor_gets_the_reference():
    code = "import sys; sys.modules['numba'] = None\n" + USE
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "pip install 'numba'" in done.stderr


@pytest.mark.parametrize("module", ["shapewright", "shapewright.kernels"])
def test_imports_load_no_kernel_library(module):
    heavy = ("numba", "warp") if module.endswith("kernels") else ("torch", "numba", "warp")
    done = run(f"import sys, {module}\nassert not set({heavy}) & set(sys.modules)")
    assert done.returncode == 0, done.stderr


# Caches.


def without_caches(**environment):
    """Return an environment that chooses no cache of a library."""
    full = {**os.environ, "PYTHONPATH": SOURCE, **environment}
    return {name: value for name, value in full.items() if name not in ("NUMBA_CACHE_DIR", "WARP_CACHE_PATH")}


def test_two_processes_compile_into_one_cache_without_any_program_in_the_path(tmp_path):
    environment = without_caches(XDG_CACHE_HOME=str(tmp_path), PATH="")
    both = [subprocess.Popen([sys.executable, "-c", USE], env=environment) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    folder = tmp_path / "shapewright" / "kernels" / "numba"
    assert list(folder.rglob("*.nbc"))


def test_a_cache_folder_that_cannot_be_written_is_told_once(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    code = """
import torch
from shapewright.kernels.cpu import hash_grid, softplus
softplus.softplus(torch.zeros(3), 1.0)
"""
    environment = without_caches(XDG_CACHE_HOME=str(blocked), TMPDIR=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("XDG_CACHE_HOME") == 1


def test_a_cache_folder_without_write_permission_is_not_used(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    code = f"""
import tempfile
from pathlib import Path
from shapewright.kernels import caches
folder = Path({str(tmp_path)!r})
try:
    tempfile.TemporaryFile(dir=folder).close()
except OSError:
    assert not caches._is_writable(folder)
"""
    done = run(code)
    tmp_path.chmod(stat.S_IRWXU)
    assert done.returncode == 0, done.stderr


def test_a_place_chosen_by_the_user_stays(tmp_path):
    code = "import os, shapewright.kernels.cpu; print(os.environ['NUMBA_CACHE_DIR'])"
    done = run(code, NUMBA_CACHE_DIR=str(tmp_path), XDG_CACHE_HOME=str(tmp_path / "other"))
    assert done.stdout.strip() == str(tmp_path)


# Diagnosis.


def test_the_diagnosis_finds_all_kernels_right(device):
    found = kernels.diagnose(device)
    assert found.is_right, found.checks
    assert {check.name for check in found.checks} == {"hash grid", "softplus", "rays", "rasteriser"}
    assert found.summary.startswith("kernels: ")


def test_a_wrong_kernel_is_found(monkeypatch):
    hash_grid = backends.load("cpu", "hash_grid")
    right = hash_grid.scatter
    monkeypatch.setattr(hash_grid, "scatter", lambda *arguments: 1.01 * right(*arguments))
    found = kernels.diagnose()
    assert not found.is_right
    assert [check.name for check in found.checks if not check.is_right] == ["hash grid"]


def test_a_kernel_that_fails_is_reported_and_not_raised(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("broken")

    assert backends.choose("cpu") == "cpu"
    monkeypatch.setattr(backends.load("cpu", "softplus"), "softplus", fail)
    wrong = [check for check in kernels.warm_up() if not check.is_right]
    assert [(check.name, check.problem) for check in wrong] == [("softplus", "broken")]


def test_the_line_for_logs_names_back_end_library_and_threads():
    assert kernels.describe("cpu").startswith("kernels: cpu (numba ")
    assert f"{torch.get_num_threads()} thread" in kernels.describe("cpu")
    with kernels.backend("reference"):
        assert kernels.describe("cpu").startswith("kernels: reference (torch ")
