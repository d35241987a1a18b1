"""Documents of an index that say the same, wholly or nearly, in groups.

Candidates are those whose sketches share a band (locality-sensitive hashing; Leskovec, Rajaraman
and Ullman, chapter 3): with 128 values in 32 bands of 4, two documents at a similarity of 0.8
meet with a probability of 0.9999999. Each is then counted on the stored texts, so that what is
reported is right; only what no band brought together is missed. Covers whole documents: a passage
that is quoted in another one is no duplicate.

A text is the set of its shingles: five words that follow one another, without case and
punctuation. The similarity of two texts is the Jaccard index of these sets (Broder, 1997). In a
sketch, each of `VALUES` numbers is the least hash of all shingles under one hash function; two
texts share each with a probability that is their similarity. Of a text without spaces between
words a shingle is five runs of letters, which still finds copies.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import check_range
from lmstack.rag.catalogue.schema import documents, iso_time, texts
from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path, source_roots
from lmstack.rag.disjoint_sets import DisjointSets

__all__ = [
    "VALUES",
    "Duplicate",
    "DuplicateGroup",
    "find_duplicates",
    "group_similar",
    "jaccard",
    "load_sketch",
    "shingles_of",
    "sketch_of",
]

VALUES = 128
Shingles = npt.NDArray[np.uint64]
Sketch = npt.NDArray[np.uint32]
_WORD = re.compile(r"\w+")
_LENGTH = 5
_BLOCK = 2048
# Part of what is stored: raise it when the same text gives another sketch.
_VERSION = b"\x01"
_RANDOM = np.random.Generator(np.random.PCG64(20261126))
# Multiply-shift hashing (Dietzfelbinger et al., 1997): odd factors, the high bits count.
_FACTORS = _RANDOM.integers(0, 2**64, (VALUES, 1), np.uint64) | np.uint64(1)
_TERMS = _RANDOM.integers(0, 2**64, (VALUES, 1), np.uint64)
_PLACES = _RANDOM.integers(0, 2**64, _LENGTH, np.uint64) | np.uint64(1)


def shingles_of(text: str) -> Shingles:
    """The hashes of the shingles of ``text``, ascending, each once; one for a text of fewer
    words, none for a text without any."""
    words = _WORD.findall(text.lower())
    numbers = {word: _hash(word) for word in set(words)}
    hashes = np.fromiter((numbers[word] for word in words), np.uint64, len(words))
    if len(hashes) < _LENGTH:
        hashes = np.pad(hashes, (0, _LENGTH - len(hashes))) if len(hashes) else hashes
    count = max(len(hashes) - _LENGTH + 1, 0)
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(_PLACES):
        total += hashes[place : place + count] * factor
    return np.unique(_mixed(total))


def sketch_of(text: str) -> bytes:
    """As it is stored."""
    shingles = shingles_of(text)
    least = np.full(VALUES, 2**32 - 1, np.uint32)
    for start in range(0, len(shingles), _BLOCK):
        hashed = (_FACTORS * shingles[start : start + _BLOCK] + _TERMS) >> np.uint64(32)
        least = np.minimum(least, hashed.min(axis=1).astype(np.uint32))
    return _VERSION + least.astype("<u4").tobytes()


def load_sketch(stored: bytes | None, text: str | None = None) -> Sketch | None:
    """The values of a stored sketch; made of ``text`` if it is of another version or missing,
    None without."""
    if stored is None or stored[:1] != _VERSION:
        if text is None:
            return None
        stored = sketch_of(text)
    return np.frombuffer(stored, "<u4", offset=1)


def jaccard(first: Shingles, second: Shingles) -> float:
    """Of two ascending sets: how much they share of all they have; 0 where nothing is said."""
    if not len(first) or not len(second):
        return 0.0
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


@lru_cache(2**16)
def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(values: Shingles) -> Shingles:
    """Every bit of each number depends on all of its bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Shingles = values ^ (values >> np.uint64(31))
    return mixed


_ROWS = 4
# The standard error of a similarity of 0.8 estimated by 128 values is 0.035.
_SLACK = 0.12
# In a crowd that shares a band (a template filled in a thousand times) each is compared with so
# many others, not with all.
_LEADERS = 50
_KEPT_SETS = 512


@dataclass(frozen=True, slots=True)
class Duplicate:
    """``similarity`` is the Jaccard index with the newest document of its group; ``exact`` if
    the text is the same, character by character. ``modified`` is in UTC, ISO 8601."""

    path: str
    modified: str
    similarity: float
    exact: bool
    newest: bool


@dataclass(frozen=True, slots=True)
class DuplicateGroup:
    """Documents that are each similar to another one of the group, the newest first. Newer goes
    by the file's time of modification, which copying a file may change."""

    documents: tuple[Duplicate, ...]

    @property
    def similarity(self) -> float:
        """The least with the newest."""
        return min(document.similarity for document in self.documents)


