"""The figures of a data report, and the side of each row, by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from lmstack.train.data.copies import Copies
from lmstack.train.data.examples import Example
from lmstack.train.data.report import DataReport, Lengths
from lmstack.train.data.rows import BadRow
from lmstack.train.data.split import Split

NONE = np.zeros(0, np.int64)


def test_lengths_are_told_by_quantiles_that_are_among_them() -> None:
    found = Lengths.of(np.array([3, 1, 9, 2, 5, 4, 8, 6, 7, 100]))
    assert (found.least, found.most, found.mean) == (1, 100, 14.5)
    assert list(found.quantiles) == sorted(found.quantiles, key=lambda name: found.quantiles[name])
    assert {*found.quantiles.values()} <= {1, 2, 3, 4, 5, 6, 7, 8, 9, 100}
    assert found.quantiles["50%"] == 5
    assert (found.edges[0], found.edges[-1]) == (0, 100)
    assert len(found.bars) == len(found.edges) - 1 == 40
    assert (sum(found.bars), found.bars[-1]) == (10, 1)
    few = Lengths.of(np.array([2, 3]))
    assert (few.edges, few.bars) == ([0, 1, 2, 3], [0, 0, 2])
    assert Lengths.of(NONE) == Lengths()


def test_rows_are_counted_with_what_was_cut_and_why_they_are_bad() -> None:
    report, ids = DataReport(), np.zeros(3, np.int32)
    report.add(
        "write to ada@example.org", [Example((ids,), left_out=2), Example((ids,), left_out=3)]
    )
    report.add("plain", [Example((ids,))])
    reasons = ["label is 'a', not 3", "label is 'b', not 17", "no text", *["no text"] * 3]
    for number, reason in enumerate(reasons):
        report.add_bad(BadRow(f"f:{number}", reason))
    assert (report.rows, report.bad_rows, report.truncated, report.left_out) == (8, 6, 1, 5)
    assert report.reasons == {"label is …, not …": 2, "no text": 4}
    assert list(report.to_json()["reasons"]) == ["no text", "label is …, not …"]
    assert dict(report.personal) == {"email": 1}
    assert [bad.place for bad in report.bad] == [f"f:{number}" for number in range(6)]
    for number in range(2000):
        report.add_bad(BadRow("g", f"reason {chr(97 + number % 26)}{chr(97 + number // 26 % 26)}x"))
    assert len(report.reasons) == 50
    assert len(report.bad) == 20
    assert report.bad_rows == 2006
    report.files, report.template = [{"path": "a"}], [{"code": "b"}]
    report.lengths = Lengths.of(np.array([2, 3]))
    for place, name in enumerate(("examples", "validation", "tokens", "exact_copies"), 1):
        setattr(report, name, place)
    report.near_copies, report.copies_left_out, report.leaked = 5, 6, 7
    again = DataReport.from_json(json.loads(json.dumps(report.to_json())))
    assert again == report
    assert set(report.to_json()) == set(vars(report))


def split(
    first: list[int], own: int, share: float = 0.0, *, deduplicate: bool, **exact: Any
) -> Split:
    flags = np.array(exact.get("exact", [True] * len(first)))
    copies = Copies(np.array(first), flags, np.arange(len(first), dtype=np.uint64))
    return Split(copies, copies.hashes, own, share, 3, deduplicate=deduplicate)


@pytest.mark.parametrize("deduplicate", [True, False])
def test_a_copy_of_what_is_held_out_is_no_row_to_train_on(deduplicate: bool) -> None:
    """Rows 5 and 6 are of files to validate with: 1 says what 5 says, 3 what 2 says."""
    made = split([0, 1, 2, 2, 4, 1, 6], 5, deduplicate=deduplicate, exact=[1, 1, 1, 0, 1, 1, 1])
    report = DataReport()
    sides = [made.side(row, report) for row in range(7)]
    train, held = "train", "validation"
    if deduplicate:
        assert sides == [train, None, train, None, train, held, held]
    else:
        assert sides == [train, train, train, train, train, held, held]
    assert (report.exact_copies, report.near_copies) == (1, 1)
    assert (report.leaked, report.copies_left_out) == (1, 2 if deduplicate else 0)


def test_copies_are_on_the_side_of_the_first_of_them() -> None:
    first = [0, 1, 2, 3, 4, 5, *range(6)]
    made = split(first, 12, 0.5, deduplicate=False)
    sides = [made.side(row, DataReport()) for row in range(12)]
    assert sides[:6] == sides[6:]
    assert {*sides} == {"train", "validation"}
    for row, side in enumerate(sides[:6]):
        assert (made.place(row) < 0.5) == (side == "validation")
        assert 0 <= made.place(row) < 1
    other = Split(made._copies, made._keys, 12, 0.5, 4, deduplicate=False)
    assert [other.place(row) for row in range(6)] != [made.place(row) for row in range(6)]
    alike = Split(made._copies, np.zeros(12, np.uint64), 12, 0.5, 3, deduplicate=False)
    assert len({alike.place(row) for row in range(6)}) == 1
