"""The thread pool of the kernels."""

import os
import threading
import time

import pytest
import torch

from shapewright.kernels import pool


@pytest.fixture(params=[1, 2, 5])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2047, 2048, 4097, 100_000])
def test_slices_cover_every_item_once(threads, count):
    seen = torch.zeros(count, dtype=torch.int64)

    def job(begin, end):
        assert begin < end
        seen[begin:end] += 1

    pool.run_slices(count, job)
    assert (seen == 1).all()


def test_slices_are_few_and_long_enough(threads):
    lengths = torch.tensor(pool.slices(100_000, 2048)).diff()
    assert len(lengths) == (4 * threads if threads > 1 else 1)
    assert pool.slices(5_000, 2048) == ([0, 2500, 5000] if threads > 1 else [0, 5000])


def test_tasks_run_once_and_at_the_same_time(threads):
    together = threading.Barrier(threads)
    done = []

    def task():
        together.wait(timeout=20)
        done.append(threading.get_ident())

    pool.run_tasks([task] * threads)
    assert len(set(done)) == threads


def test_a_call_from_inside_a_job_runs_inline(threads):
    inner = []

    def job():
        owner = threading.get_ident()
        pool.run_tasks([lambda: inner.append(threading.get_ident() == owner)] * 4)

    pool.run_tasks([job] * 8)
    assert inner == [True] * 32


def test_the_first_exception_arrives_after_all_jobs_ended(threads):
    done = []

    def fail():
        raise KeyError("first")

    def work():
        time.sleep(0.01)
        done.append(True)

    with pytest.raises(KeyError, match="first"):
        pool.run_tasks([fail, *[work] * 6])
    assert len(done) == 6
    pool.run_tasks([work])


def test_four_threads_may_call_at_once(threads):
    seen = torch.zeros(4, 50_000, dtype=torch.int64)

    def call(row):
        for _ in range(20):
            pool.run_slices(seen.shape[1], lambda begin, end: seen[row, begin:end].add_(1))

    callers = [threading.Thread(target=call, args=(row,)) for row in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert (seen == 20).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_builds_its_own_threads(threads):
    pool.run_slices(50_000, lambda begin, end: None)
    child = os.fork()
    if child == 0:
        seen = bytearray(50_000)

        def job(begin, end):
            seen[begin:end] = b"1" * (end - begin)

        pool.run_slices(len(seen), job)
        os._exit(0 if set(seen) == {ord("1")} else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_helpers_flush_denormals():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        together = threading.Barrier(2)
        products = {}

        def task():
            together.wait(timeout=20)
            products[threading.get_ident()] = float(torch.tensor(1e-30) * torch.tensor(1e-10))

        pool.run_tasks([task, task])
    finally:
        torch.set_num_threads(before)
    products.pop(threading.get_ident())
    assert list(products.values()) == [0.0]
