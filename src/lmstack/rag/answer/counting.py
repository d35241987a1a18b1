"""How long an answer from documents is, in tokens of the language model behind it.

A quotation is chosen, not written, so the model reports no tokens for it. They are counted here,
and the answer is cut where its caller's ``max_tokens`` says. Does not cover answers that the model
writes: those it counts itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from lmstack.core import Usage

__all__ = ["AnswerTokenizer", "AnswerTokens"]


class _Encoded(Protocol):
    @property
    def offsets(self) -> tuple[tuple[int, int], ...]: ...


class AnswerTokenizer(Protocol):
    """The part of `text.Tokenizer` that counting needs."""

    def encode_batch(
        self, texts: Sequence[str], *, special: bool = True, add_special_tokens: bool = True
    ) -> Sequence[_Encoded]: ...


class AnswerTokens:
    """Counts one answer. ``limit``: its ``max_tokens``, None for no limit. Text is counted as it
    comes, piece by piece, so that what was sent never has to be taken back."""

    def __init__(self, tokenizer: AnswerTokenizer, limit: int | None) -> None:
        self._tokenizer = tokenizer
        self._limit = limit
        self._prompt = 0
        self._answer = 0
        self.cut = False

    def read(self, texts: Sequence[str]) -> None:
        """Count ``texts`` as the prompt."""
        self._prompt += sum(len(encoded.offsets) for encoded in self._encoded(texts))

    def within(self, text: str) -> str:
        """As much of ``text`` as the limit leaves room for, in whole characters. Nothing after
        the first that had to be cut."""
        if self.cut:
            return ""
        offsets = self._encoded([text])[0].offsets
        room = len(offsets) if self._limit is None else self._limit - self._answer
        if len(offsets) <= room:
            self._answer += len(offsets)
            return text
        self.cut = True
        self._answer += room
        return text[: offsets[room][0]]

    @property
    def usage(self) -> Usage:
        return Usage(self._prompt, self._answer)

    def _encoded(self, texts: Sequence[str]) -> Sequence[_Encoded]:
        return self._tokenizer.encode_batch(texts, special=False, add_special_tokens=False)
