"""The files of a plan, read and parsed several at a time, in the order of the plan.

A document that takes long lets those behind it pass, so that one bad file does not hold up the
rest; otherwise the same folder gives the same order. Only so many documents and bytes are on the
way at once, however fast the workers are. Covers reading and parsing; `update` cuts, embeds and
writes.
"""

from __future__ import annotations

import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path
from lmstack.rag.documents import Document, LoadConfig, ProblemError
from lmstack.rag.formats.load import FORMATS, Fingerprint, parse_document, read_file
from lmstack.rag.ingest.scan import FoundFile, scan_source
from lmstack.rag.ingest.workers import WorkerConfig, Workers

__all__ = [
    "SAMPLE",
    "FileReader",
    "ParsedFile",
    "RefusedFile",
    "read_and_parse",
    "sampled_languages",
]

# Documents that are read; the languages of more say the same of nearly any folder.
SAMPLE = 12
# A file beyond this is left to the update, which shows how far it is.
MAX_BYTES = 2_000_000


def sampled_languages(sources: Iterable[str | Path]) -> Counter[str]:
    """How many of at most `SAMPLE` documents of ``sources``, files or folders, from all over them
    are in each language (codes of ISO 639-1). Code, tables and what no language could be told of
    count for none. Raises `NotFoundError` for a source that is not there."""
    roots = {number: os.path.abspath(source) for number, source in enumerate(sources)}
    sizes: dict[DocumentKey, int] = {}
    for number, root in roots.items():
        for found in scan_source(Path(root)):
            if isinstance(found, FoundFile) and found.fingerprint.size <= MAX_BYTES:
                sizes[DocumentKey(number, found.path)] = found.fingerprint.size
    keys = _spread(list(sizes), SAMPLE)
    with FileReader(keys, roots, sizes, LoadConfig(), WorkerConfig()) as reader:
        documents = [each.document for each in reader if isinstance(each, ParsedFile)]
    return Counter(document.language for document in documents if document.language)


def _spread(keys: Sequence[DocumentKey], most: int) -> list[DocumentKey]:
    """At most so many of ``keys``, from the first to the last."""
    if len(keys) <= most:
        return list(keys)
    return [keys[number * (len(keys) - 1) // (most - 1)] for number in range(most)]


# A worker that starts, and loads the model that tells languages, takes two seconds.
_PATIENCE_S = 3.0
_AHEAD = 8
_AHEAD_BYTES = 64_000_000


@dataclass(frozen=True, slots=True)
class ParsedFile:
    """A document as its file was at ``checked_ns``."""

    key: DocumentKey
    document: Document
    digest: bytes
    fingerprint: Fingerprint
    checked_ns: int


@dataclass(frozen=True, slots=True)
class RefusedFile:
    """A file that could not be read or parsed; ``digest`` is of its content, if it was read."""

    key: DocumentKey
    error: ProblemError
    digest: bytes | None


@dataclass(slots=True)
class _Job:
    key: DocumentKey
    size: int
    future: Future[ParsedFile | RefusedFile]
    patience: float


def read_and_parse(
    key: DocumentKey, path: str, load: LoadConfig, parse: Callable[[str, bytes], Document]
) -> ParsedFile | RefusedFile:
    """The document at ``path``, or why there is none."""
    digest: bytes | None = None
    checked_ns = time.time_ns()
    try:
        raw = read_file(Path(path), load)
        digest = raw.digest
        return ParsedFile(key, parse(path, raw.data), digest, raw.fingerprint, checked_ns)
    except ProblemError as error:
        return RefusedFile(key, error, digest)


# As many files as are worth another process.
FILES_A_WORKER = 8


class FileReader:
    """One pass over ``keys``; iterate within ``with``. ``sizes`` in bytes, as far as known.
    Leaving early stops what is at work."""

    def __init__(
        self,
        keys: Sequence[DocumentKey],
        roots: Mapping[int, str],
        sizes: Mapping[DocumentKey, int],
        load: LoadConfig,
        workers: WorkerConfig,
    ) -> None:
        self._left = deque(keys)
        self._roots, self._sizes, self._load = roots, sizes, load
        self._total = sum(sizes.get(key, 0) for key in keys)
        if not workers.count:
            # A process takes a second to be ready, so a few files are read by one.
            needed = -(-len(keys) // FILES_A_WORKER)
            workers = replace(workers, count=max(1, min(workers.processes, needed)))
        self._workers = Workers(workers, load)
        self._threads = ThreadPoolExecutor(workers.processes, "lmstack-reading")
        self._ahead = workers.processes * _AHEAD
        self._waiting: deque[_Job] = deque()
        self._at_work: dict[DocumentKey, None] = {}

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._workers.close()
        self._threads.shutdown()

    def __iter__(self) -> Iterator[ParsedFile | RefusedFile | None]:
        """None when nothing is ready and will not be for a while."""
        while True:
            self._fill()
            if not self._waiting:
                return
            if not self._is_ready():
                yield None
                wait([job.future for job in self._waiting], return_when=FIRST_COMPLETED)
            job = next(job for job in self._waiting if job.future.done())
            self._waiting.remove(job)
            yield job.future.result()

    @property
    def at_work(self) -> tuple[str, ...]:
        """The files that are being read or parsed now."""
        return tuple(absolute_path(self._roots, key) for key in self._at_work.copy())

    def _fill(self) -> None:
        bytes_ahead = sum(job.size for job in self._waiting)
        while self._left and len(self._waiting) < self._ahead:
            size = self._sizes.get(self._left[0], 0)
            if self._waiting and bytes_ahead + size > _AHEAD_BYTES:
                return
            key = self._left.popleft()
            future = self._threads.submit(self._read, key)
            self._waiting.append(_Job(key, size, future, _PATIENCE_S))
            bytes_ahead += size

    def _is_ready(self) -> bool:
        """Whether the first is done, or, when it takes long, any."""
        first = self._waiting[0]
        if first.patience:
            started = time.monotonic()
            wait([first.future], first.patience)
            first.patience = max(0, first.patience - (time.monotonic() - started))
        return any(job.future.done() for job in self._waiting)

    def _read(self, key: DocumentKey) -> ParsedFile | RefusedFile:
        self._at_work[key] = None
        try:
            return read_and_parse(key, absolute_path(self._roots, key), self._load, self._parse)
        finally:
            self._at_work.pop(key, None)

    def _parse(self, path: str, data: bytes) -> Document:
        if self._is_quick(path, data):
            return parse_document(path, data, self._load)
        return self._workers.parse(path, data)

    def _is_quick(self, path: str, data: bytes) -> bool:
        """Whether it is parsed here: by a parser of ours, in Python, whose work grows with the
        length of the text and not faster, on so little that the way to a worker takes longer."""
        kind = FORMATS.get(Path(path).suffix.lower())
        most = self._workers.config.inline_bytes
        return len(data) <= most and (
            kind == "text" or (kind == "markdown" and self._total <= most)
        )
