"""Rows to examples on all cores: blocks of rows in threads, in the order of the rows.

Most of encoding is the tokenizers library's work, during which Python's other threads run, so an
objective encodes one row at a time and all processors are busy. A row that the objective refuses is
a bad row.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from lmstack.core import FormatError, InputError
from lmstack.train.data.examples import Example
from lmstack.train.data.rows import BadRow, Row, Rows
from lmstack.train.objectives.objective import Objective, Reading

__all__ = ["encoded_rows"]

_BLOCK_ROWS, _BLOCK_BYTES = 64, 1 << 20
Encoded = tuple[Row | BadRow, Sequence[Example]]


def encoded_rows(rows: Rows, objective: Objective, reading: Reading) -> Iterator[Encoded]:
    """Each of ``rows`` with its examples; a `BadRow` instead of one that the objective refuses.
    Holds a few blocks of rows at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[list[Encoded]]] = deque()
        try:
            for block in _blocks(rows):
                waiting.append(pool.submit(_encoded, block, objective, reading))
                if len(waiting) > 2 * workers:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _blocks(rows: Rows) -> Iterator[list[Row | BadRow]]:
    block: list[Row | BadRow] = []
    start = 0
    for row in rows:
        block.append(row)
        if len(block) == _BLOCK_ROWS or rows.done - start > _BLOCK_BYTES:
            yield block
            block, start = [], rows.done
    if block:
        yield block


def _encoded(
    block: Sequence[Row | BadRow], objective: Objective, reading: Reading
) -> list[Encoded]:
    found: list[Encoded] = []
    for row in block:
        if isinstance(row, BadRow):
            found.append((row, ()))
            continue
        try:
            found.append((row, list(objective.encode(row, reading))))
        except (InputError, FormatError) as error:
            found.append((BadRow(row.place, str(error)), ()))
    return found
