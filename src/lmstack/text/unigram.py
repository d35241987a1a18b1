"""SentencePiece's Unigram segmentation, with its own arithmetic.

The best path through all pieces of the text by Viterbi. Scores add up in float32, in the order in
which SentencePiece adds them: sums that are equal on paper round apart, and the choice between two
equally good cuts hangs on that. The ``tokenizers`` library adds in float64, and lets text that
spells a control token match it; so it only looks up here what this module has cut.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

__all__ = ["Unigram"]

_UNKNOWN_PENALTY = 10.0
_FAN = 24


class Unigram:
    """A pre-tokenizer for `tokenizers.pre_tokenizers.PreTokenizer.custom`.

    ``scores``: ordinary pieces. ``defined``: user-defined pieces, which win over any others.
    """

    def __init__(self, scores: Mapping[str, float], defined: frozenset[str]) -> None:
        best, worst = max(scores.values(), default=0.0), min(scores.values(), default=0.0)
        self._unknown = float(np.float32(worst) - np.float32(_UNKNOWN_PENALTY))
        # A prefix that is no piece has None: the search goes on until a string is no prefix.
        self._table: dict[str, float | None] = {}
        own = {piece: len(piece.encode()) * best - 0.1 for piece in defined}
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
        size, table, unknown = len(text), self._table, self._unknown
        best = array("f", bytes(4 * (size + 1)))
        rounded = array("f", [0.0])
        starts = array("q", [-1]) * (size + 1)
        lookup = table.get
        for start in range(size):
            here = best[start]
            alone = False
            end = start + 1
            while end <= size:
                piece = text[start:end]
                score = lookup(piece)
                if score is None:
                    if piece not in table:
                        break
                else:
                    alone = alone or end == start + 1
                    # Compared before it is rounded to float32, as SentencePiece's code does.
                    total = score + here
                    if starts[end] < 0 or total > best[end]:
                        best[end] = total
                        starts[end] = 2 * start + 1
                end += 1
            if not alone:
                rounded[0] = unknown + here
                if starts[start + 1] < 0 or rounded[0] > best[start + 1]:
                    best[start + 1] = rounded[0]
                    starts[start + 1] = 2 * start
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
