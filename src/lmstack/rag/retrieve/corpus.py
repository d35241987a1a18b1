"""One state of the index in memory: its vectors, its postings, and who may see what.

The rows of a corpus are the passages, in the order of their ids. They are assembled from what
the catalogue holds of each document; a change of a few documents reads only those again. New
documents go into a second, small segment, and the two become one when it has grown. Masks over
rows say what a caller may see and what a filter lets through; they are made once a state, filter
and set of labels. Thread-safe. Covers what is held; `hybrid` asks it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import IntegrityError
from lmstack.rag.catalogue.rules import may_see
from lmstack.rag.catalogue.schema import (
    ACTIVE,
    all_fields,
    chunks,
    documents,
    load_fields,
    postings,
    unpack_vectors,
    vectors,
)
from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path, source_roots
from lmstack.rag.catalogue.verify import Recall, measure_recall
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.retrieve.bm25 import Bm25, merge_postings, without_rows
from lmstack.rag.retrieve.dense import Dense, DenseSegment, Mask, Rows
from lmstack.rag.words import Postings, is_of_other_version, posting_blob, read_postings

__all__ = ["Corpus", "CorpusCache", "DocumentFacts"]

_T = TypeVar("_T")
_BATCH = 500
_MASKS = 32
_VIEWS = 4
# The second segment may hold so many rows, or this share of the first.
_TAIL_ROWS = 2000
_TAIL_SHARE = 8


@dataclass(frozen=True, slots=True)
class DocumentFacts:
    """What masks need to know of a document."""

    revision: int
    labels: frozenset[str]
    fields: Fields


@dataclass(frozen=True, slots=True)
class _Segment:
    """Documents one after the other; ``table`` (n, 3): id, first chunk and chunks of each."""

    table: npt.NDArray[np.int64]
    dense: DenseSegment
    words: Postings

    @property
    def last_chunk(self) -> int:
        return int(self.table[-1, 1:].sum()) - 1 if len(self.table) else -1


class Corpus:
    """The state ``generation``. Documents of the segments that ``facts`` lacks are gone: their
    rows are masked. ``chunk_ids[row]`` ascend; the document of a row is
    ``document_ids[owners[row]]``, whose first passage it is where it ``begins``."""

    def __init__(
        self, generation: int, segments: Sequence[_Segment], facts: Mapping[int, DocumentFacts]
    ) -> None:
        self.generation = generation
        self.segments = segments
        self.facts = facts
        table = np.concatenate([segment.table for segment in segments])
        self.document_ids, firsts, counts = table.T
        starts = np.cumsum(counts) - counts
        self.owners = np.repeat(np.arange(len(counts)), counts)
        ordinals = np.arange(len(self.owners)) - starts[self.owners]
        self.begins = ordinals == 0
        self.chunk_ids = firsts[self.owners] + ordinals
        paths = [str(facts[i].fields["path"]) if i in facts else "" for i in self._ids()]
        order = np.array(sorted(range(len(paths)), key=paths.__getitem__), np.int64)
        places = np.empty(len(counts), np.int64)
        places[order] = np.cumsum(counts[order]) - counts[order]
        self.places = (places[self.owners] + ordinals).astype(np.int32)
        self._row_at = np.argsort(self.places)
        self.dense = Dense([s.dense for s in segments], self.places)
        self._lock = threading.Lock()
        self._masks: OrderedDict[Hashable, Mask | None] = OrderedDict()
        self._views: OrderedDict[Hashable, Bm25] = OrderedDict()

    def _ids(self) -> list[int]:
        return list(map(int, self.document_ids))

    def visible(self, held: frozenset[str] | None) -> Mask | None:
        """The rows that a caller with the labels ``held`` (None: the owner) may see; None for
        all. Statistics of words are made over these."""
        return self._mask(("visible", held), lambda facts: may_see(held, facts.labels))

    def allowed(self, held: frozenset[str] | None, where: Filter | None) -> Mask | None:
        """The rows that may be found: visible, and of documents that match ``where``."""
        if where is None:
            return self.visible(held)
        return self._mask(
            (held, where), lambda facts: may_see(held, facts.labels) and where.matches(facts.fields)
        )

    def num_visible(self, held: frozenset[str] | None) -> int:
        """How many documents a caller with the labels ``held`` may see."""
        visible = self.visible(held)
        if visible is None:
            return len(self.document_ids)
        return len(np.unique(self.owners[visible]))

    def words(self, held: frozenset[str] | None) -> Bm25:
        """Ranking by words for a caller with the labels ``held``."""
        visible = self.visible(held)
        owners = self.visible(None)
        same = visible is owners or (
            visible is not None and owners is not None and np.array_equal(visible, owners)
        )
        return _remembered(
            self._views,
            None if same else held,
            lambda: Bm25([s.words for s in self.segments], self.places, visible),
            self._lock,
            _VIEWS,
        )

    def rows_at(self, places: Sequence[int]) -> Rows:
        """The rows that stand at ``places``."""
        return self._row_at[np.array(places, np.int64)]

    def recall(self) -> Recall | None:
        """What picking candidates by signs finds of an exact search, over all documents."""
        seen = self.visible(None)
        rows = np.arange(len(self.chunk_ids)) if seen is None else np.flatnonzero(seen)

        def find(vector: npt.NDArray[np.float32], k: int) -> list[int]:
            found, _ = self.dense.search(vector, k, seen, "always")
            return list(map(int, self.chunk_ids[found]))

        return measure_recall(find, self.chunk_ids[rows], self.dense.rows(rows))

    def _mask(self, key: Hashable, sees: Callable[[DocumentFacts], bool]) -> Mask | None:
        return _remembered(self._masks, key, lambda: self._judge(sees), self._lock, _MASKS)

    def _judge(self, sees: Callable[[DocumentFacts], bool]) -> Mask | None:
        yes = [i in self.facts and sees(self.facts[i]) for i in self._ids()]
        return None if all(yes) else np.array(yes, np.bool_)[self.owners]


def _remembered(
    kept: OrderedDict[Hashable, _T],
    key: Hashable,
    make: Callable[[], _T],
    lock: threading.Lock,
    limit: int,
) -> _T:
    """``kept[key]``, made if it is not there; what was not asked for longest is forgotten."""
    with lock:
        if key in kept:
            kept.move_to_end(key)
            return kept[key]
    made = make()
    with lock:
        kept[key] = made
        while len(kept) > limit:
            kept.popitem(last=False)
    return made


class CorpusCache:
    """The newest state seen of the active space, whose vectors have ``dimensions``."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._corpus: Corpus | None = None

    def get(self, connection: sa.Connection, generation: int) -> Corpus:
        """The state in the snapshot of ``connection``, whose generation is given."""
        with self._lock:
            if self._corpus is None or self._corpus.generation != generation:
                self._corpus = self._load(connection, generation, self._corpus)
            return self._corpus

    def _load(self, connection: sa.Connection, generation: int, last: Corpus | None) -> Corpus:
        rows = connection.execute(sa.select(documents.c.id, documents.c.revision)).all()
        revisions = {row.id: row.revision for row in rows}
        known = last.facts if last else {}
        changed = [i for i, revision in revisions.items() if not _is(known.get(i), revision)]
        facts = {i: known[i] for i in revisions if i in known} | _read_facts(connection, changed)
        segments = list(last.segments) if last else []
        firsts = {int(i): int(first) for segment in segments for i, first in segment.table[:, :2]}
        again = _firsts(connection, [i for i in changed if i in firsts])
        if any(firsts[i] != first for i, first in again.items()):
            segments, firsts = [], {}  # made anew under an old id: begin again
        fresh = [i for i in revisions if i not in firsts]
        if segments and fresh:
            new = self._read(connection, fresh)
            if len(new.table) and new.table[0, 1] <= segments[-1].last_chunk:
                segments = []
            else:
                segments.append(new)
        if not segments:
            segments = [self._read(connection, None)]
        return Corpus(generation, _tidied(segments, facts), facts)

    def _read(self, connection: sa.Connection, ids: Sequence[int] | None) -> _Segment:
        """The passages of some documents, or of all."""
        size = sa.select(sa.func.sum(documents.c.chunk_count))
        query = (
            sa.select(
                vectors.c.document_id,
                vectors.c.first_chunk,
                vectors.c.rows,
                vectors.c.dimensions,
                vectors.c.data,
                postings.c.data.label("posted"),
            )
            .join_from(
                vectors,
                postings,
                (vectors.c.space_id == postings.c.space_id)
                & (vectors.c.document_id == postings.c.document_id),
                isouter=True,
            )
            .where(vectors.c.space_id == ACTIVE)
            .order_by(vectors.c.document_id)
        )
        reading = _Reading(self._dimensions)
        for part in [None] if ids is None else _batches(ids):
            mine = sa.true() if part is None else documents.c.id.in_(part)
            reading.reserve(int(connection.execute(size.where(mine)).scalar() or 0))
            only = query if part is None else query.where(vectors.c.document_id.in_(part))
            for row in connection.execute(only):
                reading.add(connection, row)
        return reading.segment()


