"""SentencePiece's compiled normalization rules, applied exactly.

A rule replaces a source string by another; at each place of the text the longest source counts.
The ``tokenizers`` library applies the same rules grapheme by grapheme instead, which loses
combining marks and some control characters, so this module does it. Offsets stay those of the
original text; a source of several characters is told by its last. Does not cover the steps around
the rules (spaces), which `sentencepiece.py` gives to the library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from lmstack.core import FormatError

__all__ = ["CharsMap", "Rules"]

# Stand-ins while the library's text is rewritten; planes without assigned characters.
_PLACES = range(0x10FFFD, 0xF0000, -1)
_CHUNK = 32


class Rules:
    """A ``precompiled_charsmap``: a Darts double array and a block of strings."""

    def __init__(self, blob: bytes = b"") -> None:
        size = int.from_bytes(blob[:4], "little") if len(blob) >= 4 else 0
        if blob and (size % 4 or not 0 < size <= len(blob) - 4):
            raise _damaged("its size is wrong")
        self._units: list[int] = np.frombuffer(blob, "<u4", size // 4, 4 if size else 0).tolist()
        self._strings = blob[4 + size :]

    def longest(self, text: str, at: int = 0) -> tuple[int, str] | None:
        """End and replacement of the longest source that stands at ``at``."""
        length = _CHUNK
        while True:
            data = text[at : at + length].encode()
            found, ended = self._walk(data)
            if ended or at + length >= len(text):
                break
            length *= 2
        if found is None:
            return None
        size, value = found
        stop = self._strings.find(b"\0", value)
        if stop < 0:
            raise _damaged("a rule points outside it")
        try:
            source, replacement = data[:size].decode(), self._strings[value:stop].decode()
        except UnicodeDecodeError as error:
            raise _damaged("a rule is no text") from error
        return at + len(source), replacement

    def begins(self, text: str) -> bool:
        """Whether some source starts with ``text`` and goes on."""
        units, data = self._units, text.encode()
        place = self._descend(data)
        return place is not None and any(
            place ^ label < len(units) and units[place ^ label] & 0x800000FF == label
            for label in range(1, 256)
        )

    def _descend(self, data: bytes) -> int | None:
        """Where the children of ``data`` are; None if no source starts so."""
        units = self._units
        if not units:
            return None
        place = _base(units[0])
        for byte in data:
            place ^= byte
            if place >= len(units) or units[place] & 0x800000FF != byte:
                return None
            place ^= _base(units[place])
        return place

    def _walk(self, data: bytes) -> tuple[tuple[int, int] | None, bool]:
        """Bytes and value of the longest source that ``data`` starts with; whether a byte that no
        source has ended the search."""
        units = self._units
        found: tuple[int, int] | None = None
        if not units:
            return None, True
        place = _base(units[0])
        for count, byte in enumerate(data, 1):
            place ^= byte
            if place >= len(units):
                return found, True
            unit = units[place]
            if unit & 0x800000FF != byte:
                return found, True
            place ^= _base(unit)
            if unit & 0x100:
                if place >= len(units):
                    raise _damaged("a rule has no value")
                found = count, units[place] & 0x7FFFFFFF
        return found, False


class CharsMap:
    """A normalizer for `tokenizers.normalizers.Normalizer.custom`.

    ``kept``: strings that the rules leave alone (user-defined pieces). ``prefix``: put in front
    of any text, even one of which the rules leave nothing.
    """

    def __init__(self, rules: Rules, kept: Iterable[str] = (), prefix: str = "") -> None:
        self._rules = rules
        self._prefix = prefix
        self._kept = frozenset(kept)
        longest_first = sorted(filter(None, self._kept), key=len, reverse=True)
        self._kept_pattern = "|".join(re.escape(piece) for piece in longest_first)
        # What was asked before: characters with a rule, characters and pairs that begin one.
        self._single: dict[str, bool] = {}
        self._head: dict[str, bool] = {}
        self._pair: dict[str, bool] = {}

    def normalize(self, text: Any) -> None:
        """Rewrite a `tokenizers.NormalizedString` in place."""
        before = text.normalized
        edits = list(self.edits(before))
        if self._prefix and edits and not _applied(before, edits):
            # The library puts nothing in front of an empty text; SentencePiece does.
            text.replace(before, self._prefix)
            return
        if edits:
            _rewrite(text, before, edits)
        if self._prefix:
            text.prepend(self._prefix)

    def apply(self, text: str) -> str:
        """``text`` by the rules."""
        return _applied(text, self.edits(text))

    def edits(self, text: str) -> Iterator[tuple[int, int, str]]:
        """``(start, end, replacement)`` of every rule that changes something, in order."""
        candidate = self._candidates(text)
        at = 0
        while candidate is not None and (match := candidate.search(text, at)) is not None:
            start = match.start()
            if match[0] in self._kept:
                at = match.end()
                continue
            at = start + 1
            found = self._rules.longest(text, start)
            if found is not None:
                at, replacement = found
                if replacement != text[start:at]:
                    yield start, at, replacement

    def _candidates(self, text: str) -> re.Pattern[str] | None:
        """What to look at in ``text``: places where a rule may apply. None: there are none."""
        present = set(text)
        singles = {c for c in present if _asked(self._single, c, self._is_source)}
        heads = {c for c in present - singles if _asked(self._head, c, self._rules.begins)}
        pairs = {a + b for a, b in set(pairwise(text)) if a in heads}
        hits = [pair for pair in pairs if _asked(self._pair, pair, self._is_start)]
        if not singles and not hits:
            return None
        parts = [self._kept_pattern] if self._kept_pattern else []
        if singles:
            parts.append(_one_of(singles))
        if hits:
            first, second = {pair[0] for pair in hits}, {pair[1] for pair in hits}
            parts.append(f"{_one_of(first)}(?={_one_of(second)})")
        return re.compile("|".join(parts))

    def _is_source(self, character: str) -> bool:
        return self._rules.longest(character) is not None

    def _is_start(self, pair: str) -> bool:
        return self._rules.longest(pair) is not None or self._rules.begins(pair)


def _asked(memory: dict[str, bool], key: str, question: Callable[[str], bool]) -> bool:
    answer = memory.get(key)
    if answer is None:
        if len(memory) > 100_000:
            memory.clear()
        answer = memory[key] = question(key)
    return answer


def _applied(text: str, edits: Iterable[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    at = 0
    for start, end, replacement in edits:
        parts += [text[at:start], replacement]
        at = end
    return "".join([*parts, text[at:]])


def _rewrite(text: Any, before: str, edits: Iterable[tuple[int, int, str]]) -> None:
    """Edit the library's text so that it still knows which original characters stand where: one
    letter for one in its `map`, anything else by a stand-in that its `replace` finds."""
    present = set(before)
    free = (place for place in map(chr, _PLACES) if place not in present)
    places: dict[tuple[int, str], str] = {}
    letters: list[str] = list(before)
    filler = next(free)
    for start, end, replacement in edits:
        if end - start == len(replacement) == 1:
            letters[start] = replacement
            continue
        key = (end - start, replacement)
        if key not in places:
            places[key] = next(free)
        letters[start:end] = [places[key]] + [filler] * (end - start - 1)
    following = iter(letters)
    text.map(lambda _: next(following))
    for (length, replacement), place in places.items():
        text.replace(place + filler * (length - 1), replacement)


def _base(unit: int) -> int:
    return (unit >> 10) << ((unit & 0x200) >> 6)


def _one_of(characters: Iterable[str]) -> str:
    return "[" + "".join(re.escape(character) for character in sorted(characters)) + "]"


def _damaged(why: str) -> FormatError:
    return FormatError(
        f"the normalization rules of the SentencePiece model cannot be read: {why}",
        hint="the file is damaged: download it again",
    )
