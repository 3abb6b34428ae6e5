"""Run kernels that release the interpreter lock on all threads that torch may use.

A job is a slice of points, or a task that owns its output. The calling thread works too, and the others help from
a ``ThreadPoolExecutor``, so that a busy machine costs nothing but the help. There is no waiting inside a job: a
call from inside a job runs inline.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch

_SLICES_PER_THREAD = 4


class _Pools:
    """Hold the executors of this process, one for each number of threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.by_key: dict[tuple[int, int], ThreadPoolExecutor] = {}
        self.inside = threading.local()

    def helpers(self, num_threads: int) -> ThreadPoolExecutor:
        """Return the executor with ``num_threads - 1`` threads, started on first use."""
        key = (os.getpid(), num_threads)
        with self.lock:
            if key not in self.by_key:
                self.by_key[key] = ThreadPoolExecutor(
                    num_threads - 1, thread_name_prefix="kernels", initializer=_start_thread
                )
            return self.by_key[key]


def _start_thread() -> None:
    # The setting is per thread, and denormals slow exp and multiplications about tenfold.
    torch.set_flush_denormal(True)


_pools = _Pools()


def _forget_pools() -> None:
    # A forked child has neither the threads nor, perhaps, the lock of its parent.
    global _pools
    _pools = _Pools()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pools)


class _Queue:
    """Hand out jobs one by one and remember the first exception."""

    def __init__(self, jobs: Sequence[Callable[[], None]]) -> None:
        self.waiting = iter(jobs)
        self.lock = threading.Lock()
        self.error: BaseException | None = None

    def drain(self) -> None:
        """Run jobs until none is left."""
        inside = _pools.inside
        outer, inside.active = getattr(inside, "active", False), True
        try:
            while (job := self._take()) is not None:
                self._run(job)
        finally:
            inside.active = outer

    def _take(self) -> Callable[[], None] | None:
        with self.lock:
            return next(self.waiting, None)

    def _run(self, job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            with self.lock:
                self.error = self.error or error


def run_tasks(jobs: Sequence[Callable[[], None]]) -> None:
    """Run independent jobs, in parallel when torch may use several threads.

    Jobs start in order. One job, one thread (``torch.get_num_threads()``), or a call from inside a job runs inline.

    Args:
        jobs: Functions without arguments; each writes only what no other job touches.

    Raises:
        BaseException: the first exception of a job, after all jobs have ended.
    """
    num_threads = min(torch.get_num_threads(), len(jobs))
    queue = _Queue(jobs)
    if num_threads <= 1 or getattr(_pools.inside, "active", False):
        queue.drain()
    else:
        executor = _pools.helpers(torch.get_num_threads())
        helpers = [executor.submit(queue.drain) for _ in range(num_threads - 1)]
        queue.drain()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
    if queue.error is not None:
        raise queue.error


def run_slices(count: int, job: Callable[[int, int], None], minimum: int = 2048) -> None:
    """Run ``job(begin, end)`` over equal ranges that cover ``0 .. count``.

    Args:
        count: Number of items; 0 runs nothing.
        job: Function of a range ``[begin, end)``; ranges do not overlap.
        minimum: Least number of items worth a job of its own.

    Raises:
        BaseException: the first exception of a job, after all jobs have ended.
    """
    edges = slices(count, minimum)
    run_tasks([partial(job, begin, end) for begin, end in itertools.pairwise(edges)])


def slices(count: int, minimum: int = 2048) -> list[int]:
    """Return the edges of at most four ranges a thread, of at least ``minimum`` items each unless there is only one."""
    most = _SLICES_PER_THREAD * torch.get_num_threads() if torch.get_num_threads() > 1 else 1
    num_slices = max(1, min(most, count // max(minimum, 1)))
    return [count * k // num_slices for k in range(num_slices + 1)] if count > 0 else [0]
