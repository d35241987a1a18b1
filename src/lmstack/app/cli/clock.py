"""When this process was started, so that what people wait for counts from Enter.

The imports before the first line of a command are seconds of waiting, too. Covers Linux, which
says when it made a process; elsewhere the first import of lmstack has to do.
"""

from __future__ import annotations

import os
import time

__all__ = ["process_start"]

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
