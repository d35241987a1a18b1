"""What every side of `serving.py` shares: the job it reads, the clock, and what it prints.

A side is one process in the environment of its library. It runs the measures it is asked for on
the prompts of the job, which are the same for all, and prints one line of JSON: for each measure
its figures (one a repeat, higher is better) and the outputs that are compared. Only the standard
library is imported here, so that every environment can.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

__all__ = ["Ids", "Job", "decode_rate", "main", "rates", "threads"]

Ids = list[int]
Job = Mapping[str, Any]
Found = dict[str, Any]


def threads() -> int:
    return int(os.environ["OMP_NUM_THREADS"])


def rates(work: int, runs: Sequence[Callable[[], object]]) -> list[float]:
    """Work per second of each run."""
    figures = []
    for run in runs:
        start = time.perf_counter()
        run()
        figures.append(work / (time.perf_counter() - start))
    return figures


def decode_rate(times: Sequence[float]) -> float:
    """Tokens per second from the moments at which tokens came: the prompt does not count."""
    return (len(times) - 1) / (times[-1] - times[0])


def main(
    measures: Mapping[str, Callable[[Job], Found]], convert: Callable[[Job], None] | None = None
) -> None:
    """`SCRIPT convert JOB`, or `SCRIPT measure JOB NAME...`."""
    action, path, *names = sys.argv[1:]
    job = json.loads(pathlib.Path(path).read_text())
    if action == "convert":
        if convert is not None:
            convert(job)
        return
    found: dict[str, Found] = {}
    for name in names:
        try:
            found[name] = measures[name](job)
        except Exception as error:
            traceback.print_exc()
            found[name] = {"error": f"{type(error).__name__}: {error}"[:2000]}
    print("\n" + json.dumps(found), flush=True)
    # Libraries with threads of their own may hang or abort while the interpreter ends.
    sys.stdout.flush()
    os._exit(0)
