"""What every side of `retrieval_speed.py` shares: its job, the clock, memory, and what it prints.

A side is one process in the environment of its library. The job names a folder that holds
``passages.json`` (texts), ``vectors.npy`` (unit, float32, a row a passage), ``queries.json`` and
``query_vectors.npy``; ``size`` says how many passages count and ``work`` is an empty folder of the
side's own. Only the standard library and numpy are imported here.
"""

from __future__ import annotations

import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Job", "K", "disk", "main", "resident", "timed"]

K = 10
ROUNDS = 3


@dataclass(frozen=True)
class Job:
    size: int
    work: pathlib.Path
    passages: list[str]
    vectors: np.ndarray
    queries: list[str]
    query_vectors: np.ndarray


def resident() -> float:
    """Megabytes of this process in memory now."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def disk(folder: pathlib.Path) -> float:
    """Megabytes under ``folder``."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def timed(run: Callable[[int], Sequence[int]], count: int) -> dict[str, Any]:
    """Ask every query once to warm up, then in rounds, one at a time; queries a second and the
    95th percentile of each query's best time, since shared machines stall; and what was found."""
    found = [list(map(int, run(number))) for number in range(count)]
    best = [float("inf")] * count
    for _ in range(ROUNDS):
        for number in range(count):
            start = time.perf_counter()
            run(number)
            best[number] = min(best[number], time.perf_counter() - start)
    return {
        "queries_per_s": count / sum(best),
        "p50_ms": 1e3 * statistics.median(best),
        "p95_ms": 1e3 * statistics.quantiles(best, n=20)[-1],
        "found": found,
    }


def main(measure: Callable[[Job], dict[str, Any]]) -> None:
    """`SCRIPT FOLDER SIZE WORK`: prints one line of JSON."""
    folder, size, work = pathlib.Path(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
    job = Job(
        size,
        work,
        json.loads((folder / "passages.json").read_text())[:size],
        np.load(folder / "vectors.npy", mmap_mode="r")[:size],
        json.loads((folder / "queries.json").read_text()),
        np.load(folder / "query_vectors.npy"),
    )
    print("\n" + json.dumps(measure(job)), flush=True)
