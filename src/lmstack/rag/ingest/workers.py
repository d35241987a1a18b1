"""A few long-lived processes that parse documents, each within limits; one that breaks is replaced.

A parser that loops, swells or crashes on a hostile file costs that file, which becomes a
`ProblemError`; the others go on. Workers that a pool no longer needs wait a while for the next one
(an update a second in a folder that is watched does not start a process each time). The process
itself, and what it may do, is `worker`.
"""

from __future__ import annotations

import atexit
import dataclasses
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from lmstack.core import Config, check_range
from lmstack.rag.documents import Document, LoadConfig, PageBoxes, ProblemError
from lmstack.rag.ingest.worker import (
    IDLE_STATUS,
    Frame,
    Header,
    frame_bytes,
    raise_problem,
    read_frame,
    read_reply,
)

__all__ = ["WorkerConfig", "Workers", "close_spares"]

# The package by its path alone: its __init__ would load the database and the search, which takes
# three times as long as the parsers. -P: a module that lies in the current folder, perhaps among
# the documents, is never run.
_START = (
    "import sys, types; "
    "package = types.ModuleType('lmstack.rag'); package.__path__ = [sys.argv.pop()]; "
    "sys.modules['lmstack.rag'] = package; "
    "from lmstack.rag.ingest.worker import main; main()"
)
_GRACE_S = 10


@dataclass(frozen=True)
class WorkerConfig(Config):
    """Limits of one document: ``max_parse_s`` of processor time, ``max_wait_s`` on the clock (a
    busy machine does not turn a good file into a bad one), ``max_memory_bytes`` beyond what a
    worker needs itself, ``max_text_bytes`` of text that may come out of it. ``count`` of workers:
    0 is one for each processor, 8 at most. Text files up to ``inline_bytes``, and Markdown where
    the whole update has no more, are parsed without a worker: that is over before it has them,
    and what they can cost is bounded by their size."""

    count: int = 0
    max_parse_s: int = 60
    max_wait_s: int = 300
    max_memory_bytes: int = 1_000_000_000
    max_text_bytes: int = 200_000_000
    inline_bytes: int = 250_000

    def __post_init__(self) -> None:
        check_range("count", self.count, 0, 256)
        check_range("max_parse_s", self.max_parse_s, 1, 24 * 3600)
        check_range("max_wait_s", self.max_wait_s, 1, 24 * 3600)
        check_range("max_memory_bytes", self.max_memory_bytes, 50_000_000, 2**40)
        check_range("max_text_bytes", self.max_text_bytes, 1, 2**30)
        check_range("inline_bytes", self.inline_bytes, 0, 2**30)

    @property
    def processes(self) -> int:
        return self.count or min(len(os.sched_getaffinity(0)), 8)

    @property
    def limits(self) -> tuple[int, ...]:
        """Those of one document, as a worker takes them."""
        return (self.max_parse_s, self.max_wait_s, self.max_memory_bytes, self.max_text_bytes)


class Workers:
    """Thread-safe; as many documents are parsed at once as there are workers, which start when
    they are first needed. Close it from any thread: who waits in `parse` gets a `ProblemError`."""

    def __init__(self, config: WorkerConfig | None = None, load: LoadConfig | None = None) -> None:
        self.config = config or WorkerConfig()
        self._arguments = (
            json.dumps(dataclasses.asdict(load or LoadConfig())),
            json.dumps(self.config.limits),
        )
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        for _ in range(self.config.processes):
            self._idle.put(None)
        self._lock = threading.Lock()
        self._all: set[_Worker] = set()
        self._closed = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def parse(self, path: str, data: bytes) -> Document:
        """As `load.parse_document`, in a worker. ``path`` is for its suffix and the report; no
        file is opened."""
        header, body = self._answer({"do": "parse", "path": path}, data)
        return read_reply(path, header, body)

    def page_boxes(self, data: bytes, start: int, end: int, document: Document) -> list[PageBoxes]:
        """As `formats.pages.page_boxes` for the PDF ``data`` that ``document`` was made of, in a
        worker; raises `ProblemError`."""
        text = document.text.encode("utf-8", "surrogatepass")
        pages = [dataclasses.astuple(page) for page in document.pages]
        asked = {"do": "boxes", "start": start, "end": end, "bytes": len(data), "pages": pages}
        header, _ = self._answer(asked, data + text)
        raise_problem(header)
        return [
            PageBoxes(int(number), float(width), float(height), tuple(map(tuple, boxes)))
            for number, width, height, boxes in header["boxes"]
        ]

    def page_picture(self, data: bytes, number: int, width_px: int = 1_200) -> bytes:
        """As `formats.pages.render_page`, in a worker; raises `ProblemError`."""
        asked = {"do": "picture", "number": number, "width_px": width_px}
        header, picture = self._answer(asked, data)
        raise_problem(header)
        return picture

    def _answer(self, header: Header, data: bytes) -> Frame:
        worker = self._idle.get()
        last = True
        try:
            while True:
                worker = worker or self._start()
                try:
                    reply = worker.answer(header, data)
                    break
                except _TiredError:
                    # It had nothing to do for too long, and went as this came; of those that
                    # waited beside it the next may have gone, too.
                    self._discard(worker)
                    worker = None
            last = bool(reply[0].get("last")) or self._closed
            return reply
        finally:
            if last and worker is not None:
                self._discard(worker)
            self._idle.put(None if last else worker)

    def close(self) -> None:
        """End the workers at work; those that wait are kept for the next pool."""
        with self._lock:
            self._closed = True
            left, self._all = self._all, set()
        waiting = [worker for worker in _drain(self._idle) if worker in left]
        for _ in range(self.config.processes):
            self._idle.put(None)
        for worker in left.difference(waiting):
            worker.end()
        _keep(waiting)

    def _start(self) -> _Worker:
        worker = _take(self._arguments) or _Worker(self.config, self._arguments)
        with self._lock:
            if not self._closed:
                self._all.add(worker)
                return worker
        worker.end()
        worker.close()
        raise ProblemError("failed", "was not parsed: the update was stopped", "run it again")

    def _discard(self, worker: _Worker) -> None:
        with self._lock:
            self._all.discard(worker)
        worker.end()
        worker.close()


