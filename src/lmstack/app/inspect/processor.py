"""What this machine's processor is: name, instruction sets, caches, cores.

Read from what Linux says of itself; elsewhere what Python knows, with empty lists. Loads nothing
that takes time. Does not cover how fast it is (`machine`), nor which of our own kernels it runs.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["INSTRUCTION_SETS", "Cache", "Processor", "processor"]

CPUINFO = Path("/proc/cpuinfo")
CACHES = Path("/sys/devices/system/cpu")
# Instruction sets that change how fast a model is, widest last.
INSTRUCTION_SETS = (
    "sse4_2",
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx_vnni",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "asimddp",
    "i8mm",
    "bf16",
    "sve",
)
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Cache:
    """``count`` caches of ``size`` bytes each, for data, that the cores share among them."""

    level: int
    size: int
    count: int

    def to_json(self) -> dict[str, int]:
        return {"level": self.level, "size": self.size, "count": self.count}


@dataclass(frozen=True)
class Processor:
    """``cores``: those that this process may use. ``flags``: every instruction set, as Linux
    names them; empty where the system does not say."""

    name: str
    architecture: str
    cores: int
    flags: frozenset[str]
    caches: tuple[Cache, ...]

    @property
    def instruction_sets(self) -> tuple[str, ...]:
        """Those of ``flags`` that matter here."""
        return tuple(name for name in INSTRUCTION_SETS if name in self.flags)

    @property
    def last_level_cache(self) -> int:
        """Bytes of the largest caches together, 0 where the system does not say."""
        top = max((cache.level for cache in self.caches), default=0)
        return sum(cache.size * cache.count for cache in self.caches if cache.level == top)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "architecture": self.architecture,
            "cores": self.cores,
            "instruction_sets": list(self.instruction_sets),
            "caches": [cache.to_json() for cache in self.caches],
        }

    def __str__(self) -> str:
        """Name and instruction sets, so that figures can be compared."""
        sets = [name for name in self.instruction_sets if name not in ("sse4_2", "fma", "f16c")]
        return f"{self.name} ({', '.join(sets)})" if sets else self.name


def processor() -> Processor:
    """That of this machine."""
    fields = _cpuinfo()
    affinity = getattr(os, "sched_getaffinity", None)
    flags = fields.get("flags") or fields.get("Features") or ""
    name = fields.get("model name") or platform.processor() or platform.machine()
    return Processor(
        name=name,
        architecture=platform.machine(),
        cores=len(affinity(0)) if affinity else os.cpu_count() or 1,
        flags=frozenset(flags.split()),
        caches=tuple(_caches()),
    )


def _cpuinfo() -> dict[str, str]:
    """The fields of the first core; they are alike for all."""
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _caches() -> Iterator[Cache]:
    """By level. Cores that share a cache list the same cores, so each is counted once."""
    found: dict[tuple[int, int], set[str]] = {}
    for folder in CACHES.glob("cpu[0-9]*/cache/index[0-9]*"):
        try:
            kind, level, text, cores = (
                (folder / name).read_text(encoding="ascii").strip()
                for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind in ("Data", "Unified"):
                key = int(level), int(text.rstrip("KMG")) * _UNITS.get(text[-1:], 1)
                found.setdefault(key, set()).add(cores)
        except (OSError, ValueError):
            continue
    for key, sharing in sorted(found.items()):
        yield Cache(*key, len(sharing))
