"""The fast paths stay fast: at least half of the ratios that the benchmark is to reach."""

import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the benchmarks are not here")
def test_the_hash_grid_keeps_half_of_its_ratios(one_thread, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    for name in ("hash_grid", "timing"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    import hash_grid
    import timing

    jobs = hash_grid.Jobs(15, 2**14)
    jobs.check()
    pairs = (
        (jobs.features, jobs.plain_features),
        (jobs.gradients, jobs.plain_gradients),
        (jobs.eikonal, jobs.plain_eikonal),
    )
    for (ours, reference), bar in zip(pairs, hash_grid.BARS[15], strict=True):
        seconds, reference_seconds = timing.compare(ours, reference, repeats=3)
        assert reference_seconds / seconds > bar / 2
