"""How much memory a process may take."""

from __future__ import annotations

from pathlib import Path

__all__ = ["free_memory"]


def free_memory() -> tuple[int | None, int | None]:
    """Bytes that a new process may take, and all of them; a container's limit counts. None where
    the system does not say."""
    values: dict[str, int] = {}
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            name, _, rest = line.partition(":")
            values[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None, None
    free, total = values.get("MemAvailable"), values.get("MemTotal")
    limit, used = _number("/sys/fs/cgroup/memory.max"), _number("/sys/fs/cgroup/memory.current")
    if limit is not None and used is not None and total is not None and limit < total:
        total = limit
        used = max(0, used - _cached())
        free = min(free if free is not None else limit, max(0, limit - used))
    return free, total


def _cached() -> int:
    """Of what a container uses, the bytes of files that were read a while ago: they give way."""
    try:
        text = Path("/sys/fs/cgroup/memory.stat").read_text(encoding="ascii")
        return int(dict(line.split() for line in text.splitlines())["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _number(path: str) -> int | None:
    try:
        return int(Path(path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
