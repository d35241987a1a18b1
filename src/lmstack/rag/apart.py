"""Parse a large file in a process of its own, which has only so much time.

What a small file can cost is bounded by its size. In a large one, a hostile structure (half a
million attributes on one tag) could keep a parser busy for hours, or crash it; the child is
stopped then, and the file is a `Problem` like any other. Time is processor time, so that a busy
machine does not turn a good file into a bad one. Does not cut documents into chunks.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import signal
import subprocess
import sys

from lmstack.rag.documents import Block, Document, Section
from lmstack.rag.load import LoadConfig, ProblemError, parse_document

__all__ = ["main", "parse_bounded"]

# -P: a module that lies in the current folder, perhaps among the documents, is never run.
_COMMAND = ("-P", "-c", "from lmstack.rag.apart import main; main()")
# Against a child that waits instead of working.
_WALL_FACTOR = 20


def parse_bounded(path: str, data: bytes, config: LoadConfig) -> Document:
    """`parse_document` within ``config.max_parse_s``; `ProblemError` beyond."""
    if len(data) <= config.apart_bytes:
        return parse_document(path, data, config)
    try:
        done = subprocess.run(
            [sys.executable, *_COMMAND, path, str(config.max_parse_s)],
            input=data,
            capture_output=True,
            timeout=config.max_parse_s * _WALL_FACTOR,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_slow(config) from None
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise _too_slow(config)
    if done.returncode:
        raise ProblemError(
            "failed",
            f"could not be parsed: the parser stopped with status {done.returncode}",
            "report it, with the file if you can",
        )
    return _read_reply(path, done.stdout)


def _too_slow(config: LoadConfig) -> ProblemError:
    return ProblemError(
        "slow",
        f"takes more than {config.max_parse_s} s to parse; its structure is too intricate",
        "split the file, or convert it to plain text",
    )


def main() -> None:
    """The child: path and limit in the arguments, bytes on stdin, JSON on stdout."""
    path, limit = sys.argv[1], max(int(sys.argv[2]), 1)
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        document = parse_document(path, sys.stdin.buffer.read())
    except ProblemError as error:
        reply: dict[str, object] = {"problem": [error.kind, error.message, error.hint]}
    else:
        reply = {
            "text": document.text,
            "format": document.format,
            "title": document.title,
            "sections": [dataclasses.astuple(section) for section in document.sections],
            "blocks": [dataclasses.astuple(block) for block in document.blocks],
        }
    # ASCII: half a surrogate pair, which HTML can hold, has no UTF-8.
    sys.stdout.write(json.dumps(reply))


def _read_reply(path: str, reply: bytes) -> Document:
    facts = json.loads(reply)
    if "problem" in facts:
        raise ProblemError(*facts["problem"])
    sections = tuple(
        Section(title, level, start, end, tuple(above))
        for title, level, start, end, above in facts["sections"]
    )
    blocks = tuple(
        Block(kind, start, end, tuple(header) if header else None)
        for kind, start, end, header in facts["blocks"]
    )
    return Document(path, facts["text"], facts["format"], facts["title"], sections, blocks)
