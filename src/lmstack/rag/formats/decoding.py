"""What the bytes of a file are: format, encoding, and the language of the text.

Text formats must be UTF-8, because offsets count the characters of the file; HTML and mail may
say otherwise. Encodings are not guessed: a wrong guess would change quotes in silence.

Languages are told by py3langid's model, where it is sure. Plain English is told by its function
words, without the model, which takes a second and a hundred megabytes to load (once in a process).
Code and tables have no language; neither has a text of a few words. One language a document: the
one most of it is in.
"""

from __future__ import annotations

import codecs
import io
import json
import lzma
import re
import threading
from array import array
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

from lmstack.rag.documents import Block, Format, ProblemError

__all__ = [
    "decode_declared",
    "decode_html",
    "decode_text",
    "detect_language",
    "language_among",
    "read_json",
    "sniff",
]

# At this confidence 97 of 100 answers are right on lines of 20 to 40 characters.
SURE = 0.7
# Of a question among the languages that it may be in: of 4,500 that people asked in five of these,
# 4 in 100 cannot be told, and hardly any is told wrongly.
SURE_AMONG = 0.9
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


def language_among(text: str, codes: Collection[str]) -> str:
    """Which of ``codes`` (ISO 639-1) a few words are in, empty where they may be in several."""
    with _LOCK:
        ranked = [(code, float(p)) for code, p in _model().rank(text) if code in codes]
    code, best = max(ranked, key=lambda each: each[1], default=("", 0.0))
    return code if best and best >= SURE_AMONG * sum(p for _, p in ranked) else ""


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


_CHARSET = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.I)
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_OLE = bytes.fromhex("d0cf11e0a1b11ae1")
_BINARY: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x7fELF", "a program"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"{\\rtf", "a rich text document (RTF)"),
)


def sniff(data: bytes, named: Format) -> Format:
    """The format of ``data`` by its first bytes: ``named`` where they do not say otherwise.
    Raises `ProblemError` for what no parser reads."""
    if b"%PDF-" in data[:1024] and (named == "pdf" or data.lstrip()[:5] == b"%PDF-"):
        return "pdf"
    if data.startswith(b"PK\x03\x04"):
        if named == "docx" or b"word/document.xml" in data:
            return "docx"
        raise _other("a ZIP archive", "unpack it")
    if data.startswith(_OLE):
        return "docx"  # which says what is wrong with it
    for magic, name in _BINARY:
        if data.startswith(magic):
            raise _other(name, "leave it out, or export it as PDF or text")
    if named == "pdf":
        raise _other("no PDF", "give it the ending of what it is")
    if named == "docx":
        raise _other("no Word document", "give it the ending of what it is")
    return named


def _other(what: str, hint: str) -> ProblemError:
    return ProblemError("format", f"is {what}, whatever its name says", hint)


def decode_text(data: bytes) -> str:
    """``data`` as UTF-8, a byte-order mark kept."""
    _refuse_binary(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _no_utf8(data, error) from None


def decode_html(data: bytes) -> str:
    """``data`` as UTF-8, or else in the encoding that the page declares."""
    _refuse_binary(data)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        match = _CHARSET.search(data[:2048])
        codec = text_codec(match.group(1).decode("ascii")) if match else None
        if codec is not None:
            try:
                return data.decode(codec)
            except (UnicodeDecodeError, LookupError):
                pass
        raise _no_utf8(data, error) from None


def decode_declared(data: bytes, charset: str | None) -> str:
    """``data`` in ``charset`` if that works, else in UTF-8, else in Windows-1252: never fails."""
    codec = text_codec(charset) if charset else None
    for name in filter(None, (codec, "utf-8")):
        try:
            return data.decode(name)
        except (UnicodeError, LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def text_codec(name: str) -> str | None:
    """The codec of that name; None for codecs from bytes to bytes (zip, hex), which are in the
    same table, and for unknown ones."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return None
    return info.name if getattr(info, "_is_text_encoding", True) else None


def _refuse_binary(data: bytes) -> None:
    if data.startswith(_UTF16):
        raise ProblemError(
            "encoding", "is UTF-16, not UTF-8", "convert it: iconv -f UTF-16 -t UTF-8 FILE"
        )
    where = data.find(b"\0")
    if where >= 0:
        raise ProblemError(
            "binary",
            f"is binary (a NUL byte at byte {where})",
            "leave it out, or export it as text",
        )


def _no_utf8(data: bytes, error: UnicodeDecodeError) -> ProblemError:
    return ProblemError(
        "encoding",
        f"is not valid UTF-8 (byte 0x{data[error.start]:02x} at byte {error.start})",
        "convert it: iconv -f ISO-8859-1 -t UTF-8 FILE",
    )


def read_json(text: str, what: str) -> Any:
    """The value of a JSON text; `ProblemError` for what is none, or is nested too deep."""
    try:
        return json.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ProblemError(
            "format", f"{what} is nested too deep", "leave it out, or make it flatter"
        ) from None
    except ValueError as error:
        raise ProblemError("format", f"{what} is not JSON: {error}", "export it again") from None
