"""Token ids to text: the exact bytes of every token, and text as the tokens arrive.

Covers the decoders in use: byte-level BPE (GPT-2, LLaMA 3, SmolLM2, Qwen), SentencePiece with
byte fallback (LLaMA 2, Gemma, T5) and WordPiece (BERT). Text is the concatenation of bytes, read
as UTF-8, so it can be produced token by token, and what was pushed never changes afterwards. Does
not cover stop strings (the engine's), nor CTC or suffix (``</w>``) decoders: a tokenizer with one
of those is refused.

Where this differs from the ``tokenizers`` library on purpose: the bytes of an added token are its
own UTF-8 bytes (the library reads them as byte-level letters), and malformed byte-fallback
sequences follow the Unicode recommendation for U+FFFD like the byte-level decoder does.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import UnsupportedError, shown

__all__ = ["Detokenizer", "Surfaces", "byte_letters", "surfaces"]

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>\Z")
# In this order, on one token at a time, as the library's WordPiece decoder does.
_CLEANUP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True)
class Surfaces:
    """``rest[i]``: bytes of token ``i`` after another token; ``first``: bytes where text begins
    (only those that differ). ``strip``: bytes dropped once from the start of the whole text."""

    rest: tuple[bytes, ...]
    first: Mapping[int, bytes]
    strip: bytes = b""


def byte_letters() -> dict[str, int]:
    """GPT-2's printable letter for each byte, inverted: letter -> byte value."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in set(printable)]
    letters = {chr(value): value for value in printable}
    letters.update({chr(256 + rank): value for rank, value in enumerate(others)})
    return letters


def surfaces(
    tokens: Sequence[str | None], added: Mapping[int, str], decoder: Mapping[str, Any] | None
) -> Surfaces:
    """Bytes of ``tokens`` (None: no such id) under ``decoder``, the JSON of tokenizer.json.

    ``added`` maps ids to the text of added tokens, which skip the alphabet of the vocabulary.
    """
    steps = _steps(decoder)
    kinds = {str(step.get("type")) for step in steps}
    if "WordPiece" in kinds:
        return _wordpiece(tokens, steps[0])
    if "ByteLevel" in kinds:
        return _plain(tokens, added, _byte_level_piece)
    if not steps:
        return _spaced(tokens)
    if "Metaspace" in kinds:
        return _metaspace(tokens, added, steps[0])
    if kinds <= {"Replace", "ByteFallback", "Fuse", "Strip"}:
        return _sentencepiece(tokens, steps)
    raise UnsupportedError(
        f"the tokenizer's decoder is {shown(sorted(kinds))}",
        hint="supported: ByteLevel, WordPiece, Metaspace, and Replace + ByteFallback",
    )


def _steps(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        return []
    if decoder.get("type") == "Sequence":
        return [step for inner in decoder.get("decoders", ()) for step in _steps(inner)]
    return [decoder]


def _plain(
    tokens: Sequence[str | None], added: Mapping[int, str], piece: Callable[[str], bytes]
) -> Surfaces:
    rest = tuple(
        added[i].encode() if i in added else b"" if token is None else piece(token)
        for i, token in enumerate(tokens)
    )
    return Surfaces(rest, {})


_LETTERS = byte_letters()


def _byte_level_piece(token: str) -> bytes:
    try:
        return bytes([_LETTERS[letter] for letter in token])
    except KeyError:
        return token.encode()


def _sentencepiece(tokens: Sequence[str | None], steps: Sequence[Mapping[str, Any]]) -> Surfaces:
    fallback = any(step["type"] == "ByteFallback" for step in steps)
    replacements = [
        (str(step["pattern"].get("String", "")), str(step["content"]))
        for step in steps
        if step["type"] == "Replace"
    ]
    strips = [step for step in steps if step["type"] == "Strip" and step.get("start")]

    def piece(token: str) -> bytes:
        match = _BYTE_TOKEN.match(token) if fallback else None
        if match:
            return bytes([int(match[1], 16)])
        for old, new in replacements:
            token = token.replace(old, new)
        return token.encode()

    # Added pieces may be runs of marks (Gemma): they stand for spaces as well.
    table = _plain(tokens, {}, piece)
    strip = str(strips[0].get("content", " ")).encode() * int(strips[0]["start"]) if strips else b""
    return Surfaces(table.rest, {}, strip)


def _metaspace(
    tokens: Sequence[str | None], added: Mapping[int, str], step: Mapping[str, Any]
) -> Surfaces:
    mark = str(step.get("replacement", "▁"))
    table = _plain(tokens, added, lambda token: token.replace(mark, " ").encode())
    if step.get("prepend_scheme", "always") == "never":
        return table
    first = {
        i: token.replace(mark, "").encode()
        for i, token in enumerate(tokens)
        if token is not None and mark in token and i not in added
    }
    return Surfaces(table.rest, first)


def _wordpiece(tokens: Sequence[str | None], step: Mapping[str, Any]) -> Surfaces:
    prefix = str(step.get("prefix", "##"))
    clean = _cleanup if step.get("cleanup", True) else str
    rest: list[bytes] = []
    first: dict[int, bytes] = {}
    for i, token in enumerate(tokens):
        if token is None:
            rest.append(b"")
            continue
        text = token[len(prefix) :] if token.startswith(prefix) else f" {token}"
        rest.append(clean(text).encode())
        first[i] = clean(token).encode()
    return Surfaces(tuple(rest), first)


def _cleanup(text: str) -> str:
    for old, new in _CLEANUP:
        text = text.replace(old, new)
    return text


def _spaced(tokens: Sequence[str | None]) -> Surfaces:
    """No decoder at all: the library puts one space between tokens."""
    rest = tuple(b"" if token is None else f" {token}".encode() for token in tokens)
    first = {i: token.encode() for i, token in enumerate(tokens) if token is not None}
    return Surfaces(rest, first)


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
