"""Bytes to characters, and what bytes are whatever their name says.

Text formats must be UTF-8, because offsets count the characters of the file; HTML and mail may
say otherwise. Does not guess encodings: a wrong guess would change quotes in silence.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any

from lmstack.rag.documents import Format, ProblemError

__all__ = ["decode_declared", "decode_html", "decode_text", "read_json", "sniff"]

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
