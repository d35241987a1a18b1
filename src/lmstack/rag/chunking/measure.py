"""How long a text is in tokens, and where it can be cut: between lines, sentences, at separators.

A cutter returns ascending offsets strictly inside of the stretch, so that the pieces between them
leave nothing out. Does not choose where to cut (`strategies`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt

from lmstack.rag.sentences import sentence_spans

__all__ = [
    "MAX_CHARS_PER_TOKEN",
    "CountTokens",
    "Cutter",
    "Ints",
    "Span",
    "TextMeasure",
    "TokenMeter",
    "line_bounds",
    "sentence_bounds",
    "separator_cutter",
    "strip",
]

Ints = npt.NDArray[np.int64]
Span = tuple[int, int]
Cutter = Callable[[str, int, int], Ints]
_LINE_END = re.compile(r"\n(?=.)", re.S)
# Punkt needs time quadratic in the length of a run such as "!?!?!?".
_RUN = re.compile(r"\S{400,}")
# Ends of sentences in scripts that put no space after them.
_WIDE_END = re.compile(r"[。！？｡][”’」』）]*(?=.)", re.S)


def line_bounds(text: str, start: int, end: int) -> Ints:
    return _ints([m.end() for m in _LINE_END.finditer(text, start, end)])


def sentence_bounds(text: str, start: int, end: int) -> Ints:
    """Each sentence takes the markers before it along. Long runs without white space stay as
    they are, but for the full stops of Chinese and Japanese."""
    found: list[int] = []
    position = start
    for run in _RUN.finditer(text, start, end):
        found += _prose(text, position, run.start())
        found += [run.start(), *_wide(text, *run.span()), run.end()]
        position = run.end()
    found += _prose(text, position, end)
    return _ints(sorted({offset for offset in found if start < offset < end}))


def _prose(text: str, start: int, end: int) -> list[int]:
    if start >= end:
        return []
    piece = text[start:end]
    return [*(start + b for _, b in sentence_spans(piece)), *_wide(text, start, end)]


def _wide(text: str, start: int, end: int) -> list[int]:
    return [m.end() for m in _WIDE_END.finditer(text, start, end)]


def separator_cutter(separator: str) -> Cutter:
    """Cuts after each ``separator``."""
    width = len(separator)

    def cut(text: str, start: int, end: int) -> Ints:
        found: list[int] = []
        position = text.find(separator, start, end)
        while position >= 0:
            position += width
            if position < end:
                found.append(position)
            position = text.find(separator, position, end)
        return _ints(found)

    return cut


def strip(text: str, start: int, end: int) -> Span | None:
    """The span without white space at its ends, nor the byte-order mark that begins a file; None
    if nothing is left."""
    piece = text[start:end]
    if start == 0 and piece.startswith("\ufeff"):
        start, piece = 1, piece[1:]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return (start + left, start + right) if left < right else None


def _ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)


CountTokens = Callable[[Sequence[str]], list[int]]
# A token is counted as at least this many characters' worth: WordPiece makes one unknown token
# of a base64 line and none of a run of spaces, and chunks must stay readable all the same.
MAX_CHARS_PER_TOKEN = 16
# Longer words are measured in parts, so that texts without spaces can be cut too.
_LONG, _PART = 48, 32
# Words remembered: about 30 MB.
_MAX_WORDS = 200_000
_BATCH = 8192
_PLAIN = re.compile(r"[ \t\n\r]+")
# By code point: 1 for white space that parts words for every tokenizer, 2 for the other kinds.
_SPACE = np.zeros(0x3002, np.uint8)
_SPACE[[code for code in range(0x3001) if chr(code).isspace()]] = 2
_SPACE[[ord(c) for c in " \t\n\r"]] = 1


class TokenMeter:
    """Counts of words, remembered across documents. ``count`` is `Embedder.count_tokens`;
    ``by_word`` says that its counts of words add up to that of their text."""

    def __init__(self, count: CountTokens, *, by_word: bool = False) -> None:
        self._count = count
        self.by_word = by_word
        # Not what an empty text has: a space that ends a prefix may be a token there, and part of
        # the first word elsewhere.
        one, two = count(["a", "a a"])
        self.overhead = 2 * one - two
        self._known: dict[str, int] = {}

    def words(self, words: Sequence[str]) -> Ints:
        """Tokens of each word, special ones left out."""
        known = self._known
        if len(known) > _MAX_WORDS:
            known.clear()
        missing = [word for word in dict.fromkeys(words) if word not in known]
        for start in range(0, len(missing), _BATCH):
            part = missing[start : start + _BATCH]
            counts = self._count(part)
            known.update((w, n - self.overhead) for w, n in zip(part, counts, strict=True))
        return np.fromiter(map(known.__getitem__, words), np.int64, len(words))

    def texts(self, texts: Sequence[str]) -> list[int]:
        """Exact tokens of whole texts, special ones included."""
        if not texts:
            return []
        if not self.by_word:
            return self._count(texts)
        split = [[w for w in _PLAIN.split(text) if w] for text in texts]
        counts = iter(self.words(list(chain.from_iterable(split))).tolist())
        return [self.overhead + sum(next(counts) for _ in words) for words in split]

    def counted(self, texts: Sequence[str]) -> list[int]:
        """As `texts`, by the tokenizer itself: for texts cut inside a word."""
        return self._count(texts) if texts else []


class TextMeasure:
    """One text as units: its words, long ones in parts. Unit ``i`` is
    ``text[starts[i]:ends[i]]``."""

    def __init__(self, text: str, meter: TokenMeter) -> None:
        self.meter = meter
        starts, ends, words = _words(text)
        counts = meter.words(words)
        self.starts, self.ends, self._inner, counts = _parts(starts, ends, counts)
        gaps = np.diff(self.starts, append=len(text))
        weights = np.maximum(counts, gaps // MAX_CHARS_PER_TOKEN)
        self._counts = np.concatenate(([0], np.cumsum(counts)))
        self._weights = np.concatenate(([0], np.cumsum(weights)))

    def before(self, offsets: Ints) -> Ints:
        """Weight of all units that end at or before each offset."""
        return self._weights[np.searchsorted(self.ends, offsets, "right")]

    def upto(self, offsets: Ints) -> Ints:
        """Weight of all units that begin before each offset: one cut by it counts whole."""
        return self._weights[np.searchsorted(self.starts, offsets, "left")]

    def weight(self, start: int, end: int) -> int:
        """Tokens of a stretch for packing: an estimate from above, at least one for
        `MAX_CHARS_PER_TOKEN` characters."""
        first, last = self.ends.searchsorted(start, "right"), self.starts.searchsorted(end, "left")
        return int(self._weights[last] - self._weights[first])

    def inside(self, start: int, end: int) -> Ints:
        """Offsets strictly between ``start`` and ``end`` at which a unit begins."""
        low, high = np.searchsorted(self.starts, (start, end), "left")
        if low < high and self.starts[low] == start:
            low += 1
        return self.starts[low:high]

    def exact(self, starts: Ints, ends: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Tokens of each stretch, and whether that is what the tokenizer would say."""
        low = np.searchsorted(self.ends, starts, "right")
        high = np.searchsorted(self.starts, ends, "left")
        sure = np.full(len(starts), self.meter.by_word)
        if len(self.starts):
            first = np.minimum(low, len(self.starts) - 1)
            last = np.clip(high - 1, 0, len(self.starts) - 1)
            sure &= (self.starts[first] == starts) & (self.ends[last] == ends)
            # A part of a long word is an estimate; the whole word is not.
            sure &= ~self._inner[first] & ~self._inner[high]
        return self._counts[high] - self._counts[low], sure


