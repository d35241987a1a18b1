"""What a tokenizer makes of a text: counts that tokenizers are compared by, and its pieces.

Covers tokens, bytes per token, fertility (tokens per word), unknowns, whether the text comes back
unchanged, and the text cut where the tokens are. Strings in the text that spell a control token
are ordinary text here, as in every text that others wrote. Does not cover layout: tables, colours
and pages are made elsewhere.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from lmstack.core import check_range
from lmstack.text.tokenizer import Tokenizer

__all__ = ["TokenPiece", "TokenReport", "count_words", "pieces", "token_report"]

# Chinese characters and Japanese kana, which are written without spaces between words.
_UNSPACED = "\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(f"[{_UNSPACED}]|[^\\s{_UNSPACED}]+")


@dataclass(frozen=True, slots=True)
class TokenPiece:
    """``text[start:end]`` and the tokens that stand for it: one, several where they share a
    character, or none for text that the tokenizer drops."""

    text: str
    start: int
    end: int
    ids: tuple[int, ...]
    unknown: bool = False


@dataclass(frozen=True)
class TokenReport:
    """``words`` as `count_words` counts them. ``exact``: decoding gives the text back. ``price``:
    of these tokens, None if the price of a million was not given. Ratios are None for an empty
    text."""

    name: str
    vocab_size: int
    tokens: int
    characters: int
    bytes: int
    words: int
    unknowns: int
    exact: bool
    price: float | None = None

    @property
    def bytes_per_token(self) -> float | None:
        return self.bytes / self.tokens if self.tokens else None

    @property
    def fertility(self) -> float | None:
        """Tokens per word (Rust et al. 2021): 1 for a vocabulary that knows every word."""
        return self.tokens / self.words if self.words else None


def count_words(text: str) -> int:
    """Runs of characters between white space; a Chinese character or a kana is one by itself."""
    return sum(1 for _ in _WORD.finditer(text))


def token_report(
    name: str, tokenizer: Tokenizer, text: str, price_per_million: float | None = None
) -> TokenReport:
    """Count ``text`` as ``tokenizer`` sees it, without the tokens that it adds."""
    if price_per_million is not None:
        check_range("price", price_per_million, 0, float("inf"), high_open=True)
    ids = tokenizer.encode(text, special=False, add_special_tokens=False)
    unknown = tokenizer.unknown_ids
    return TokenReport(
        name=name,
        vocab_size=tokenizer.vocab_size,
        tokens=len(ids),
        characters=len(text),
        bytes=len(text.encode()),
        words=count_words(text),
        unknowns=sum(1 for index in ids if index in unknown) if unknown else 0,
        exact=tokenizer.decode(ids) == text,
        price=None if price_per_million is None else price_per_million * len(ids) / 1_000_000,
    )


def pieces(tokenizer: Tokenizer, text: str) -> Iterator[TokenPiece]:
    """``text`` cut at its tokens; joined, the pieces are the text again."""
    [encoding] = tokenizer.encode_batch([text], special=False, add_special_tokens=False)
    ids = encoding.ids
    spans = _byte_spans(tokenizer, ids, text)
    unknown = tokenizer.unknown_ids
    position = 0
    for start, end, members in _grouped(spans if spans is not None else encoding.offsets):
        start, end = max(start, position), max(end, position)
        if start > position:
            yield TokenPiece(text[position:start], position, start, ())
        own = tuple(ids[i] for i in members)
        yield TokenPiece(text[start:end], start, end, own, not unknown.isdisjoint(own))
        position = end
    if position < len(text):
        yield TokenPiece(text[position:], position, len(text), ())


def _byte_spans(
    tokenizer: Tokenizer, ids: Sequence[int], text: str
) -> list[tuple[int, int]] | None:
    """The characters that each token touches, from its exact bytes; None if the bytes of the
    tokens are not those of the text (it was normalized, or something is unknown). Better than
    the library's offsets, which leave out the space before a word."""
    parts = [tokenizer.token_bytes(index) for index in ids]
    data = text.encode()
    joined = b"".join(parts)
    lead = 0
    if joined == b" " + data:
        lead = 1  # SentencePiece puts a space before the first word
    elif joined != data:
        return None
    if len(data) == len(text):
        ends = [max(0, total - lead) for total in accumulate(map(len, parts))]
        return list(zip([0, *ends][:-1], ends, strict=True))
    # Byte position of each character's end.
    stops = list(accumulate(len(character.encode()) for character in text))
    spans, done = [], -lead
    for part in parts:
        first = bisect_left(stops, max(0, done) + 1)
        done += len(part)
        last = bisect_left(stops, done) + 1 if done > 0 else 0
        spans.append((min(first, last), last))
    return spans


def _grouped(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, list[int]]]:
    """Tokens that share a character become one group; a token of nothing joins its neighbour."""
    group: list[int] = []
    low = high = 0
    for index, (start, end) in enumerate(spans):
        if group and (start < high or start == end or low == high):
            group.append(index)
            high = max(high, end)
            continue
        if group:
            yield low, high, group
        group, low, high = [index], start, end
    if group:
        yield low, high, group