def _drain(idle: queue.SimpleQueue[_Worker | None]) -> Iterator[_Worker]:
    while True:
        try:
            worker = idle.get_nowait()
        except queue.Empty:
            return
        if worker is not None:
            yield worker


class _TiredError(Exception):
    """The process ended because nobody had work for it."""


class _Worker:
    """One process and the pipes to it. One call at a time; `end` from any thread."""

    def __init__(self, config: WorkerConfig, arguments: tuple[str, ...]) -> None:
        self.config, self.arguments = config, arguments
        self.owner = os.getpid()
        folder = str(Path(__file__).parents[1])
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *arguments, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # A thread pool for vectors, which parsers have none of, is address space.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is for the process that keeps the index
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        for pipe in (self._stdin, self._stdout):
            os.set_blocking(pipe.fileno(), False)
        self._ending = threading.Lock()

    def answer(self, header: Header, body: bytes) -> Frame:
        """Its reply, or a `ProblemError` when there is none; it is of no more use then."""
        deadline = time.monotonic() + self.config.max_wait_s + _GRACE_S
        try:
            self._send(frame_bytes(header, body), deadline)
            self._send(body, deadline)
            # What describes a document is smaller than it, but for a mark of a few bytes a line.
            most = 10 * self.config.max_text_bytes + 1_000_000
            reply = read_frame(lambda size: self._receive(size, deadline), most)
        except TimeoutError:
            raise _slow(f"{self.config.max_wait_s} s", "to parse") from None
        except ValueError:
            raise ProblemError(
                "failed",
                "could not be parsed: the parser's answer is broken",
                "report it, with the file if you can",
            ) from None
        except OSError:
            reply = None
        if reply is None:
            raise self._post_mortem()
        return reply

    def _send(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            _await(self._stdin.fileno(), select.POLLOUT, deadline)
            left = left[os.write(self._stdin.fileno(), left) :]

    def _receive(self, size: int, deadline: float) -> bytes:
        """Exactly ``size`` bytes; fewer when the process is gone."""
        parts: list[bytes] = []
        while size:
            _await(self._stdout.fileno(), select.POLLIN, deadline)
            part = os.read(self._stdout.fileno(), min(size, 1 << 20))
            if not part:
                break
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _post_mortem(self) -> ProblemError:
        """Why it did not answer."""
        try:
            status = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:  # it closed its pipe and goes on
            status = 0
        if status == IDLE_STATUS:
            raise _TiredError
        if status == -signal.SIGPROF:
            return _slow(f"{self.config.max_parse_s} s of processor time", "to parse")
        if status == -signal.SIGALRM:
            return _slow(f"{self.config.max_wait_s} s", "to parse")
        if status == -signal.SIGKILL:
            return ProblemError(
                "memory",
                "could not be parsed: the system stopped the parser, most likely for want of "
                "memory",
                "free memory and run the update again, or split the file",
            )
        return ProblemError(
            "failed",
            f"could not be parsed: the parser stopped with status {status}",
            "report it, with the file if you can",
        )

    def end(self) -> None:
        """Stop the process at once, and wait until it is gone."""
        with self._ending:
            if self._process.poll() is None:
                self._process.kill()
            self._process.wait()

    def close(self) -> None:
        """After `end`, when nobody uses the pipes any more."""
        self._stdin.close()
        self._stdout.close()


def _await(descriptor: int, event: int, deadline: float) -> None:
    waiting = select.poll()
    waiting.register(descriptor, event)
    if not waiting.poll(max(0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _slow(limit: str, what: str) -> ProblemError:
    return ProblemError(
        "slow",
        f"takes more than {limit} {what}; its structure is too intricate",
        "split the file, or convert it to plain text",
    )


# Workers between two pools, by what they were started with. They end by themselves when nobody
# needs them for a minute. The process that started them is kept: after a fork they are not ours.
_spares: list[_Worker] = []
_spares_lock = threading.Lock()
_MAX_SPARES = 8


def _take(arguments: tuple[str, ...]) -> _Worker | None:
    with _spares_lock:
        for number, worker in enumerate(_spares):
            if worker.owner == os.getpid() and worker.arguments == arguments:
                return _spares.pop(number)
    return None


def _keep(workers: Sequence[_Worker]) -> None:
    with _spares_lock:
        _spares.extend(workers)
        extra = _spares[:-_MAX_SPARES]
        del _spares[:-_MAX_SPARES]
    _end(extra)


def close_spares() -> None:
    """End the workers that wait for the next pool."""
    with _spares_lock:
        spares, _spares[:] = _spares[:], []
    _end(spares)


def _end(workers: Sequence[_Worker]) -> None:
    for worker in workers:
        if worker.owner == os.getpid():
            worker.end()
            worker.close()


atexit.register(close_spares)