class _Reading:
    """Fills one matrix as rows come, so that no vector is held twice."""

    def __init__(self, dimensions: int) -> None:
        self._matrix = np.zeros((0, dimensions), np.float32)
        self._documents: list[tuple[int, int, int]] = []
        self._words: list[Postings] = []
        self._size = 0

    def reserve(self, rows: int) -> None:
        """Make room for so many more rows."""
        room = np.empty((self._size + rows, self._matrix.shape[1]), np.float32)
        room[: self._size] = self._matrix[: self._size]
        self._matrix = room

    def add(self, connection: sa.Connection, row: Any) -> None:
        first, count, data, posted = row.first_chunk, row.rows, row.data, row.posted
        if posted is not None and is_of_other_version(posted):
            posted = posting_blob(_texts(connection, row.document_id))
        words = read_postings(posted or b"")
        width = self._matrix.shape[1]
        if row.dimensions != width or len(words.lengths) != count:
            raise IntegrityError(
                f"the vectors or postings of document {row.document_id} are damaged",
                hint="index your documents again with --rebuild; the damaged file is kept beside",
                param="index",
            )
        if self._size + count > len(self._matrix):
            self.reserve(count)
        self._matrix[self._size : self._size + count] = unpack_vectors(data, count, width)
        self._size += count
        self._documents.append((row.document_id, first, count))
        self._words.append(words)

    def segment(self) -> _Segment:
        """What was read, in the order of chunks."""
        table = np.array(self._documents, np.int64).reshape(-1, 3)
        matrix, words = self._matrix[: self._size], self._words
        order = np.argsort(table[:, 1], kind="stable")
        if (order != np.arange(len(order))).any():
            ends = np.cumsum(table[:, 2])
            matrix = np.concatenate([matrix[ends[n] - table[n, 2] : ends[n]] for n in order])
            words = [words[n] for n in order]
        return _Segment(table[order], DenseSegment(matrix), merge_postings(words))


