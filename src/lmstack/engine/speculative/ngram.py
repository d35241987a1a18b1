"""Prompt lookup: n-gram drafts, without a model (Saxena, Prompt Lookup Decoding, 2023).

Texts repeat themselves, and answers repeat their questions: names, quotes, code, the fields of a
record. The longest earlier n-gram that the text ends with is found, and what came after it is
the draft.

Not covered: whether a draft is worth computing (`speculative`).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq

from lmstack.engine.speculative.acceptance import Acceptance

__all__ = ["LONGEST", "PromptLookup"]

# Lengths of n-grams: a match of one token says too little, one of more than these no more.
SHORTEST, LONGEST = 2, 16
# Of the places with the same last two tokens, the latest are compared.
MAX_COMPARED = 8


class PromptLookup:
    """`extend` it to all tokens of a text, then ask what `follows`. ``source``: what the text is
    made from and may repeat as well (an encoder's input). ``length``: how many tokens agree at the
    place that was found, 0 where there is none."""

    def __init__(self, source: Seq[int] = ()) -> None:
        self._text: list[int] = []
        self._latest: dict[tuple[int, int], int] = {}  # of two tokens, the place after them
        self._earlier: list[int] = []  # for each place, the one before it that ends alike
        self._place = self.length = 0
        self._num_source = len(source)
        for token in source:
            self._index(token)

    def extend(self, tokens: Seq[int], num_given: int, hits: Acceptance) -> None:
        """``tokens``: all of the text, which only ever grows; the first ``num_given`` of them are
        no output. How often what was found did follow is noted in ``hits``."""
        known = len(self._text) - self._num_source
        for token in tokens[known:num_given]:
            self._index(token)
        if known < num_given:
            self._find()
        for token in tokens[max(known, num_given) :]:
            if self.length:
                hits.observe(self.length, self._text[self._place] == token)
            self._index(token)
            self._find()

    def follows(self, count: int) -> tuple[int, ...]:
        """Up to ``count`` tokens that followed before. Where that place is nearer than ``count``,
        the text is taken to go round."""
        if not self.length:
            return ()
        text, period = self._text, len(self._text) - self._place
        return tuple(text[self._place + i % period] for i in range(count))

    def _index(self, token: int) -> None:
        text = self._text
        text.append(token)
        if len(text) < SHORTEST:
            self._earlier.append(0)
            return
        key = text[-2], token
        self._earlier.append(self._latest.get(key, 0))
        self._latest[key] = len(text)

    def _find(self) -> None:
        """The longest of the latest places that end as the text does; of equal ones the latest."""
        text, end = self._text, len(self._text)
        self._place = self.length = 0
        place = self._earlier[-1] if text else 0
        for _ in range(MAX_COMPARED):
            if not place:
                return
            length = SHORTEST
            most = min(LONGEST, place)
            while length < most and text[place - 1 - length] == text[end - 1 - length]:
                length += 1
            if length > self.length:
                self._place, self.length = place, length
            if length == LONGEST:
                return
            place = self._earlier[place - 1]
