"""What a benchmark's figures depend on beside the code: the machine, and what else ran on it."""

from __future__ import annotations

import os
import pathlib
import platform
import time
from typing import Any

from spine import processor

__all__ = ["busy", "machine"]

_TICKS = os.sysconf("SC_CLK_TCK")
# Shares of one core below this are not named.
_SHARE = 0.05


def machine() -> dict[str, Any]:
    """The processor and what ran beside, at the moment of asking."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 1e9, 1),
        "python": platform.python_version(),
        "load_a_minute": round(os.getloadavg()[0], 2),
        "beside": busy(),
    }


def busy(seconds: float = 2.0) -> dict[str, float]:
    """Other processes by name, with the share of one core that they use; Linux only."""
    before = _ticks()
    time.sleep(seconds)
    shares: dict[str, float] = {}
    for process, (name, ticks) in _ticks().items():
        used = (ticks - before.get(process, (name, ticks))[1]) / _TICKS / seconds
        if process != os.getpid():
            shares[name] = shares.get(name, 0.0) + used
    return {name: round(share, 2) for name, share in sorted(shares.items()) if share >= _SHARE}


def _ticks() -> dict[int, tuple[str, int]]:
    """Name and processor time of each process."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text()
        except OSError:
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        found[int(folder.name)] = (name, int(fields[11]) + int(fields[12]))
    return found
