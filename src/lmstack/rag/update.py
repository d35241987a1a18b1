"""Carry a plan out: read, chunk, embed in batches across documents, commit per document.

Every commit leaves a valid index that holds each document wholly in its old or its new form,
so killing the process at any moment loses at most the documents in the current batch, and the
next update finishes the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lmstack.core import Embedder, InputError
from lmstack.rag.apart import parse_bounded
from lmstack.rag.chunk import ChunkConfig, chunk_document, embedded_text
from lmstack.rag.database import Database
from lmstack.rag.documents import Problem
from lmstack.rag.load import LoadConfig, ProblemError, read_file
from lmstack.rag.memory import Key, absolute_path
from lmstack.rag.plan import Plan, Work, display_path
from lmstack.rag.scan import readable_name
from lmstack.rag.store import (
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

__all__ = ["Progress", "UpdateResult", "Updater"]

_BATCH_CHUNKS = 512
_RESCUED_CHUNKS = 50_000


@dataclass(frozen=True, slots=True)
class Progress:
    """After each document, and within a long one. ``done`` of ``total`` files; ``chunks``
    embedded so far (of them ``reused`` without embedding); ``path`` is the last file or the one
    at work; ``elapsed_s`` since the start."""

    done: int
    total: int
    chunks: int
    reused: int
    path: str
    elapsed_s: float

    @property
    def remaining_s(self) -> float | None:
        """An estimate from the rate so far."""
        return self.elapsed_s / self.done * (self.total - self.done) if self.done else None


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """What an update did. ``problems`` are all files under its paths that could not be
    indexed, those found in earlier updates included."""

    plan: Plan
    added: int
    changed: int
    removed: int
    chunks: int
    reused: int
    problems: tuple[Problem, ...]
    seconds: float


ProgressCallback = Callable[[Progress], None]


@dataclass
class Updater:
    """One run over one plan. Not reusable."""

    database: Database
    embedder: Embedder | None
    roots: Mapping[int, str]
    recipe: str
    load: LoadConfig
    chunking: ChunkConfig
    progress: ProgressCallback | None = None
    _new: list[NewDocument] = field(default_factory=list)
    _rescued: dict[bytes, Vectors] = field(default_factory=dict)
    _waiting: int = 0
    _done: int = 0
    _total: int = 0
    _chunks: int = 0
    _reused: int = 0
    _started: float = 0.0

    def run(self, plan: Plan, work: Work) -> UpdateResult:
        self._started = time.monotonic()
        if work.read and self.embedder is None:
            raise InputError(
                "adding or changing documents needs an embedding model",
                hint="open the index with an embedder",
                param="embedder",
            )
        self._total = len(work.read) + len(work.remove)
        self._settle(work)
        problems: list[Problem] = []
        for key in work.read:
            outcome = self._prepare(key)
            if isinstance(outcome, Problem):
                problems.append(outcome)
                self._report(key)
            elif outcome is not None:
                self._new.append(outcome)
                self._waiting += len(outcome.chunks)
            if self._waiting >= _BATCH_CHUNKS:
                self._flush()
        self._flush()
        return UpdateResult(
            plan,
            len(plan.add),
            len(plan.change),
            len(plan.remove),
            self._chunks,
            self._reused,
            (*plan.problems, *problems),
            time.monotonic() - self._started,
        )

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
                put_problem(connection, key, problem, digest, self.recipe)
            for key in work.forget:
                remove_problem(connection, key)
            touch_documents(connection, work.touch)
            set_inodes(connection, work.inodes)

    def _prepare(self, key: Key) -> NewDocument | Problem | None:
        """Read and chunk one file. A problem takes the old version out of the index."""
        assert self.embedder is not None
        path = absolute_path(self.roots, key)
        digest: bytes | None = None
        checked_ns = time.time_ns()
        try:
            raw = read_file(Path(path), self.load)
            digest = raw.digest
            if len(raw.data) > self.load.apart_bytes:
                self._flush()  # the others do not wait for a large one
            document = parse_bounded(path, raw.data, self.load)
        except ProblemError as error:
            problem = error.at(key.path)
            with self.database.writing() as connection:
                remove_document(connection, key)
                if error.kind == "vanished":
                    remove_problem(connection, key)
                else:
                    put_problem(connection, key, problem, digest, self.recipe)
            return Problem(readable_name(display_path(path)), error.kind, error.message, error.hint)
        cut = chunk_document(
            document, self.embedder.count_tokens, self.embedder.max_tokens, self.chunking
        )
        return NewDocument(key, document, digest, self.recipe, raw.fingerprint, checked_ns, cut)

    def _flush(self) -> None:
        """Embed what waits, then write each document in a transaction of its own."""
        if not self._new:
            return
        table = self._embed(self._new)
        for new in self._new:
            matrix = np.stack([table[embed_key(chunk)] for chunk in new.chunks])
            with self.database.writing() as connection:
                put_document(connection, new, matrix)
            self._chunks += len(new.chunks)
            self._report(new.key)
        self._new, self._waiting = [], 0

    def _embed(self, batch: list[NewDocument]) -> dict[bytes, Vectors]:
        assert self.embedder is not None
        wanted = {
            embed_key(chunk): embedded_text(chunk.prefix, chunk.text)
            for new in batch
            for chunk in new.chunks
        }
        with self.database.reading() as connection:
            table = find_vectors(connection, [key for key in wanted if key not in self._rescued])
        table.update({key: self._rescued[key] for key in wanted if key in self._rescued})
        self._reused += len(table)
        missing = [key for key in wanted if key not in table]
        for number, part in enumerate(_slices(missing, _BATCH_CHUNKS)):
            if number:
                self._tell(batch[-1].key, len(table))
            matrix = self.embedder.embed([wanted[key] for key in part], "passage")
            table.update(zip(part, np.asarray(matrix, np.float32), strict=True))
        return table

    def _report(self, key: Key) -> None:
        self._done += 1
        self._tell(key)

    def _tell(self, key: Key, embedded: int = 0) -> None:
        """Progress, with ``embedded`` chunks that are not written yet."""
        if self.progress is not None:
            self.progress(
                Progress(
                    self._done,
                    self._total,
                    self._chunks + embedded,
                    self._reused,
                    display_path(absolute_path(self.roots, key)),
                    time.monotonic() - self._started,
                )
            )


def _slices(items: list[bytes], size: int) -> Iterator[list[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
