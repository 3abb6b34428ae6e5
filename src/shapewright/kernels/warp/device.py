"""Start Warp and launch its kernels on torch tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import warp as wp
from torch import Tensor

# backends.py reports a missing driver in words that say what to do.
if hasattr(wp, "LOG_ERROR"):
    wp.config.log_level = wp.LOG_ERROR
else:
    wp.config.quiet = True
wp.init()


def has_cuda() -> bool:
    """Return whether Warp can use a CUDA device, which takes a recent enough driver."""
    return bool(wp.is_cuda_available())


def launch(kernel: Any, size: Sequence[int], arguments: Sequence[Tensor | int | float], device: torch.device) -> None:
    """Run a kernel over an index space, in the order of torch's current stream.

    Args:
        kernel: The kernel.
        size: Extent of each index; nothing runs if one is 0.
        arguments: Tensors, which the kernel reads and writes in place, and numbers.
        device: Where the tensors are.
    """
    if 0 in size:
        return
    values = [wp.from_torch(value.detach()) if isinstance(value, Tensor) else value for value in arguments]
    where = wp.device_from_torch(device)
    if device.type != "cuda":
        wp.launch(kernel, dim=tuple(size), inputs=values, device=where)
        return
    with wp.ScopedStream(wp.stream_from_torch(torch.cuda.current_stream(device))):
        wp.launch(kernel, dim=tuple(size), inputs=values, device=where)
