"""Carry a plan out: read, chunk, embed in batches across documents, commit per document.

Three things go on at once: workers parse the files to come, this thread cuts documents and
writes, and another one embeds the batch before. Every commit leaves a valid index that holds each
document wholly in its old or its new form, so killing the process at any moment loses at most the
documents on the way, and the next update finishes the work.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from lmstack.core import Embedder, InputError
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.rows import (
    NewDocument,
    Vectors,
    embed_key,
    find_vectors,
    put_document,
    put_problem,
    remove_document,
    remove_problem,
    set_inodes,
    touch_documents,
    vectors_of,
)
from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path, display_path
from lmstack.rag.chunk import ChunkConfig, embedded_text
from lmstack.rag.chunking import Chunker, ContextWriter
from lmstack.rag.documents import LoadConfig, Problem, ProblemError
from lmstack.rag.ingest.plan import IngestPlan, Work, attempt
from lmstack.rag.ingest.reading import FileReader, ParsedFile, RefusedFile
from lmstack.rag.ingest.scan import readable_name
from lmstack.rag.ingest.workers import WorkerConfig

__all__ = [
    "BatchEmbedder",
    "IngestTask",
    "RemoteExecutor",
    "UpdateProgress",
    "UpdateResult",
    "Updater",
]

# How many texts the embedder is given at once: an update that is stopped waits for so many.
_SLICE = 128


class BatchEmbedder:
    """One batch at a time. Leaving stops what is at work after the slice it is in."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedded = 0
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, "lmstack-embedding")
        self._stopped = threading.Event()
        self._batch: Future[dict[bytes, Vectors]] | None = None
        self._steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def __enter__(self) -> BatchEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def start(self, texts: Mapping[bytes, str]) -> None:
        """Embed ``texts`` (passages), by key."""
        assert self._batch is None, "one batch at a time"
        self.embedded = 0
        steps = self._steps = queue.SimpleQueue()
        self._batch = self._thread.submit(self._embed, texts, steps)
        self._batch.add_done_callback(lambda _: steps.put(None))

    def result(self, timeout_s: float) -> dict[bytes, Vectors] | None:
        """The vectors of the batch by key. None after ``timeout_s`` and once for each step on the
        way: ``embedded`` says how many there were then. Raises what the embedder raised."""
        assert self._batch is not None, "no batch was started"
        try:
            step = self._steps.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if step is not None:
            self.embedded = step
            return None
        batch, self._batch = self._batch, None
        return batch.result()

    def _embed(
        self, texts: Mapping[bytes, str], steps: queue.SimpleQueue[int | None]
    ) -> dict[bytes, Vectors]:
        table: dict[bytes, Vectors] = {}
        for keys in _slices(list(texts), _SLICE):
            if self._stopped.is_set():
                break
            matrix = self._embedder.embed([texts[key] for key in keys], "passage")
            table.update(zip(keys, np.asarray(matrix, np.float32), strict=True))
            if len(table) < len(texts):
                steps.put(len(table))
        return table


