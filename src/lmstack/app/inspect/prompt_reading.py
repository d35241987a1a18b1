"""How a model on this machine reads a prompt: its chat template and tokenizer, without weights."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from lmstack.core import Message, UnsupportedError
from lmstack.prompting import TokenReading

if TYPE_CHECKING:
    from lmstack.text import Tokenizer

__all__ = ["ModelReader"]


class ModelReader:
    """The `PromptTokenizer` of the model ``name``. Nothing is downloaded."""

    def __init__(self, name: str) -> None:
        from lmstack.app.inspect.inspection import read_config
        from lmstack.registry import Store, load_text

        folder = Store().resolve(name)
        found = load_text(folder)
        if found.template is None:
            raise UnsupportedError(
                f"{found.name} has no chat template, so it reads no conversation",
                hint="name a model that chats",
                param="model",
            )
        self.name, self._tokenizer, self._template = found.name, found.tokenizer, found.template
        self.context_length: int | None = read_config(folder).max_positions

    def read(self, messages: Sequence[Message]) -> TokenReading:
        text = self._template.render(messages)
        ids = self._template.encode(messages, self._tokenizer)
        return TokenReading(text, len(ids), _starts(text, ids, self._tokenizer))


def _starts(text: str, ids: Sequence[int], tokenizer: Tokenizer) -> list[int] | None:
    [encoding] = tokenizer.unfinished([text])
    if list(encoding.ids) == list(ids):
        return [start for start, _ in encoding.offsets]
    # A control token is spelled in the prompt, and is ordinary text there: by the bytes of each.
    names = {index: name.encode() for name, index in tokenizer.special_tokens.items()}
    pieces = [names.get(index) or tokenizer.token_bytes(index) for index in ids]
    if b"".join(pieces) != text.encode():
        return None
    bounds = [0, *accumulate(len(piece) for piece in pieces)][:-1]
    places = [0, *accumulate(len(char.encode()) for char in text)]
    chars = {place: number for number, place in enumerate(places)}
    # A token that begins inside of a character begins with it.
    return [next(chars[b - n] for n in range(4) if b - n in chars) for b in bounds]