def _is(known: DocumentFacts | None, revision: int) -> bool:
    return known is not None and known.revision == revision


def _tidied(segments: list[_Segment], facts: Mapping[int, DocumentFacts]) -> list[_Segment]:
    """At most two segments: those after the first become one, and all do if what is behind the
    first, or gone from it, is much."""
    main, *rest = segments
    there = np.isin(main.table[:, 0], list(facts))
    gone = int(main.table[~there, 2].sum())
    behind = sum(int(segment.table[:, 2].sum()) for segment in rest)
    if max(behind, gone) > max(_TAIL_ROWS, int(main.table[:, 2].sum()) // _TAIL_SHARE):
        return [_merged(segments, facts)]
    return [main, _merged(rest, facts)] if len(rest) > 1 else segments


def _merged(segments: Sequence[_Segment], facts: Mapping[int, DocumentFacts]) -> _Segment:
    """One segment of the documents that are still there."""
    tables, matrices, words = [], [], []
    for segment in segments:
        there = np.isin(segment.table[:, 0], list(facts))
        rows = np.repeat(there, segment.table[:, 2])
        tables.append(segment.table[there])
        matrices.append(segment.dense.vectors[rows])
        words.append(without_rows(segment.words, rows))
    return _Segment(
        np.concatenate(tables), DenseSegment(np.concatenate(matrices)), merge_postings(words)
    )


def _batches(ids: Sequence[int]) -> Iterable[Sequence[int]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _firsts(connection: sa.Connection, ids: Sequence[int]) -> dict[int, int]:
    """The first chunk of each of some documents."""
    found: dict[int, int] = {}
    for part in _batches(ids):
        query = sa.select(vectors.c.document_id, vectors.c.first_chunk).where(
            (vectors.c.space_id == ACTIVE) & vectors.c.document_id.in_(part)
        )
        found |= {row.document_id: row.first_chunk for row in connection.execute(query)}
    return found


def _read_facts(connection: sa.Connection, ids: Sequence[int]) -> dict[int, DocumentFacts]:
    found: dict[int, DocumentFacts] = {}
    roots = source_roots(connection)
    for part in _batches(ids):
        for row in connection.execute(sa.select(documents).where(documents.c.id.in_(part))):
            path = absolute_path(roots, DocumentKey(row.source_id, row.path))
            fields = all_fields(row, load_fields(row.fields), roots[row.source_id], path)
            found[row.id] = DocumentFacts(row.revision, frozenset(json.loads(row.labels)), fields)
    return found


def _texts(connection: sa.Connection, document_id: int) -> list[tuple[str, str]]:
    """What a document's postings are made of, for those of another version."""
    rows = connection.execute(
        sa.select(chunks.c.prefix, chunks.c.text)
        .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == document_id))
        .order_by(chunks.c.ordinal)
    )
    return [(row.prefix, row.text) for row in rows]
