"""Any bytes as token ids and back, for vocabularies that have a token for every byte.

Text is encoded as text; bytes that are no UTF-8 become their own tokens. What comes back is checked
before the ids are handed out, so a vocabulary that normalizes is refused and never loses anything
in silence. Does not cover control tokens: bytes that spell one are ordinary text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from lmstack.core import UnsupportedError, shown
from lmstack.text.tokenizer import Tokenizer
from lmstack.text.vocab.byte_level import letters

__all__ = ["decode_bytes", "encode_bytes"]

_BROKEN = re.compile("[\udc80-\udcff]")


def encode_bytes(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """Token ids of ``data``, from which `decode_bytes` makes the same bytes."""
    ids: list[int] = []
    at = 0
    text = data.decode("utf-8", "surrogateescape")
    for match in _BROKEN.finditer(text):
        ids += _encoded(tokenizer, text[at : match.start()])
        ids.append(_byte_token(tokenizer, ord(match[0]) - 0xDC00))
        at = match.end()
    ids += _encoded(tokenizer, text[at:])
    if decode_bytes(tokenizer, ids) != data:
        raise UnsupportedError(
            "this vocabulary changes text before it cuts it, so not all bytes come back",
            hint="use one that does not, such as byte-level BPE",
        )
    return ids


def decode_bytes(tokenizer: Tokenizer, ids: Iterable[int]) -> bytes:
    """The bytes that ``ids`` stand for; control tokens stand for none."""
    return b"".join([tokenizer.token_bytes(index) for index in ids])


def _encoded(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, special=False, add_special_tokens=False) if text else []


def _byte_token(tokenizer: Tokenizer, value: int) -> int:
    data = bytes([value])
    for spelled in (letters(data), f"<0x{value:02X}>"):
        index = tokenizer.id_of(spelled)
        if index is not None and tokenizer.token_bytes(index) == data:
            return index
    raise UnsupportedError(
        f"this vocabulary has no token for the byte {shown(data)}",
        hint="use one with all bytes, such as byte-level BPE",
    )
