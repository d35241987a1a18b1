"""What became of the rows: counts, places and figures, for people and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.train.data.examples import Example
from lmstack.train.data.personal import personal_kinds
from lmstack.train.data.rows import BadRow

__all__ = ["DataReport", "Lengths"]

_SHOWN = 20
_REASONS = 50
_QUANTILES = {"5%": 0.05, "25%": 0.25, "50%": 0.5, "75%": 0.75, "95%": 0.95, "99%": 0.99}
_BARS = 40
# Values inside reasons, which would make one reason into many.
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\[.*\]|\{.*\}|\d+")


@dataclass(frozen=True)
class Lengths:
    """Of examples, in tokens. ``bars``: how many lie between each two of ``edges``."""

    least: int = 0
    most: int = 0
    mean: float = 0.0
    quantiles: Mapping[str, int] = field(default_factory=dict)
    edges: Sequence[float] = ()
    bars: Sequence[int] = ()

    @classmethod
    def of(cls, lengths: npt.NDArray[np.int64]) -> Lengths:
        if not len(lengths):
            return cls()
        quantiles = {
            name: int(np.quantile(lengths, share, method="inverted_cdf"))
            for name, share in _QUANTILES.items()
        }
        most = int(lengths.max())
        bars, edges = np.histogram(lengths, min(_BARS, most), (0, most))
        return cls(
            int(lengths.min()),
            most,
            float(lengths.mean()),
            quantiles,
            edges.tolist(),
            bars.tolist(),
        )


@dataclass
class DataReport:
    """``bad``: the first few rows that could not be used. ``reasons``: how many by reason, values
    left out. ``tokens``: of the examples to train on, ``examples`` of them; ``validation`` to
    validate with. ``truncated``: rows that were cut, by ``left_out`` tokens in all.
    ``exact_copies`` and ``near_copies`` of earlier rows, ``copies_left_out`` because of
    ``deduplicate``; ``leaked``: rows to train on that are copies of rows in files to validate
    with. ``personal``: rows that hold personal data, by kind. ``files``: what was read, each with
    its hash. ``template``: what the doctor says of the base's chat template, where it says it."""

    rows: int = 0
    bad_rows: int = 0
    examples: int = 0
    validation: int = 0
    tokens: int = 0
    truncated: int = 0
    left_out: int = 0
    exact_copies: int = 0
    near_copies: int = 0
    copies_left_out: int = 0
    leaked: int = 0
    lengths: Lengths = field(default_factory=Lengths)
    reasons: Counter[str] = field(default_factory=Counter)
    bad: list[BadRow] = field(default_factory=list)
    personal: Counter[str] = field(default_factory=Counter)
    files: list[dict[str, Any]] = field(default_factory=list)
    template: list[dict[str, Any]] = field(default_factory=list)

    def add(self, text: str, examples: Sequence[Example]) -> None:
        """A row that could be used, and what it says."""
        self.rows += 1
        self.personal.update(personal_kinds(text))
        self.truncated += any(example.left_out for example in examples)
        self.left_out += sum(example.left_out for example in examples)

    def add_bad(self, row: BadRow) -> None:
        self.rows += 1
        self.bad_rows += 1
        reason = _VALUE.sub("…", row.reason)
        if reason in self.reasons or len(self.reasons) < _REASONS:
            self.reasons[reason] += 1
        if len(self.bad) < _SHOWN:
            self.bad.append(row)

    def to_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _COUNTS}
        return {
            **values,
            "lengths": vars(self.lengths).copy(),
            "reasons": dict(self.reasons.most_common()),
            "bad": [{"place": row.place, "reason": row.reason} for row in self.bad],
            "personal": dict(self.personal),
            "files": self.files,
            "template": self.template,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataReport:
        return cls(
            **{name: values[name] for name in _COUNTS},
            lengths=Lengths(**values["lengths"]),
            reasons=Counter(values["reasons"]),
            bad=[BadRow(**row) for row in values["bad"]],
            personal=Counter(values["personal"]),
            files=list(values["files"]),
            template=list(values["template"]),
        )


_COUNTS = (
    *("rows", "bad_rows", "examples", "validation", "tokens", "truncated", "left_out"),
    *("exact_copies", "near_copies", "copies_left_out", "leaked"),
)
