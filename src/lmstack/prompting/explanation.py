"""What a model is asked, to the letter: the text, its tokens part by part, and the room left.

    print(explain(prompt, tokenizer, max_tokens=200).budget)

A token belongs to the part in which it begins, so the parts add up to the whole; what a chat
template puts around the turns is a part of its own. Without a tokenizer (a remote model) there are
characters only. Does not cover how an explanation is printed.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from lmstack.core import Message
from lmstack.prompting.chat_prompt import ChatPrompt

__all__ = ["Explanation", "PromptPart", "PromptTokenizer", "TokenReading", "explain"]


@dataclass(frozen=True)
class TokenReading:
    """``starts``: where in the ``text`` each token begins; None where that cannot be told."""

    text: str
    tokens: int
    starts: Sequence[int] | None


class PromptTokenizer(Protocol):
    """How one model reads messages."""

    @property
    def context_length(self) -> int | None: ...

    def read(self, messages: Sequence[Message]) -> TokenReading:
        """What the model gets."""


@dataclass(frozen=True)
class PromptPart:
    """``label``: the role, ``example 1``, ``{{review}}``. ``text``: with its fence where it is
    ``untrusted``. ``tokens`` is None where nobody counted them."""

    role: str
    label: str
    text: str
    untrusted: bool
    tokens: int | None


@dataclass(frozen=True)
class Explanation:
    """``text``: all that the model reads. ``parts``: what of it the prompt says, in order.
    ``template_tokens``: around them. ``max_tokens``: of the answer."""

    text: str
    parts: tuple[PromptPart, ...]
    prompt_tokens: int | None
    template_tokens: int | None
    context_length: int | None
    max_tokens: int | None

    @property
    def budget(self) -> int | None:
        """Tokens that are left of the context after the prompt and the longest answer; below 0
        where they do not fit. None where one of them is not known."""
        if self.prompt_tokens is None or self.context_length is None:
            return None
        return self.context_length - self.prompt_tokens - (self.max_tokens or 0)


def explain(
    prompt: ChatPrompt, tokenizer: PromptTokenizer | None = None, *, max_tokens: int | None = None
) -> Explanation:
    """``prompt`` as the model of ``tokenizer`` reads it."""
    if tokenizer is None:
        text = "\n\n".join(f"{m.role}:\n{m.content}" for m in prompt.messages)
        return Explanation(text, tuple(_parts(prompt, text, None)), None, None, None, max_tokens)
    reading = tokenizer.read(prompt.messages)
    starts = None if reading.starts is None else sorted(reading.starts)
    parts = tuple(_parts(prompt, reading.text, starts))
    around = None
    if starts is not None:
        around = reading.tokens - sum(part.tokens or 0 for part in parts)
    length = tokenizer.context_length
    return Explanation(reading.text, parts, reading.tokens, around, length, max_tokens)


def _parts(prompt: ChatPrompt, text: str, starts: Sequence[int] | None) -> Iterator[PromptPart]:
    """Each span. Templates may cut white space off a turn; where a turn
    cannot be found at all, its tokens count as the template's."""
    place = 0
    for turn in prompt.turns:
        pieces = turn.prompt.pieces()
        content = "".join(pieces)
        core = content.strip()
        begin = text.find(core, place)
        is_found = begin >= 0
        # Where the content begins, were it not for what was cut off before it.
        at = begin - (len(content) - len(content.lstrip()))
        low = begin
        for span, piece in zip(turn.prompt.spans, pieces, strict=True):
            at += len(piece)
            high = min(max(at, low), begin + len(core))
            tokens = None
            if starts is not None:
                tokens = _between(starts, low, high) if is_found else 0
            label = turn.label or (f"{{{{{span.label}}}}}" if span.label else turn.role)
            yield PromptPart(turn.role, label, piece, span.untrusted, tokens)
            low = high
        place = low if is_found else place


def _between(starts: Sequence[int], low: int, high: int) -> int:
    return bisect.bisect_left(starts, high) - bisect.bisect_left(starts, low)
