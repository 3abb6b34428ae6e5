"""What benchmarks share: both sides timed in one run, in turns, in CPU seconds of the process, and one table.

Only the ratio is stable from machine to machine, and CPU seconds are the only clock that a busy machine leaves alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

# OpenMP's idle threads would spin on after every operation, on the time of whichever side runs next.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
import torch


@dataclass(frozen=True)
class Row:
    """One measurement of both sides.

    Args:
        name: What was done.
        size: On how much.
        threads: Threads that both sides might use.
        ours_cpu_s: CPU seconds of the process, median of the repeats.
        reference_cpu_s: The same for the plain reference.
        ratio: How many times as long the reference takes.
        bar: The ratio asked for; 0 for none.
    """

    name: str
    size: str
    threads: int
    ours_cpu_s: float
    reference_cpu_s: float
    ratio: float
    bar: float = 0.0


def parse_arguments(description: str, threads: Sequence[int] = (1,)) -> argparse.Namespace:
    """Return the options that every benchmark has: ``quick``, ``threads`` and ``json``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="fewer repeats on less")
    parser.add_argument("--threads", type=int, nargs="+", default=list(threads), metavar="N")
    parser.add_argument("--json", type=Path, default=None, metavar="FILE", help="write the rows there")
    return parser.parse_args()


def compare(ours: Callable[[], object], reference: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median CPU seconds of both sides, run in turns after one run each that does not count."""
    sides = (ours, reference)
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for side, seconds in zip(sides, times, strict=True):
            start = time.process_time()
            side()
            if repeat:
                seconds.append(time.process_time() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def measure(
    name: str, size: str, ours: Callable[[], object], reference: Callable[[], object], repeats: int, bar: float = 0.0
) -> Row:
    """Return the row of a comparison at the present number of threads."""
    a, b = compare(ours, reference, repeats)
    return Row(name, size, torch.get_num_threads(), a, b, b / a, bar)


def report(rows: Sequence[Row], file: Path | None) -> None:
    """Print the machine and a table in Markdown, and write the rows to a file if one is named."""
    print(f"\n{machine()}\n")
    print("| what | size | threads | ours, ms CPU | reference, ms CPU | ratio | bar |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        bar = f"{row.bar:g}x" if row.bar else ""
        ours, reference = 1e3 * row.ours_cpu_s, 1e3 * row.reference_cpu_s
        print(f"| {row.name} | {row.size} | {row.threads} | {ours:.2f} | {reference:.0f} | {row.ratio:.1f}x | {bar} |")
    if file is not None:
        file.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def machine() -> str:
    """Return the processor and the versions that matter."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        model = f"{lines[0].split(':', 1)[1].strip()}, {len(lines)} cores" if lines else model
    return f"{model}; Python {platform.python_version()}, torch {torch.__version__}"
