"""What a tokenizer puts in the place of parts that ``tokenizer.json`` cannot describe exactly.

The file that is saved keeps the nearest parts that the format has, for other libraries; the
encoding in this process uses these. They are SentencePiece's own library inside the ``tokenizers``
pipeline, which reads the same vocabularies and differs on some texts: it normalizes grapheme by
grapheme, adds scores in float64 and lets text that spells a control token match it. So the
original library normalizes and cuts, and ``tokenizers`` looks the pieces up and keeps offsets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import FormatError

__all__ = ["Exact", "OriginalCuts", "OriginalRules"]

# Stand-ins while the text is rewritten; planes without assigned characters.
_PLACES = range(0x10FFFD, 0xF0000, -1)
_FAN = 24


@dataclass(frozen=True)
class Exact:
    """``spec``: the value of tokenizer.json for the encoding in memory. ``normalizer`` and
    ``pre_tokenizer``: objects of the ``tokenizers`` library that take the place of its own.
    ``files``: name and bytes of what is saved beside tokenizer.json, from which all this can be
    made again."""

    spec: Mapping[str, Any]
    normalizer: Any
    pre_tokenizer: Any
    files: Mapping[str, bytes] = field(default_factory=dict)

    def framed(self, post_processor: Any) -> Exact:
        """The same with what is added around texts."""
        return dataclasses.replace(self, spec={**self.spec, "post_processor": post_processor})

    def install(self, backend: Any) -> None:
        """Put the parts into a `tokenizers.Tokenizer` made from ``spec``."""
        backend.normalizer = self.normalizer
        backend.pre_tokenizer = self.pre_tokenizer


def _processor(model: bytes) -> Any:
    """A `sentencepiece.SentencePieceProcessor`, which checks the model."""
    import sentencepiece

    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise FormatError(
            f"the SentencePiece model cannot be used: {error}",
            hint="the file is damaged: download it again",
        ) from error


class OriginalRules:
    """A normalizer for `tokenizers.normalizers.Normalizer.custom`."""

    def __init__(self, model: bytes) -> None:
        self._processor = _processor(model)

    def normalize(self, text: Any) -> None:
        """Rewrite a `tokenizers.NormalizedString` in place, so that it still knows which original
        characters stand where: one letter for one in its `map`, anything else by a stand-in that
        its `replace` finds."""
        before: str = text.normalized
        after, starts = self._processor.normalize(before, with_offsets=True)
        if before == after:
            return
        if not after:
            text.clear()
            return
        present = set(before)
        free = (place for place in map(chr, _PLACES) if place not in present)
        places: dict[tuple[int, str], str] = {}
        letters: list[str] = []
        filler = next(free)
        for end, replacement in _edits(after, starts, len(before)):
            length = end - len(letters)
            if length == len(replacement) == 1:
                letters.append(replacement)
                continue
            key = (length, replacement)
            if key not in places:
                places[key] = next(free)
            letters += [places[key]] + [filler] * (length - 1)
        following = iter(letters)
        text.map(lambda _: next(following))
        for (length, replacement), place in places.items():
            text.replace(place + filler * (length - 1), replacement)


def _edits(after: str, starts: Sequence[int], size: int) -> Iterator[tuple[int, str]]:
    """Ends of the parts of the original, one after the other, and what each became. ``starts``:
    where each character came from, and where the last one ended."""
    written = 0
    if starts[0]:
        yield starts[0], ""
    for end in range(1, len(starts)):
        if starts[end] > starts[end - 1]:
            yield starts[end], after[written:end]
            written = end
    if written < len(after) or starts[-1] < size:
        yield size, after[written:]


class OriginalCuts:
    """A pre-tokenizer for `tokenizers.pre_tokenizers.PreTokenizer.custom`: a text that is
    normalized already to its pieces."""

    def __init__(self, model: bytes) -> None:
        self._processor = _processor(model)

    def pre_tokenize(self, pretokenized: Any) -> None:
        pretokenized.split(lambda _, text: list(_cut(text, self._spans(text.normalized), 0)))

    def _spans(self, text: str) -> list[tuple[int, int]]:
        spans, end = [], 0
        for piece in self._processor.encode(text, out_type=str):
            spans.append((end, end + len(piece)))
            end += len(piece)
        return spans


def _cut(text: Any, spans: list[tuple[int, int]], origin: int) -> Iterator[Any]:
    """The library's slices take as long as the text they come from, so cut in two steps or more."""
    if len(spans) <= _FAN:
        for start, end in spans:
            yield text[start - origin : end - origin]
        return
    step = -(-len(spans) // _FAN)
    for at in range(0, len(spans), step):
        part = spans[at : at + step]
        low, high = part[0][0], part[-1][1]
        yield from _cut(text[low - origin : high - origin], part, low)
