"""Documents and problems as bytes, between the process that keeps an index and its workers.

A frame is two lengths, a header (JSON, in ASCII) and a body. The text of a document is the body,
as UTF-8 that may hold half a surrogate pair, which HTML can. A reply is read as what it may be,
the work of a parser that a hostile file has taken over: nothing of it is run, and what does not
fit the shape is an error. Covers bytes only; `worker` is the process, `workers` the pool.
"""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

from lmstack.rag.documents import (
    Block,
    BlockKind,
    Document,
    Format,
    Page,
    ProblemError,
    ProblemKind,
    Section,
)
from lmstack.rag.filters import Value

__all__ = [
    "Frame",
    "Header",
    "document_frame",
    "frame_bytes",
    "problem_frame",
    "raise_problem",
    "read_frame",
    "read_reply",
]

_LENGTHS = struct.Struct(">IQ")
Header = Mapping[str, Any]
Frame = tuple[Header, bytes]


def frame_bytes(header: Header, body: bytes) -> bytes:
    """Lengths and header; ``body`` follows as it is, and is not copied here."""
    # ASCII: half a surrogate pair in a title has no UTF-8.
    text = json.dumps(header).encode("ascii")
    return _LENGTHS.pack(len(text), len(body)) + text


def read_frame(read: Callable[[int], bytes], max_bytes: int | None = None) -> Frame | None:
    """The next frame from ``read`` (exactly so many bytes, fewer at the end); None at the end.
    Raises ValueError for one of more than ``max_bytes`` and for one that is broken."""
    start = read(_LENGTHS.size)
    if len(start) < _LENGTHS.size:
        return None
    header_bytes, body_bytes = _LENGTHS.unpack(start)
    if max_bytes is not None and header_bytes + body_bytes > max_bytes:
        raise ValueError(f"a frame of {header_bytes + body_bytes} bytes")
    text, body = read(header_bytes), read(body_bytes)
    if len(text) < header_bytes or len(body) < body_bytes:
        return None
    header = json.loads(text)
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    return header, body


def document_frame(document: Document) -> Frame:
    header = {
        "format": document.format,
        "title": document.title,
        "sections": [dataclasses.astuple(section) for section in document.sections],
        "blocks": [dataclasses.astuple(block) for block in document.blocks],
        "pages": [dataclasses.astuple(page) for page in document.pages],
        "fields": dict(document.fields),
        "language": document.language,
    }
    return header, document.text.encode("utf-8", "surrogatepass")


def problem_frame(error: ProblemError) -> Frame:
    return {"problem": [error.kind, error.message, error.hint]}, b""


def read_reply(path: str, header: Header, body: bytes) -> Document:
    """The document of a reply, or the `ProblemError` in it."""
    raise_problem(header)
    try:
        return _document(path, header, body.decode("utf-8", "surrogatepass"))
    except (KeyError, TypeError, ValueError) as error:
        raise _broken(error) from None


def raise_problem(header: Header) -> None:
    """Raise the `ProblemError` of a reply that holds one."""
    if "problem" not in header:
        return
    try:
        kind, message, hint = header["problem"]
        problem = ProblemError(_known(kind, ProblemKind), str(message), str(hint))
    except (TypeError, ValueError) as error:
        problem = _broken(error)
    raise problem


def _broken(error: Exception) -> ProblemError:
    return ProblemError(
        "failed",
        f"could not be parsed: the parser's answer is broken ({type(error).__name__})",
        "report it, with the file if you can",
    )


def _document(path: str, header: Header, text: str) -> Document:
    sections = tuple(
        Section(str(title), int(level), *_span(text, start, end), tuple(map(str, above)))
        for title, level, start, end, above in header["sections"]
    )
    blocks = tuple(
        Block(_known(kind, BlockKind), *_span(text, a, b), _span(text, *above) if above else None)
        for kind, a, b, above in header["blocks"]
    )
    pages = tuple(Page(int(number), *_span(text, a, b)) for number, a, b in header["pages"])
    return Document(
        path,
        text,
        _known(header["format"], Format),
        str(header["title"]),
        sections,
        blocks,
        pages,
        {str(name): _value(value) for name, value in header["fields"].items()},
        str(header["language"]),
    )


def _known(value: object, names: object) -> Any:
    if value not in get_args(names):
        raise ValueError("a kind that there is not")
    return value


def _span(text: str, start: int, end: int) -> tuple[int, int]:
    if not 0 <= start <= end <= len(text):
        raise ValueError("a span outside the text")
    return int(start), int(end)


def _value(value: object) -> Value:
    if isinstance(value, list):
        return tuple(map(str, value))
    if not isinstance(value, str | int | float | bool):
        raise TypeError(type(value))
    return cast(Value, value)
