"""What `words.py` does with every side: build a search, ask it, keep the times and what it found.

Imported by `words.py` and by the side that runs in an environment of its own, so it needs nothing
but the standard library.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Search", "asked"]

Search = Callable[[str], Sequence[int]]


def asked(
    make: Callable[[Sequence[str]], Search],
    passages: Sequence[str],
    queries: Sequence[str],
    rounds: int,
) -> dict[str, Any]:
    """Each query once, then in ``rounds`` of which its best counts, since shared machines stall.
    ``found``: the ten best passages of each query by number."""
    started = time.perf_counter()
    search = make(passages)
    built = time.perf_counter() - started
    started = time.perf_counter()
    found = [[int(number) for number in search(query)] for query in queries]
    first = (time.perf_counter() - started) / len(queries)
    best = [first if not rounds else float("inf")] * len(queries)
    for _ in range(rounds):
        for number, query in enumerate(queries):
            started = time.perf_counter()
            search(query)
            best[number] = min(best[number], time.perf_counter() - started)
    return {
        "build_s": round(built, 2),
        "first_round_ms": round(1e3 * first, 3),
        "mean_ms": round(1e3 * statistics.mean(best), 3),
        "p95_ms": round(1e3 * sorted(best)[round(0.95 * (len(best) - 1))], 3),
        "found": found,
    }
