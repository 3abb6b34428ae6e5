"""What all tests share: real data where there is some, and shapes checked at every call."""

import os
from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

from tests import shapes

CHECKED = (
    "shapewright.geometry",
    "shapewright.data.capture",
    "shapewright.data.matching",
    "shapewright.data.undistort",
)
SHARED = Path(os.environ.get("SHAPEWRIGHT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

install_import_hook(CHECKED, f"{shapes.__name__}.checked")


@pytest.fixture(scope="session")
def shared_data():
    """Return the folder of real data sets; skip where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"no real data at {SHARED}: set SHAPEWRIGHT_TEST_DATA to its folder")
    return SHARED


@pytest.fixture(autouse=True)
def processor_mode():
    """Give every test numbers with denormals and the threads it started with: commands change both in the process."""
    threads = torch.get_num_threads()
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)


@pytest.fixture(params=["reference", "cpu", "warp"])
def kernels(request):
    """Run a test with each implementation of the kernels that works here, on the CPU."""
    # Not above: what is imported before the hook is not checked.
    from shapewright.kernels.backends import backend, find_problem

    problem = find_problem(request.param, "cpu")
    if problem is not None:
        pytest.skip(problem.message)
    with backend(request.param):
        yield request.param
