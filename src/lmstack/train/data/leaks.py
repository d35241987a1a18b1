"""What data to train on shares with evaluation sets.

A text leaks if it shares thirteen words in a row with an item of the set, as GPT-3's authors
counted it (Brown et al. 2020, arXiv:2005.14165, appendix C), or holds the whole of a shorter field
of one, of five words or more: a question for instance. Words are compared without case and
punctuation. What more than ten items share is an instruction or a template and counts for nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.train.data.copies import runs_of, word_hashes
from lmstack.train.data.rows import BadRow, Rows

__all__ = ["EvaluationSet"]

_LONG, _SHORT = 13, 5
_COMMON = 10


class EvaluationSet:
    """The items in ``files``, whose columns may have any names. Holds a number for each word."""

    def __init__(self, files: Sequence[Path]) -> None:
        self.items = 0
        self.unread = 0
        self._places: list[str] = []
        # By how many words it is: the hash of a run of words to the item that has it first.
        self._runs: dict[int, dict[int, int]] = defaultdict(dict)
        counts: dict[int, Counter[int]] = defaultdict(Counter)
        for row in Rows(files):
            if isinstance(row, BadRow):
                self.unread += 1
                continue
            self._add(row.place, row.values, counts)
        for size, counter in counts.items():
            for run, items in counter.items():
                if items > _COMMON:
                    del self._runs[size][run]

    def leak(self, text: str) -> str | None:
        """The place of an item that ``text`` shares words with."""
        words = word_hashes(text)
        for size, runs in self._runs.items():
            for run in runs_of(words, size).tolist():
                if run in runs:
                    return self._places[runs[run]]
        return None

    def _add(
        self, place: str, values: Mapping[str, Any], counts: Mapping[int, Counter[int]]
    ) -> None:
        found: dict[int, set[int]] = defaultdict(set)
        for field in _texts(values):
            words = word_hashes(field)
            size = min(len(words), _LONG)
            if size >= _SHORT:
                found[size].update(runs_of(words, size).tolist())
        for size, runs in found.items():
            counts[size].update(runs)
            for run in runs:
                self._runs[size].setdefault(run, self.items)
        self._places.append(place)
        self.items += 1


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
