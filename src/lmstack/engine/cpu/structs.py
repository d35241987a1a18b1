"""The sequences of a step, and one call that runs it. No torch.

Not covered: where programs come from (`program`, `image`).

Legend: N tokens of a step, D width.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import EngineError
from lmstack.engine.cpu.library import native
from lmstack.engine.cpu.mirrors import SPAN, ProgramStruct, StepStruct

__all__ = [
    "ALIGNMENT",
    "KV_FORMS",
    "TILE",
    "Int32s",
    "Spans",
    "address_of",
    "run_step",
    "varlen_spans",
]

Int32s = npt.NDArray[np.int32]
KV_FORMS = ("bfloat16", "int8")
TILE = 16
ALIGNMENT = 64  # of a tile's address, in bytes


class Spans:
    """The sequences of a step, as C reads them. Keeps their tables alive."""

    def __init__(self, count: int) -> None:
        self.rows = np.zeros(count, SPAN)
        self._kept: list[Int32s] = []

    def put(
        self,
        index: int,
        row: int,
        count: int,
        start: int,
        table: Sequence[int],
        cross_table: Sequence[int] = (),
        cross_keys: int = 0,
        *,
        wanted: int | None = None,
    ) -> None:
        """Rows ``row`` to ``row + count`` are tokens ``start`` ... of a sequence; ``table`` and
        ``cross_table``: its cache tiles; ``wanted``: as in `Span`."""
        if start < 0 or start + count > TILE * len(table) or cross_keys > TILE * len(cross_table):
            raise EngineError(
                f"tokens {start} to {start + count} of a sequence, and {cross_keys} of its encoder,"
                f" have {len(table)} and {len(cross_table)} cache tiles"
            )
        tiles = np.array((*table, *cross_table), np.int32)
        self._kept.append(tiles)
        at = tiles.ctypes.data
        last = count if wanted is None else wanted
        self.rows[index] = (row, count, start, cross_keys, last, 0, at, at + 4 * len(table))


def varlen_spans(lengths: Sequence[int]) -> tuple[Spans, int]:
    """The spans of a varlen batch, each in tiles of its own, and how many tiles."""
    spans = Spans(len(lengths))
    row = tiles = 0
    for index, length in enumerate(lengths):
        count = -(-length // TILE)
        spans.put(index, row, length, 0, range(tiles, tiles + count))
        row, tiles = row + length, tiles + count
    return spans, tiles


def run_step(program: ProgramStruct, step: StepStruct, threads: int) -> None:
    """The result lies where ``step`` says."""
    if native().lm_run(_team(threads), ctypes.byref(program), ctypes.byref(step)):
        raise EngineError(
            "a step needs more memory than there is",
            hint="close other programs, or serve fewer streams at once",
        )


@functools.cache
def _team(threads: int) -> int:
    """The threads that share a step, asleep between steps; as long as the process lives."""
    found = native().lm_team_new(threads)
    if not found:
        raise EngineError(
            f"the system does not start {threads} threads", hint="set OMP_NUM_THREADS to fewer"
        )
    return int(found)


# A child has none of its parent's threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_team.cache_clear)


def address_of(array: npt.NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data
