"""What kernel tests share: each runs on every back end that this machine has."""

import pytest
import torch

from shapewright.kernels.backends import backend, find_problem

PLACES = [("reference", "cpu"), ("cpu", "cpu"), ("warp", "cpu"), ("reference", "cuda"), ("warp", "cuda")]


@pytest.fixture(params=PLACES, ids=lambda place: "-on-".join(place))
def device(request):
    """Run the test on one back end, and return the device of its tensors."""
    name, where = request.param
    if where == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA device")
    problem = find_problem(name, where)
    if problem is not None:
        pytest.skip(problem.message)
    with backend(name):
        yield torch.device(where)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)
