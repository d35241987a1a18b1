"""Files to the examples of a run: read, encoded, split by document, with a report of what was left
out.

A document goes to training or validation by a hash of what it says, so the split does not change
when rows are added, and copies of one document stay on one side.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import InputError
from lmstack.train.data.examples import Example
from lmstack.train.data.rows import BadRow, Row, Rows, find_data
from lmstack.train.objectives.objective import Objective, Reading

__all__ = ["DataReport", "Prepared", "prepare"]

_SHOWN = 5


@dataclass
class DataReport:
    """What happened to the rows. ``bad``: the first few that could not be used, with reasons."""

    rows: int = 0
    bad_rows: int = 0
    tokens: int = 0
    bad: list[BadRow] = field(default_factory=list)

    def add_bad(self, bad: BadRow) -> None:
        self.bad_rows += 1
        if len(self.bad) < _SHOWN:
            self.bad.append(bad)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "bad_rows": self.bad_rows,
            "tokens": self.tokens,
            "bad": [f"{row.place}: {row.reason}" for row in self.bad],
        }


@dataclass(frozen=True)
class Prepared:
    """Examples to train on and to validate with. ``fingerprint``: of the files' content."""

    train: Sequence[Example]
    validation: Sequence[Example]
    report: DataReport
    fingerprint: str


def prepare(
    data: Sequence[str],
    validation: float | Sequence[str],
    objective: Objective,
    reading: Reading,
    *,
    seed: int = 0,
    strict: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Prepared:
    """``validation``: a share of the documents of ``data``, or files of its own. ``progress``:
    called with bytes read and all bytes."""
    report = DataReport()
    files = find_data(data)
    held_files = [] if isinstance(validation, int | float) else find_data(validation)
    share = float(validation) if isinstance(validation, int | float) else 0.0
    train: list[Example] = []
    held: list[Example] = []
    rows = Rows([*files, *held_files])
    for row in rows:
        if isinstance(row, Row):
            found = _encoded(row, objective, reading, report)
            is_held = rows.file >= len(files) or _place_of(row, seed) < share
            (held if is_held else train).extend(found)
        else:
            report.add_bad(row)
        if strict and report.bad:
            first = report.bad[0]
            raise InputError(f"{first.place}: {first.reason}", hint="mend the row, or strict=false")
        progress(rows.done, rows.total)
    hashed = hashlib.sha256()
    for path in rows.files:
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    report.tokens = sum(example.tokens for example in train)
    if not train:
        reasons = "; ".join(f"{bad.place}: {bad.reason}" for bad in report.bad[:2])
        raise InputError(
            f"no row of {', '.join(map(str, data))} can be trained on"
            + (f" ({reasons})" if reasons else ""),
            hint=f"the objective reads {', '.join(objective.reads)}",
            param="data",
        )
    return Prepared(train, held, report, hashed.hexdigest())


def _encoded(row: Row, objective: Objective, reading: Reading, report: DataReport) -> list[Example]:
    report.rows += 1
    try:
        return list(objective.encode(row, reading))
    except InputError as error:
        report.add_bad(BadRow(row.place, str(error)))
        return []


def _place_of(row: Row, seed: int) -> float:
    """Where a document falls in [0, 1)."""
    text = json.dumps([seed, row.values], sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