def find_duplicates(connection: sa.Connection, similarity: float = 0.8) -> list[DuplicateGroup]:
    """All groups, the most similar first."""
    check_range("similarity", similarity, 0.5, 1.0)
    rows = _rows(connection)
    # Of equal texts one stands for all: no crowd of copies is ever compared.
    first: dict[bytes, int] = {}
    for number, row in enumerate(rows):
        first.setdefault(row.text_digest, number)
    numbers = list(first.values())
    sets = _Shingles(connection, [rows[number].id for number in numbers])
    sketches = [_sketch(connection, rows[number]) for number in numbers]
    groups = group_similar(sketches, sets, similarity)
    where = {rows[number].text_digest: groups[place] for place, number in enumerate(numbers)}
    members: dict[int, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        members[where[row.text_digest]].append(number)
    place_of = {rows[number].text_digest: place for place, number in enumerate(numbers)}
    roots = source_roots(connection)
    found = [
        _group([rows[number] for number in group], place_of, sets, roots)
        for group in members.values()
        if len(group) > 1
    ]
    return sorted(found, key=lambda group: (-group.similarity, group.documents[0].path))


def group_similar(
    sketches: Sequence[Sketch], shingles: Callable[[int], Shingles], similarity: float
) -> list[int]:
    """The group of each document (the number of its first one): those are in one group that are
    ``similarity`` or more alike, or linked by others that are. ``shingles`` of a document by its
    number."""
    sets = DisjointSets(len(sketches))
    compared: set[tuple[int, int]] = set()
    for bucket in _buckets(sketches):
        leaders: list[int] = []
        for number in bucket:
            for leader in leaders:
                pair = (leader, number)
                if sets.root(leader) == sets.root(number) or pair in compared:
                    continue
                compared.add(pair)
                same = np.count_nonzero(sketches[leader] == sketches[number]) / VALUES
                if same >= similarity - _SLACK and (
                    jaccard(shingles(leader), shingles(number)) >= similarity
                ):
                    sets.join(leader, number)
            if len(leaders) < _LEADERS:
                leaders.append(number)
    return [sets.root(number) for number in range(len(sketches))]


def _buckets(sketches: Sequence[Sketch]) -> Iterable[list[int]]:
    """The documents that share all values of a band, for each band."""
    if not sketches:
        return
    table = np.stack(sketches)
    for start in range(0, VALUES, _ROWS):
        band = np.ascontiguousarray(table[:, start : start + _ROWS]).view(f"V{4 * _ROWS}").ravel()
        buckets: dict[bytes, list[int]] = defaultdict(list)
        for number, key in enumerate(band.tolist()):
            buckets[key].append(number)
        yield from (bucket for bucket in buckets.values() if len(bucket) > 1)


class _Shingles:
    """The shingles of documents by their number, read when they are needed; so many are kept."""

    def __init__(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        self._connection, self._ids = connection, ids
        self._kept: OrderedDict[int, Shingles] = OrderedDict()

    def __call__(self, number: int) -> Shingles:
        if number not in self._kept:
            query = sa.select(texts.c.text).where(texts.c.document_id == self._ids[number])
            self._kept[number] = shingles_of(str(self._connection.execute(query).scalar_one()))
            if len(self._kept) > _KEPT_SETS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]


def _rows(connection: sa.Connection) -> list[Any]:
    query = sa.select(
        documents.c.id,
        documents.c.source_id,
        documents.c.path,
        documents.c.mtime_ns,
        texts.c.digest.label("text_digest"),
        texts.c.sketch,
    ).join_from(documents, texts, documents.c.id == texts.c.document_id)
    return list(connection.execute(query.order_by(documents.c.id)))


def _sketch(connection: sa.Connection, row: Any) -> Sketch:
    found = load_sketch(row.sketch)
    if found is None:  # indexed before sketches were kept
        query = sa.select(texts.c.text).where(texts.c.document_id == row.id)
        found = load_sketch(None, str(connection.execute(query).scalar_one()))
        assert found is not None
    return found


def _group(
    rows: Sequence[Any],
    place_of: Mapping[bytes, int],
    sets: _Shingles,
    roots: Mapping[int, str],
) -> DuplicateGroup:
    ordered = sorted(rows, key=lambda row: (-row.mtime_ns, row.path))
    newest = ordered[0]
    base = sets(place_of[newest.text_digest])
    members = []
    for row in ordered:
        exact = row.text_digest == newest.text_digest
        alike = 1.0 if exact else jaccard(base, sets(place_of[row.text_digest]))
        path = absolute_path(roots, DocumentKey(row.source_id, row.path))
        members.append(Duplicate(path, iso_time(row.mtime_ns), alike, exact, row is newest))
    return DuplicateGroup(tuple(members))
