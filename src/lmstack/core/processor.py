"""What this processor has instructions for, as far as results or their speed depend on it.

Not covered: its name, its caches and how fast it is (`lmstack.app.inspect`), and the paths of the
native ops (`lmstack.engine.cpu`).
"""

from __future__ import annotations

import functools
from pathlib import Path

__all__ = ["multiplies_bfloat16"]

_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def multiplies_bfloat16() -> bool:
    """Whether it has instructions for products of bfloat16; only Linux says. Without any, it
    takes such numbers apart, and multiplies them at a fraction of the rate of float32."""
    try:
        stated = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return not _FLAGS.isdisjoint(stated.split())
