"""The language of a document, where it is sure: py3langid's model, which comes in its package.

Plain English is told by its little words, without the model, which takes a second and a hundred
megabytes to load (once in a process, when the first other text comes). Code and tables have no
language; neither has a text of a few words. One language a document: the one most of it is in.
"""

from __future__ import annotations

import io
import lzma
import re
import threading
from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from lmstack.rag.documents import Block, Format

__all__ = ["detect_language"]

# At this confidence 97 of 100 answers are right on lines of 20 to 40 characters.
SURE = 0.7
MIN_LETTERS, SAMPLE_CHARS = 20, 4_000
_ENGLISH = frozenset(
    ("the", "of", "and", "to", "is", "that", "for", "it", "with", "are", "be", "this", "by", "not")
)
ENGLISH_WORDS, ENGLISH_SHARE, ENGLISH_DISTINCT = 40, 0.15, 6
_WORD = re.compile(r"[^\W\d_]+")
_MARKUP = re.compile(r"https?://\S+|`[^`]*`|<[^>]*>")
# Codes for the same language that filters should not tell apart.
_SAME = {"nb": "no", "nn": "no"}
_LOCK = threading.Lock()


def detect_language(text: str, blocks: Sequence[Block], kind: Format) -> str:
    """ISO 639-1 code, or empty."""
    if kind in ("code", "csv", "jsonl"):
        return ""
    sample = _MARKUP.sub(" ", _sample(text, blocks))
    words = _WORD.findall(sample)
    if sum(map(len, words)) < MIN_LETTERS:
        return ""
    little = [word for word in map(str.lower, words) if word in _ENGLISH]
    if (
        len(words) >= ENGLISH_WORDS
        and len(little) >= ENGLISH_SHARE * len(words)
        and len(set(little)) >= ENGLISH_DISTINCT
    ):
        return "en"
    with _LOCK:
        code, confidence = _model().classify(" ".join(words))
    code = _SAME.get(code, code)
    return code if confidence >= SURE and len(code) == 2 else ""


def _sample(text: str, blocks: Sequence[Block]) -> str:
    """The first prose, from three places of the document."""
    third = len(text) // 3
    return " ".join(piece for place in range(3) for piece in _prose(text, blocks, place * third))


def _prose(text: str, blocks: Sequence[Block], start: int) -> Iterator[str]:
    room = SAMPLE_CHARS // 3
    for block in blocks:
        if block.end <= start or block.kind in ("code", "table", "matter", "heading"):
            continue
        piece = text[max(block.start, start) : min(block.end, max(block.start, start) + room)]
        yield piece
        room -= len(piece)
        if room <= 0:
            return


@cache
def _model() -> Any:
    """The classifier, unpacked in memory: the package's own loader wants a temporary file, which
    a worker may not write."""
    import numpy as np
    from py3langid.langid import MODEL_DIR, MODEL_FILE, LanguageIdentifier

    with lzma.open(MODEL_DIR / MODEL_FILE) as file:
        packed = io.BytesIO(file.read())
    with np.load(packed, allow_pickle=False) as model:
        return LanguageIdentifier(
            model["ptc"],
            model["pc"],
            model["classes"].tolist(),
            _array(model["nextmove"]),
            model["out_feat"].tolist(),
            norm_probs=True,
            tk_row=_array(model["nextmove_row"]),
        )


def _array(values: Any) -> array[int]:
    """Unsigned integers as an array of the standard library, whose elements are read faster."""
    result: array[int] = array({2: "H", 4: "I", 8: "L"}[values.dtype.itemsize])
    result.frombytes(values.tobytes())
    return result
