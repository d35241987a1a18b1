"""This machine as measured once: its processor and its rates, kept for `lmstack doctor plan`.

    $LMSTACK_HOME/machine.json

What is kept counts while processor and torch are the same. Does not cover how rates are measured
(`engine.rates`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.inspect.processor import Processor, processor
from lmstack.core import StoreError
from lmstack.core.files import write_atomic
from lmstack.engine.memory import free_memory

if TYPE_CHECKING:
    from lmstack.app.inspect.rates import Rates

__all__ = ["Machine", "keep", "kept", "known", "measure"]

FILE = "machine.json"
FORMAT = 2
LEAST_BYTES, MOST_BYTES = 256 << 20, 4 << 30  # of the array that is read
CACHES = 4  # times the largest caches, so that hardly a byte is still there from the last round


@dataclass(frozen=True)
class Machine:
    """``measured``: when, in UTC."""

    processor: Processor
    rates: Rates
    torch: str
    measured: str

    def to_json(self) -> dict[str, Any]:
        rates = self.rates
        return {
            "processor": self.processor.to_json(),
            "memory_read_bytes_per_s": {
                "one_core": round(rates.read_one),
                "all_cores": round(rates.read_all),
            },
            "matrix_operations_per_s": {kind: round(r) for kind, r in rates.matrix.items()},
            "torch": self.torch,
            "measured": self.measured,
        }


def measure(
    progress: Callable[[int, int, str], None] | None = None, *, seconds: float = 1.0
) -> Machine:
    """Measure now, each of six rates for ``seconds``."""
    from lmstack.app.inspect.rates import measure_rates

    found = processor()
    wanted = max(LEAST_BYTES, CACHES * found.last_level_cache)
    free = free_memory()[0]
    num_bytes = min(wanted, MOST_BYTES, MOST_BYTES if free is None else free // 4)
    rates = measure_rates(found.cores, num_bytes, seconds=seconds, progress=progress)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return Machine(found, rates, version("torch"), now)


def keep(machine: Machine, home: Path) -> Path:
    """Write it down for next time. `StoreError` where ``home`` cannot be written."""
    path = home / FILE
    text = json.dumps({"format": FORMAT, **machine.to_json()}, indent=2) + "\n"
    write_atomic(path, text.encode())
    return path


def kept(home: Path) -> Machine | None:
    """What was measured on this machine before; None if it was another one, or nothing is
    there that can be read."""
    from lmstack.app.inspect.rates import Rates

    try:
        values = json.loads((home / FILE).read_text(encoding="utf-8"))
        found, read = processor(), values["memory_read_bytes_per_s"]
        same = (
            values["format"] == FORMAT
            and values["processor"] == found.to_json()
            and values["torch"] == version("torch")
        )
        matrix = {str(k): float(r) for k, r in values["matrix_operations_per_s"].items()}
        rates = Rates(float(read["one_core"]), float(read["all_cores"]), matrix)  # type: ignore[arg-type]
        measured = str(values["measured"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    sound = min([rates.read_one, rates.read_all, *matrix.values()]) > 0
    return Machine(found, rates, values["torch"], measured) if same and sound else None


def known(home: Path, progress: Callable[[int, int, str], None] | None = None) -> Machine:
    """What was measured before, else measured now and kept if that is possible."""
    found = kept(home)
    if found is None:
        found = measure(progress)
        try:
            keep(found, home)
        except StoreError:
            return found  # a plan needs no store: next time it is measured again
    return found
