"""Rows to examples in threads: in their order, in blocks, with what is refused among them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.train import tiny

from lmstack.core import FormatError, InputError
from lmstack.train.data.encoding import _blocks, encoded_rows
from lmstack.train.data.examples import Example
from lmstack.train.data.rows import BadRow, Row
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Reading


class Given:
    """Rows, each of ``size`` bytes; ``taken``: how many were asked for so far."""

    def __init__(self, rows: list[Row | BadRow], size: int = 1) -> None:
        self.rows, self.size, self.done, self.taken = rows, size, 0, 0

    def __iter__(self) -> Iterator[Row | BadRow]:
        for row in self.rows:
            self.taken += 1
            self.done += self.size
            yield row


class Twice(CausalLM):
    """Two examples of a row; row 70 is refused, and row 71 has a text that is none."""

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        number = row.values["n"]
        if number in (70, 71):
            raise (InputError if number == 70 else FormatError)(f"no {number}")
        yield from (Example((np.array([number, side], np.int32),)) for side in (0, 1))


def rows(count: int) -> list[Row | BadRow]:
    found: list[Row | BadRow] = [Row({"n": n}, f"f:{n}") for n in range(count)]
    found[3] = BadRow("f:3", "broken")
    return found


def test_every_row_comes_in_its_order_with_its_examples_or_its_reason() -> None:
    given: Any = Given(rows(200))
    found = list(encoded_rows(given, Twice(), tiny.reading()))
    for number, (row, examples) in enumerate(found):
        assert row.place == f"f:{number}"
        if number in (3, 70, 71):
            assert isinstance(row, BadRow)
            assert (row.reason, examples) == ("broken" if number == 3 else f"no {number}", ())
        else:
            assert [e.sequences[0].tolist() for e in examples] == [[number, 0], [number, 1]]
    assert len(found) == 200


@pytest.mark.parametrize(("processors", "workers"), [(2, 2), (None, 1)])
def test_few_rows_are_held_at_a_time(
    monkeypatch: pytest.MonkeyPatch, processors: int | None, workers: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: processors)
    given: Any = Given(rows(1000))
    encoding = encoded_rows(given, Twice(), tiny.reading())
    next(encoding)
    assert given.taken == (2 * workers + 1) * 64  # two blocks for each worker, and one more
    encoding.close()


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        *((1, [64, 64, 2]), (1 << 19, [3] * 43 + [1]), (1 << 21, [1] * 130)),
        *((1 << 20, [2] * 65), ((1 << 20) + 1, [1] * 130)),
    ],
)
def test_blocks_end_after_64_rows_or_a_mebibyte(size: int, sizes: list[int]) -> None:
    given: Any = Given(rows(130), size)
    assert [len(block) for block in _blocks(given)] == sizes