def _words(text: str) -> tuple[Ints, Ints, list[str]]:
    """Starts, ends and texts of what stands between plain white space."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    kinds = _SPACE[np.minimum(codes, len(_SPACE) - 1)]
    edges = np.flatnonzero(np.diff((kinds == 1).view(np.int8), prepend=1, append=1))
    starts, ends = edges[0::2], edges[1::2]
    if not (kinds == 2).any():
        return starts, ends, text.split()
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return starts, ends, [text[start:end] for start, end in pairs]


def _parts(
    starts: Ints, ends: Ints, counts: Ints
) -> tuple[Ints, Ints, npt.NDArray[np.bool_], Ints]:
    """Starts, ends and counts with long words in parts, which share the word's tokens by their
    length, and which units continue the word before (one more entry than units, False)."""
    long = np.flatnonzero(ends - starts > _LONG)
    if not len(long):
        return starts, ends, np.zeros(len(starts) + 1, bool), counts
    cuts = [np.arange(starts[i] + _PART, ends[i], _PART) for i in long]
    before = np.cumsum(counts) - counts
    shares = [
        before[i] + counts[i] * (cut - starts[i]) // (ends[i] - starts[i])
        for i, cut in zip(long, cuts, strict=True)
    ]
    order = np.argsort(np.concatenate((starts, *cuts)), kind="stable")
    inner = np.arange(len(order)) >= len(starts)
    running = np.concatenate((before, *shares))[order]
    total = int(counts.sum())
    return (
        np.concatenate((starts, *cuts))[order],
        np.sort(np.concatenate((ends, *cuts))),
        np.append(inner[order], False),
        np.diff(running, append=total),
    )
