"""The entry of the `lmstack` command: what must hold before anything else is loaded.

Ctrl-C in the first moments, while modules are imported, is heard and ends as calmly as later; a
standard stream that was closed (`lmstack ... >&-`) is held by the null device, so that no file
opened later gets its number and everything printed. Does not cover running commands (`program`),
which this file imports only when called, because that is what takes time.

What people wait for counts from Enter: `process_start` says when on Linux, elsewhere the first
import of lmstack has to do.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Sequence

from lmstack.app.server.stopping import EXIT_INTERRUPTED, interrupts_heard

__all__ = ["main", "process_start"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. What was typed at a shell has been waited for since
    the process was started."""
    started = process_start() if arguments is None else time.monotonic()
    try:
        _hold_streams()
        with interrupts_heard():
            from lmstack.app.cli.program import run

            return run(list(sys.argv[1:] if arguments is None else arguments), started)
    except KeyboardInterrupt:
        print("\nstopped: nothing was changed", file=sys.stderr)
        return EXIT_INTERRUPTED
    finally:
        if arguments is None:
            # The interpreter would walk through all objects of all modules before it ends, half a
            # second where torch was loaded.
            gc.freeze()


def _hold_streams() -> None:
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


_IMPORTED = time.monotonic()
# In /proc/self/stat, counted from the field after the name: starttime, the 22nd of all.
_START_FIELD = 19
# Nobody waits so long between a process and its first line: the figure is of another clock.
_LONGEST_S = 600.0


def process_start() -> float:
    """On the clock of `time.monotonic`."""
    try:
        with open("/proc/self/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks = int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks
    except (OSError, ValueError, IndexError, AttributeError):
        return _IMPORTED
    now = time.monotonic()
    return now - age if now - _IMPORTED <= age <= now - _IMPORTED + _LONGEST_S else _IMPORTED
