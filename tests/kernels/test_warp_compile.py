"""The Warp kernels compile for GPUs of three generations, without a GPU, a driver or a compiler."""

import pytest
import torch

from shapewright.kernels.backends import find_problem, load
from shapewright.kernels.diagnosis import warm_up


@pytest.mark.parametrize("arch", [75, 90, 120])
def test_kernels_compile_ahead_of_time(tmp_path, arch):
    problem = find_problem("warp", "cpu")
    if problem is not None:
        pytest.skip(problem.message)
    import warp as wp

    from shapewright.kernels.backends import backend

    # Generic kernels exist for the types that they have run with.
    with backend("warp"):
        warm_up(torch.device("cpu"))
    for operation in ("hash_grid", "softplus", "marching", "compositing", "rasterizer", "nmr_pictures"):
        folder = tmp_path / operation
        wp.compile_aot_module(load("warp", operation), arch=arch, module_dir=str(folder))
        assert list(folder.glob(f"*sm{arch}.cubin"))