def _slices(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


_BATCH_CHUNKS = 512
_RESCUED_CHUNKS = 50_000
# What opening and writing a file costs, in bytes of content that take as long.
_FILE_BYTES = 2_000
_TELL_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class UpdateProgress:
    """After each document, and now and then within a long one. ``done`` of ``total`` files and
    ``bytes_done`` of ``bytes_total`` of their content; ``chunks`` embedded so far (of them
    ``reused`` without embedding); ``path`` is the last file or the one at work, ``problem`` why it
    is not in the index, if so; ``at_work`` are the files that are being parsed; ``elapsed_s``
    since the start."""

    done: int
    total: int
    chunks: int
    reused: int
    path: str
    elapsed_s: float
    bytes_done: int = 0
    bytes_total: int = 0
    at_work: tuple[str, ...] = ()
    problem: Problem | None = None

    @property
    def remaining_s(self) -> float | None:
        """An estimate from the rate so far, by content: a large file takes longer than a small
        one, and each file some time of its own."""
        done = self.bytes_done + _FILE_BYTES * self.done
        total = self.bytes_total + _FILE_BYTES * self.total
        return self.elapsed_s / done * (total - done) if done else None


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an update did. ``problems`` are all files under its paths that could not be
    indexed, those found in earlier updates included; ``new_problems`` those that were not known
    before."""

    plan: IngestPlan
    added: int
    changed: int
    removed: int
    chunks: int
    reused: int
    problems: tuple[Problem, ...]
    seconds: float
    new_problems: tuple[Problem, ...] = ()

    @property
    def changed_anything(self) -> bool:
        """Whether the index holds other documents than before, or a problem was new."""
        return not self.plan.up_to_date or bool(self.new_problems)


ProgressCallback = Callable[[UpdateProgress], None]


@dataclass(frozen=True)
class IngestTask:
    """What other machines need to know to read, cut and embed ``files`` (keys with absolute
    paths, all inside ``roots``) as this one would."""

    files: tuple[tuple[DocumentKey, str], ...]
    roots: tuple[str, ...]
    recipe: str
    load: LoadConfig
    chunking: ChunkConfig
    workers: WorkerConfig


# Does a task, in any order: each document with its vectors, or why there is none.
RemoteExecutor = Callable[[IngestTask], Iterable[tuple[NewDocument, Vectors] | RefusedFile]]


@dataclass
class Updater:
    """One run over one plan. Not reusable."""

    database: Database
    embedder: Embedder | None
    roots: Mapping[int, str]
    recipe: str
    load: LoadConfig
    chunking: ChunkConfig
    workers: WorkerConfig
    progress: ProgressCallback | None = None
    context_writer: ContextWriter | None = None
    executor: RemoteExecutor | None = None
    _new: list[NewDocument] = field(default_factory=list)
    _embedding: list[NewDocument] = field(default_factory=list)
    _known: dict[bytes, Vectors] = field(default_factory=dict)
    _rescued: dict[bytes, Vectors] = field(default_factory=dict)
    _problems: list[Problem] = field(default_factory=list)
    _sizes: Mapping[DocumentKey, int] = field(default_factory=dict)
    _chunker: Chunker | None = None
    _waiting: int = 0
    _done: int = 0
    _total: int = 0
    _bytes_done: int = 0
    _bytes_total: int = 0
    _chunks: int = 0
    _reused: int = 0
    _started: float = 0.0
    _reader: FileReader | None = None

    def run(self, plan: IngestPlan, work: Work) -> UpdateResult:
        self._started = time.monotonic()
        if work.read and self.embedder is None:
            raise InputError(
                "adding or changing documents needs an embedding model",
                hint="open the index with an embedder",
                param="embedder",
            )
        self._total = len(work.read) + len(work.remove)
        self._sizes = work.sizes
        self._bytes_total = sum(work.sizes.get(key, 0) for key in work.read)
        self._settle(work)
        if work.read and self.executor is not None:
            self._take_over(self.executor, work)
        elif work.read:
            self._take_in(work)
        return UpdateResult(
            plan,
            len(plan.add),
            len(plan.change),
            len(plan.remove),
            self._chunks,
            self._reused,
            (*plan.problems, *self._problems),
            time.monotonic() - self._started,
            (*(self._named(key, problem) for key, problem, _ in work.report), *self._problems),
        )

    def _take_in(self, work: Work) -> None:
        assert self.embedder is not None
        with (
            BatchEmbedder(self.embedder) as embedding,
            FileReader(work.read, self.roots, work.sizes, self.load, self.workers) as reader,
        ):
            self._reader = reader
            for outcome in reader:
                if isinstance(outcome, RefusedFile):
                    self._refuse(outcome)
                elif outcome is not None:
                    self._cut(outcome)
                else:  # nobody waits for a slow file to find those that were read before it
                    self._finish(embedding)
                if self._waiting >= _BATCH_CHUNKS:
                    self._advance(embedding)
            self._finish(embedding)
            self._reader = None

    def _take_over(self, executor: RemoteExecutor, work: Work) -> None:
        """As `_take_in`, of documents that were read, cut and embedded on other machines."""
        task = IngestTask(
            tuple((key, absolute_path(self.roots, key)) for key in work.read),
            tuple(self.roots.values()),
            self.recipe,
            self.load,
            self.chunking,
            self.workers,
        )
        for outcome in executor(task):
            if isinstance(outcome, RefusedFile):
                self._refuse(outcome)
            else:
                self._put(*outcome)

    def _settle(self, work: Work) -> None:
        """All that needs no reading: what is gone goes first, so that nobody finds it. Its
        vectors are kept in memory, for a file that was only moved."""
        if work.read:
            with self.database.reading() as connection:
                self._rescued = vectors_of(connection, work.remove, _RESCUED_CHUNKS)
        for key in work.remove:
            with self.database.writing() as connection:
                remove_document(connection, key)
            self._report(key)
        if not (work.report or work.forget or work.touch or work.inodes):
            return
        with self.database.writing() as connection:
            for key, problem, digest in work.report:
                put_problem(connection, key, problem, digest, attempt(self.recipe, self.load))
            for key in work.forget:
                remove_problem(connection, key)
            touch_documents(connection, work.touch)
            set_inodes(connection, work.inodes)

    def _refuse(self, refused: RefusedFile) -> None:
        """A problem takes the old version out of the index."""
        key, error = refused.key, refused.error
        with self.database.writing() as connection:
            remove_document(connection, key)
            if error.kind == "vanished":
                remove_problem(connection, key)
            else:
                tried = attempt(self.recipe, self.load)
                put_problem(connection, key, error.at(key.path), refused.digest, tried)
        problem = self._named(key, error)
        self._problems.append(problem)
        self._report(key, problem)

    def _named(self, key: DocumentKey, found: Problem | ProblemError) -> Problem:
        """``found`` with the path that opens from here."""
        return found.at(readable_name(display_path(absolute_path(self.roots, key))))

    def _cut(self, parsed: ParsedFile) -> None:
        assert self.embedder is not None
        if self._chunker is None:
            self._chunker = Chunker(self.embedder, self.chunking, writer=self.context_writer)
        cut = self._chunker.cut(parsed.document)
        self._new.append(
            NewDocument(
                parsed.key,
                parsed.document,
                parsed.digest,
                self.recipe,
                parsed.fingerprint,
                parsed.checked_ns,
                cut,
            )
        )
        self._waiting += len(cut)

    def _finish(self, embedding: BatchEmbedder) -> None:
        """Have all that was cut embedded, and write it."""
        while self._new or self._embedding:
            self._advance(embedding)

    def _advance(self, embedding: BatchEmbedder) -> None:
        """Write the batch that was embedded meanwhile, and have the next one embedded."""
        if self._embedding:
            while (table := embedding.result(_TELL_EVERY_S)) is None:
                longest = max(self._embedding, key=lambda new: len(new.chunks))
                self._tell(longest.key, embedding.embedded)
            self._write(self._known | table)
        self._embedding, self._new, self._waiting = self._new, [], 0
        if self._embedding:
            wanted = {
                embed_key(chunk): embedded_text(chunk.prefix, chunk.text)
                for new in self._embedding
                for chunk in new.chunks
            }
            self._known = self._find(wanted)
            self._reused += len(self._known)
            embedding.start({key: wanted[key] for key in wanted if key not in self._known})

    def _find(self, wanted: Mapping[bytes, str]) -> dict[bytes, Vectors]:
        """Vectors of equal texts that are in the index, or were until now."""
        table = {key: self._rescued[key] for key in wanted if key in self._rescued}
        with self.database.reading() as connection:
            return table | find_vectors(connection, [key for key in wanted if key not in table])

    def _write(self, table: Mapping[bytes, Vectors]) -> None:
        """Each document in a transaction of its own."""
        for new in self._embedding:
            self._put(new, np.stack([table[embed_key(chunk)] for chunk in new.chunks]))

    def _put(self, new: NewDocument, matrix: Vectors) -> None:
        with self.database.writing() as connection:
            put_document(connection, new, matrix)
        self._chunks += len(new.chunks)
        self._report(new.key)

    def _report(self, key: DocumentKey, problem: Problem | None = None) -> None:
        self._done += 1
        self._bytes_done += self._sizes.get(key, 0)
        self._tell(key, problem=problem)

    def _tell(self, key: DocumentKey, embedded: int = 0, problem: Problem | None = None) -> None:
        """Progress, with ``embedded`` chunks that are not written yet."""
        if self.progress is None:
            return
        at_work = self._reader.at_work if self._reader else ()
        self.progress(
            UpdateProgress(
                self._done,
                self._total,
                self._chunks + embedded,
                self._reused,
                display_path(absolute_path(self.roots, key)),
                time.monotonic() - self._started,
                self._bytes_done,
                self._bytes_total,
                tuple(map(display_path, at_work)),
                problem,
            )
        )
