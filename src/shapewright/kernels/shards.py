"""Run the parts of a batch side by side, each on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


class ShardPool:
    """Map a function over parts of a batch with a fixed number of threads.

    Inside, torch runs each operation on the calling thread: small operations of several parts side by side use the
    cores better than one operation on all of them, and the results do not depend on the number of threads.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._executor = ThreadPoolExecutor(threads, "shard", _start_thread) if threads > 1 else None

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return the results in the order of the items."""
        if self._executor is None:
            return [function(item) for item in items]
        return list(self._executor.map(function, items))


def _start_thread() -> None:
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
