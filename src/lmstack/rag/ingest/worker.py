"""The worker process: one document after another is parsed here, within limits, and nowhere else;
pages of PDFs are drawn and looked into here, too.

Started by `workers`. For each document the kernel ends this process when its processor time or
its time on the clock is over, and memory beyond the limit is an error here. Does not cut documents
into chunks, and loads neither the index nor the search.

What it may still do is compute, and answer on its pipe. Covers Linux: limits of the kernel (no file
may grow, no core dumps, few open files, no new processes unless root), no gain of privileges, and
Landlock where the kernel has it (since 5.13): no file can be written, made, renamed or removed,
nothing outside the installed software can be read (a document cannot pull in another file), no
program can be started, and no TCP connection opened. Where there is no Landlock, and on other
systems, what is left is the limits. Not covered: a filter of system calls.

A frame on the pipe is two lengths, a header (JSON, in ASCII) and a body. The text of a document is
the body, as UTF-8 that may hold half a surrogate pair, which HTML can. A reply is read as what it
may be, the work of a parser that a hostile file has taken over: nothing of it is run, and what
does not fit the shape is an error.
"""

from __future__ import annotations

import ctypes
import dataclasses
import io
import json
import os
import resource
import select
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

from lmstack.core import InputError
from lmstack.rag.documents import (
    Block,
    BlockKind,
    Document,
    Format,
    LoadConfig,
    Page,
    ProblemError,
    ProblemKind,
    Section,
)
from lmstack.rag.filters import Value
from lmstack.rag.formats.load import parse_document

__all__ = [
    "IDLE_STATUS",
    "Frame",
    "Header",
    "confine",
    "document_frame",
    "frame_bytes",
    "main",
    "problem_frame",
    "raise_problem",
    "read_frame",
    "read_reply",
]

_MAX_OPEN_FILES = 64
_NO_NEW_PRIVILEGES = 38
# The same numbers on every architecture (linux/landlock.h, asm-generic/unistd.h).
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_BENEATH = 1
_READ = 1 << 2 | 1 << 3  # files, folders
# How many rights on files each version of Landlock knows; all later ones know the last.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 2
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/dev/urandom", "/dev/null")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def confine() -> bool:
    """Give up for good what this process does not need; whether Landlock holds."""
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        with suppress(OSError, ValueError):  # a lower hard limit stands already
            resource.setrlimit(limit, (most, most))
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return _landlock(libc, {*_SYSTEM, sys.prefix, sys.base_prefix, *filter(None, sys.path)})


def _landlock(libc: ctypes.CDLL, readable: Iterable[str]) -> bool:
    version = libc.syscall(_CREATE, None, 0, 1)
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    wanted = _Ruleset(files, (1 << _TCP_RIGHTS) - 1 if version >= 4 else 0)
    size = 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE, ctypes.byref(wanted), size, 0)
    if ruleset < 0:
        return False
    for path in readable:
        with suppress(OSError):
            _allow(libc, ruleset, path)
    held = bool(libc.syscall(_RESTRICT, ruleset, 0) == 0)
    os.close(ruleset)
    return held


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ if Path(path).is_dir() else _READ & ~(1 << 3)
        rule = _Rule(rights, folder)
        libc.syscall(_ADD_RULE, ruleset, _BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(folder)


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


# The exit status of a worker that nobody needed for so long.
IDLE_STATUS = 75
_IDLE_S = 60

# A worker whose memory stays this far above its start (a part of the limit) is replaced: the next
# document would find too little left.
_GROWN = 0.25


def main() -> None:
    """`LoadConfig` and limits of one document in the arguments, as JSON: seconds of processor,
    seconds on the clock, bytes of memory, bytes of the reply. Frames on stdin and stdout."""
    load = LoadConfig.from_mapping(json.loads(sys.argv[1]))
    processor_s, clock_s, memory, most = json.loads(sys.argv[2])
    requests, replies = _pipes()
    with open("/proc/self/statm" if sys.platform == "linux" else os.devnull, "rb", 0) as statm:
        start = _address_space(statm)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (start + memory, start + memory))
        confine()
        # No file can be written from here on. Libraries that want a temporary one (the model that
        # tells languages, when it is first needed) get memory.
        tempfile.TemporaryFile = lambda *_, **__: io.BytesIO()  # type: ignore[assignment]
        while (request := _next(requests)) is not None:
            # Nobody handles these signals: the kernel ends the process, whatever it is doing.
            signal.setitimer(signal.ITIMER_PROF, processor_s)
            signal.setitimer(signal.ITIMER_REAL, clock_s)
            header, body = _answer(*request, load, most)
            request = None
            grown = _address_space(statm) - start > _GROWN * memory
            start_of_reply = frame_bytes({**header, "last": grown}, body)
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
            replies.write(start_of_reply)
            replies.write(body)
            replies.flush()
            if grown:
                return


def _next(requests: BinaryIO) -> Frame | None:
    if not select.select([requests], [], [], _IDLE_S)[0]:
        sys.exit(IDLE_STATUS)
    return read_frame(requests.read)


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes under numbers of their own: what a parser prints goes nowhere."""
    requests, replies = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _address_space(statm: BinaryIO) -> int:
    """Bytes of address space in use; 0 where the system does not say."""
    statm.seek(0)
    facts = statm.read(200).split()
    return int(facts[0]) * resource.getpagesize() if facts else 0


def _answer(header: Header, body: bytes, load: LoadConfig, most: int) -> Frame:
    try:
        reply, text = _TASKS[header["do"]](header, body, load)
    except ProblemError as error:
        return problem_frame(_out_of_memory() if _ran_out(error) else error)
    except InputError as error:  # what was asked for is not in the file
        return problem_frame(ProblemError("format", error.message, error.hint or ""))
    except MemoryError:
        return problem_frame(_out_of_memory())
    if len(text) > most:
        return problem_frame(
            ProblemError(
                "size",
                f"holds {len(text) / 1e6:.0f} MB of text, more than the limit of "
                f"{most / 1e6:.0f} MB",
                "split the file",
            )
        )
    return reply, text


def _parse(header: Header, body: bytes, load: LoadConfig) -> Frame:
    return document_frame(parse_document(header["path"], body, load))


def _boxes(header: Header, body: bytes, load: LoadConfig) -> Frame:
    """Where a span stands on the pages of a PDF, whose text follows it in the body."""
    from lmstack.rag.formats.pages import page_boxes

    data, text = body[: header["bytes"]], body[header["bytes"] :].decode("utf-8", "surrogatepass")
    found = page_boxes(
        data,
        header["start"],
        header["end"],
        text=text or None,
        pages=[Page(*page) for page in header["pages"]],
        config=load,
    )
    return {"boxes": [dataclasses.astuple(page) for page in found]}, b""


def _picture(header: Header, body: bytes, load: LoadConfig) -> Frame:
    from lmstack.rag.formats.pages import render_page

    return {}, render_page(body, header["number"], header["width_px"], load)


_TASKS = {"parse": _parse, "boxes": _boxes, "picture": _picture}


def _ran_out(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _out_of_memory() -> ProblemError:
    return ProblemError(
        "memory",
        "needs more memory to parse than one document may use",
        "split the file, or convert it to plain text",
    )
