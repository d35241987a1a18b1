"""Token ids to text as they arrive. Text that was pushed never changes afterwards.

Covers UTF-8 split over tokens: a character is held back until its last byte is there, and bytes
that can no longer become one turn into U+FFFD at the moment that is certain. Does not cover stop
strings (the engine's) or markup of special tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable

__all__ = ["Detokenizer"]


class Detokenizer:
    """One stream's state; not shared between threads.

    ``"".join(push(i) for i in ids) + flush() == tokenizer.decode(ids)``.
    """

    def __init__(self, piece: Callable[[int, bool], bytes | None], strip: bytes = b"") -> None:
        """``piece(id, at_start)``: bytes of the token, None if it is skipped.
        ``strip``: bytes dropped once from the start of the text."""
        self._piece = piece
        self._strip = strip
        self._at_start = True
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token_id: int) -> str:
        """Characters that became certain with this token; may be empty."""
        data = self._piece(token_id, self._at_start)
        if data is None:
            return ""
        self._at_start = False
        if self._strip and data:
            data = data.removeprefix(self._strip)
            self._strip = b""
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is still held back (U+FFFD for an unfinished character); the stream starts anew."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
