"""One file to one `Document`, or one `Problem` that says why not.

Reads the bytes, decides what they are and hands them to the parser of their format
(`lmstack.rag.formats`). UTF-8 is required of text formats, because offsets count the characters
of the decoded file. A byte-order mark is kept as the first character of the text (offsets stay
those of the file) and is never part of a chunk. Does not walk folders (`scan`).
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lmstack.core import LmstackError, shown
from lmstack.rag.documents import Document, Format, LoadConfig, Parsed, ProblemError
from lmstack.rag.formats.decoding import decode_html, decode_text, detect_language, sniff
from lmstack.rag.formats.docx import parse_docx
from lmstack.rag.formats.html import read_html
from lmstack.rag.formats.mail import parse_mail
from lmstack.rag.formats.markdown import markdown_structure, text_structure
from lmstack.rag.formats.matter import matter_span, read_matter
from lmstack.rag.formats.plain import (
    ENDINGS,
    parse_json_lines,
    parse_notebook,
    parse_source,
    parse_table,
)

__all__ = [
    "ENDINGS_READ",
    "FORMATS",
    "PARSER_VERSION",
    "Fingerprint",
    "LoadConfig",
    "ProblemError",
    "ending_of",
    "load_document",
    "parse_document",
    "read_file",
    "unknown_ending",
]

_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
# A joiner between letters is part of Persian, Hindi and emoji; alone or in runs it hides text.
_ZERO = re.compile("[\u200b\u2060\u180e]|(?<!^)\ufeff|[\u200c\u200d]{2}|[\U000e0000-\U000e007f]")


def odd_signs(text: str) -> tuple[str, ...]:
    """``bidi`` for overrides of the reading order, ``zero-width`` for hidden characters."""
    found = []
    if _BIDI.search(text):
        found.append("bidi")
    if _ZERO.search(text):
        found.append("zero-width")
    return tuple(found)


FORMATS: dict[str, Format] = {
    ".txt": "text",
    ".text": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".eml": "email",
    ".csv": "csv",
    ".tsv": "csv",
    ".tab": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".ipynb": "notebook",
    **dict.fromkeys(ENDINGS, "code"),
}
# All of them for people, but for the dozens of source code.
ENDINGS_READ = ", ".join(e for e, form in FORMATS.items() if form != "code") + " and source code"
# Part of what an indexed document was made with: raise it when a parser's output changes.
PARSER_VERSION = 3


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What the file system says of a file. Equal fingerprints mean an unchanged file only if
    the last change (``ctime_ns``) was well before they were taken; `scan` sees to that."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> Fingerprint:
        # Inode numbers are unsigned; the integers of the index are not.
        inode = status.st_ino & (2**63 - 1)
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, inode)


@dataclass(frozen=True, slots=True)
class RawFile:
    data: bytes
    digest: bytes
    fingerprint: Fingerprint


def read_file(path: Path, config: LoadConfig) -> RawFile:
    """The bytes of a regular file, opened so that a FIFO or a device cannot block or stream."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check_status(status, config)
            data = file.read(config.max_file_bytes + 1)
    except FileNotFoundError:
        raise ProblemError(
            "vanished", "the file was removed while it was being read", "run the update again"
        ) from None
    except PermissionError:
        raise ProblemError(
            "unreadable", "permission denied", "make it readable: chmod u+r FILE"
        ) from None
    except OSError as error:
        raise ProblemError(
            "unreadable",
            f"cannot be read: {error.strerror or error}",
            "check the disk and the path",
        ) from None
    if len(data) > config.max_file_bytes:
        raise _too_large(len(data), config)
    return RawFile(data, hashlib.sha256(data).digest(), Fingerprint.of(status))


def _check_status(status: os.stat_result, config: LoadConfig) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ProblemError(
            "special", "is not a regular file (a pipe, socket, device or folder)", "leave it out"
        )
    if status.st_size > config.max_file_bytes:
        raise _too_large(status.st_size, config)


def _too_large(size: int, config: LoadConfig) -> ProblemError:
    return ProblemError(
        "size",
        f"is {size / 1e6:.1f} MB, more than the limit of {config.max_file_bytes / 1e6:.1f} MB",
        "split the file, or raise max_file_bytes",
    )


