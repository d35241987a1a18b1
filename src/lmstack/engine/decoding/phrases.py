"""Phrases that a text has to contain: how much of them it has, and what would bring it further.

Phrases may overlap each other and themselves. Used by beam search, which keeps texts with more and
with fewer of their tokens side by side (Post and Vilar, Fast Lexically Constrained Decoding, 2018).
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["Phrases"]

State = tuple[int, ...]


class Phrases:
    """``words``: token ids of each. A state counts the tokens of each word that the text ends
    with, or all of them once it has been seen."""

    def __init__(self, words: Sequence[tuple[int, ...]]) -> None:
        self._words = words
        self.start: State = (0,) * len(words)
        self.total = sum(map(len, words))

    def after(self, state: State, token: int) -> State:
        return tuple(
            self._step(i, matched, token) if matched < len(self._words[i]) else matched
            for i, matched in enumerate(state)
        )

    def _step(self, index: int, matched: int, token: int) -> int:
        """The longest beginning of the word that the text ends with, ``token`` included."""
        word = self._words[index]
        end = (*word[:matched], token)
        return next(n for n in range(len(end), -1, -1) if end[len(end) - n :] == word[:n])

    def is_met(self, state: State) -> bool:
        return all(m == len(w) for m, w in zip(state, self._words, strict=True))

    def progress(self, state: State) -> int:
        """Tokens of phrases in the text: whole phrases, and the longest that is under way."""
        parts = list(zip(state, self._words, strict=True))
        whole = sum(m for m, w in parts if m == len(w))
        return whole + max((m for m, w in parts if m < len(w)), default=0)

    def wanted(self, state: State) -> set[int]:
        """The tokens that bring a phrase further, or begin one."""
        unmet = [(m, w) for m, w in zip(state, self._words, strict=True) if m < len(w)]
        return {w[m] for m, w in unmet} | {w[0] for _, w in unmet}
