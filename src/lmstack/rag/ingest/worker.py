"""The worker process: one document after another is parsed here, within limits, and nowhere else;
pages of PDFs are drawn and looked into here, too.

Started by `workers`. For each document the kernel ends this process when its processor time or
its time on the clock is over, and memory beyond the limit is an error here; what a parser can do
to the machine is bounded by `sandbox`. Does not cut documents into chunks, and loads neither the
index nor the search.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import resource
import select
import signal
import sys
import tempfile
from contextlib import suppress
from typing import BinaryIO

from lmstack.core import InputError
from lmstack.rag.documents import Page, ProblemError
from lmstack.rag.formats.load import parse_document
from lmstack.rag.formats.parsed import LoadConfig
from lmstack.rag.ingest.sandbox import confine
from lmstack.rag.ingest.wire import (
    Frame,
    Header,
    document_frame,
    frame_bytes,
    problem_frame,
    read_frame,
)

__all__ = ["IDLE_STATUS", "main"]

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