def load_document(path: str | Path, config: LoadConfig | None = None) -> Document:
    """Read and parse one file. Raises `FormatError` with what is wrong with it."""
    config = config or LoadConfig()
    try:
        return parse_document(str(path), read_file(Path(path), config).data, config)
    except ProblemError as error:
        raise error.at(shown(str(path))).to_error() from None


def parse_document(path: str, data: bytes, config: LoadConfig | None = None) -> Document:
    """Decode and parse ``data``; raises `ProblemError`. The suffix of ``path`` says how, unless
    the first bytes say otherwise."""
    kind, parsed = _parse(data, path, config or LoadConfig())
    if not parsed.text.strip().strip("\ufeff"):
        raise ProblemError("empty", "has no text", "leave it out, or put text in it")
    fields = dict(parsed.fields)
    said = fields.pop("language", None)
    language = said if isinstance(said, str) else detect_language(parsed.text, parsed.blocks, kind)
    signs = odd_signs(parsed.text)
    if signs:
        fields["warnings"] = (*_texts(fields.get("warnings")), *signs)
    return Document(
        path,
        parsed.text,
        kind,
        parsed.title or os.path.splitext(os.path.basename(path))[0],
        tuple(parsed.sections),
        tuple(parsed.blocks),
        tuple(parsed.pages),
        fields,
        language,
    )


def _texts(value: object) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _parse(data: bytes, path: str, config: LoadConfig) -> tuple[Format, Parsed]:
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in FORMATS:
        raise unknown_ending(path)
    if not data:
        raise ProblemError("empty", "is empty (0 bytes)", "leave it out, or put text in it")
    try:
        kind = sniff(data, FORMATS[suffix])
        return kind, _PARSERS[kind](data, path, config)
    except LmstackError as error:
        raise ProblemError("format", error.message, error.hint or "") from error
    except ProblemError:
        raise
    except Exception as error:  # a parser's bug costs its file, not the folder
        raise ProblemError(
            "failed",
            f"could not be parsed: {type(error).__name__}: {shown(str(error))}",
            "report it, with the file if you can",
        ) from error


Parser = Callable[[bytes, str, LoadConfig], Parsed]


def _text(data: bytes, _path: str, _config: LoadConfig) -> Parsed:
    text = decode_text(data)
    return Parsed(text, *text_structure(text))


def _markdown(data: bytes, _path: str, _config: LoadConfig) -> Parsed:
    text = decode_text(data)
    title, sections, blocks = markdown_structure(text)
    fields = read_matter(*matter_span(text)[1:])
    title = str(fields.pop("title", title))
    return Parsed(text, title, sections, blocks, fields=fields)


def _html(data: bytes, _path: str, _config: LoadConfig) -> Parsed:
    return read_html(decode_html(data))


def _pdf(data: bytes, path: str, config: LoadConfig) -> Parsed:
    # PDFium takes a while to start, and most folders have no PDF.
    from lmstack.rag.formats.pdf import parse_pdf

    return parse_pdf(data, path, config)


def _mail(data: bytes, path: str, config: LoadConfig) -> Parsed:
    return parse_mail(data, path, config, lambda part, name, limits: _parse(part, name, limits)[1])


_PARSERS: dict[Format, Parser] = {
    "text": _text,
    "markdown": _markdown,
    "html": _html,
    "pdf": _pdf,
    "docx": parse_docx,
    "email": _mail,
    "csv": parse_table,
    "jsonl": parse_json_lines,
    "code": parse_source,
    "notebook": parse_notebook,
}


def ending_of(path: str) -> str:
    """``.png``; empty where what follows the last dot is no name of a format."""
    ending = os.path.splitext(path)[1].lower()
    return ending if ending.isascii() and ending[1:].isalnum() else ""


def unknown_ending(path: str) -> ProblemError:
    """For a file whose ending no loader knows."""
    ending = ending_of(path)
    ends = f"that end in {shown(ending)}" if ending else "without a known ending"
    return ProblemError(
        "format", f"files {ends} are not read", "convert it to .txt, .md, .html, .pdf or .docx"
    )
