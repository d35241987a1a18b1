"""A conversation that ends with an answer, as a reward model reads it.

With a chat template it is the rendered conversation, as transformers encodes it without a prompt
for the next turn. Without one, for encoders, it is a pair of texts: all that came before, a line
``role: content`` a turn, and the answer. What is too long loses its beginning, because the score is
about the answer. Does not cover the score itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from lmstack.core import InputError, Message
from lmstack.text.chat import ChatTemplate
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.windows import Window, encode_windows

__all__ = ["encode_exchange"]

T = TypeVar("T")


def encode_exchange(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    max_length: int,
) -> tuple[Window, int]:
    """The tokens of ``messages``, at most ``max_length``, and how many were cut. Control tokens
    spelled in a message are text. `InputError`: the last turn is not the assistant's, or there is
    nothing before it."""
    if len(messages) < 2 or messages[-1].role != "assistant":
        raise InputError(
            "a reward model scores an answer after a prompt",
            hint="end the conversation with a turn of the assistant",
            param="messages",
        )
    if template is not None:
        ids = template.encode(messages, tokenizer, add_generation_prompt=False)
        return _of_ids(ids[-max_length:]), max(len(ids) - max_length, 0)
    said = "\n".join(f"{message.role}: {message.content}" for message in messages[:-1])
    pairs = ([said], [messages[-1].content])
    ((window,),) = encode_windows(tokenizer, *pairs, special=False)
    return _cut(window, max_length), max(len(window) - max_length, 0)


def _of_ids(ids: Sequence[int]) -> Window:
    count = len(ids)
    nothing: tuple[None, ...] = (None,) * count
    return Window(tuple(ids), (0,) * count, ((0, 0),) * count, nothing, nothing)


def _cut(window: Window, max_length: int) -> Window:
    """``window`` without the first tokens of what came before the answer, and where that is not
    enough without the last ones of the answer. Tokens that the tokenizer added stay."""
    excess = len(window) - max_length
    if excess <= 0:
        return window
    before = [place for place, text in enumerate(window.sequences) if text == 0]
    answer = [place for place, text in enumerate(window.sequences) if text == 1]
    given_up = {*before[:excess], *answer[len(answer) - max(excess - len(before), 0) :]}
    kept = [place for place in range(len(window)) if place not in given_up]
    return Window(
        _at(kept, window.ids),
        _at(kept, window.types),
        _at(kept, window.offsets),
        _at(kept, window.sequences),
        _at(kept, window.words),
    )


def _at(places: Sequence[int], field: Sequence[T]) -> tuple[T, ...]:
    return tuple(field[place] for place in places)
