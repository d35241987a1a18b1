"""SentencePiece's Unigram segmentation, with its own arithmetic.

The best path through all pieces of the text by Viterbi. Scores add up in float32, in the order in
which SentencePiece adds them (version 0.2.3): sums that are equal on paper round apart, and the
choice between two equally good cuts hangs on that. Older versions compare sums before they are
rounded, so they may cut such a tie the other way. The ``tokenizers`` library adds in float64 and
lets text that spells a control token match it; so it only looks up here what was cut already.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["Unigram"]

_UNKNOWN_PENALTY = 10.0
# Sums beyond this start anew, or float32 would no longer tell the scores apart.
_RESET = 100_000.0
_ABSENT: Any = object()
_FAN = 24


class Unigram:
    """A pre-tokenizer for `tokenizers.pre_tokenizers.PreTokenizer.custom`.

    ``scores``: ordinary pieces. ``defined``: user-defined pieces, which win over any others.
    """

    def __init__(self, scores: Mapping[str, float], defined: frozenset[str]) -> None:
        worst = min(scores.values(), default=0.0)
        self._unknown = float(np.float32(worst) - np.float32(_UNKNOWN_PENALTY))
        # A prefix that is no piece has None: the search goes on until a string is no prefix.
        self._table: dict[str, float | None] = {}
        own = {piece: float(np.float32(0.1 * (len(piece.encode()) - 1))) for piece in defined}
        for piece, score in {**scores, **own}.items():
            for end in range(1, len(piece)):
                self._table.setdefault(piece[:end], None)
            self._table[piece] = score

    def pre_tokenize(self, pretokenized: Any) -> None:
        """Cut a `tokenizers.PreTokenizedString` into pieces and runs of unknown characters."""
        pretokenized.split(lambda _, text: _slices(text, list(self.spans(text.normalized))))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """``[start, end)`` of each piece; neighbouring unknown characters are one."""
        starts = self._best_starts(text)
        spans: list[tuple[int, int]] = []
        end = len(text)
        joinable = False
        while end > 0:
            start, known = starts[end] >> 1, starts[end] & 1
            if not known and joinable:
                spans[-1] = (start, spans[-1][1])
            else:
                spans.append((start, end))
            joinable = not known
            end = start
        spans.reverse()
        return spans

    def _best_starts(self, text: str) -> array[int]:
        """For each end, where its best last piece starts, times two, plus one if it is known."""
        size, lookup = len(text), self._table.get
        best = array("f", bytes(4 * (size + 1)))
        rounded = array("f", [0.0])
        starts = array("q", [-1]) * (size + 1)
        frontier = 0
        for start in range(size):
            here = best[start]
            if abs(here) > _RESET:
                for end in range(start, frontier + 1):
                    best[end] -= here
                here = 0.0
            alone = False
            end = start + 1
            while end <= size:
                score = lookup(text[start:end], _ABSENT)
                if score is _ABSENT:
                    break
                if score is not None:
                    alone = alone or end == start + 1
                    rounded[0] = score + here
                    if starts[end] < 0 or rounded[0] > best[end]:
                        best[end] = rounded[0]
                        starts[end] = 2 * start + 1
                end += 1
            if not alone:
                rounded[0] = self._unknown + here
                if starts[start + 1] < 0 or rounded[0] > best[start + 1]:
                    best[start + 1] = rounded[0]
                    starts[start + 1] = 2 * start
            frontier = max(frontier, end - 1, start + 1)
        return starts


def _slices(text: Any, spans: list[tuple[int, int]]) -> list[Any]:
    return list(_cut(text, spans, 0))


def _cut(text: Any, spans: list[tuple[int, int]], origin: int) -> Iterator[Any]:
    """The library's slices take as long as the text they come from, so cut in two steps or more."""
    if len(spans) <= _FAN:
        for start, end in spans:
            yield text[start - origin : end - origin]
        return
    step = -(-len(spans) // _FAN)
    for at in range(0, len(spans), step):
        part = spans[at : at + step]
        low, high = part[0][0], part[-1][1]
        yield from _cut(text[low - origin : high - origin], part, low)
