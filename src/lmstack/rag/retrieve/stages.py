"""The stages that reorder or drop what a search found; `retriever` runs them in order.

Rerank: the first candidates are scored by a model that reads query and passage together, each
passage with its headings, as it was embedded.

Freshness: ``score = (1 - w) * relevance + w * 2 ** (-age / half-life)``, relevance scaled to
[0, 1] over the candidates. A document without a date is as old as its file; without that it counts
as one half-life old, and one of the future as new.

Versions: a document is superseded by another among those found that says so (``supersedes``, or
its own ``superseded_by``, naming a path, a file name or a title), or that has the same title or the
same path but for its version and a higher ``version``, in its fields or its path
(``policy-v2.pdf``). A superseded document stays in the results, behind its newest version.

Late interaction (ColBERT, Khattab and Zaharia 2020, arXiv:2004.12832): the mean over tokens of the
query of the largest cosine with a token of the passage. Passages are encoded when they are first
met and remembered in int8, because a passage has a hundred vectors where an index has one.

Duplicates are collapsed. MMR (Carbonell and Goldstein 1998): the next passage has the largest
``share * relevance - (1 - share) * likeness to what was chosen``.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import PurePosixPath
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lmstack.core import ModelInfo, Reranker, TextKind
from lmstack.rag.chunk import embedded_text
from lmstack.rag.filters import Fields
from lmstack.rag.retrieve.hybrid import Hit

__all__ = [
    "Described",
    "LateInteractionReranker",
    "TokenEmbedder",
    "collapse",
    "day_of",
    "diversify",
    "newest_first",
    "prefer_fresh",
    "reads",
    "reads_most",
    "rescore",
    "scaled",
    "superseded_by",
    "unless_named",
    "with_read",
]

Floats = npt.NDArray[np.float32]
_SCALE = 127.0


@runtime_checkable
class TokenEmbedder(Protocol):
    """Text to a unit vector a token. Thread-safe."""

    @property
    def info(self) -> ModelInfo: ...

    def embed_tokens(self, texts: Sequence[str], kind: TextKind = "passage") -> list[Floats]:
        """Of each text (tokens, dimensions); what is too long is cut."""
        ...


class LateInteractionReranker:
    """A `TokenEmbedder` as core's `Reranker`. ``cache_bytes``: for passages that may be asked
    about again; the longest unused are forgotten first. Thread-safe."""

    def __init__(self, embedder: TokenEmbedder, cache_bytes: int = 256_000_000) -> None:
        self._embedder = embedder
        self._limit = cache_bytes
        self._used = 0
        self._cache: OrderedDict[bytes, npt.NDArray[np.int8]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        return self._embedder.info

    def score(self, query: str, passages: Sequence[str]) -> Floats:
        [asked] = self._embedder.embed_tokens([query], "query")
        return np.array([_mean_max(asked, p) for p in self._encoded(passages)], np.float32)

    def _encoded(self, passages: Sequence[str]) -> list[npt.NDArray[np.int8]]:
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in passages]
        with self._lock:
            found = {key: self._cache[key] for key in keys if key in self._cache}
            for key in found:
                self._cache.move_to_end(key)
        missing = {key: text for key, text in zip(keys, passages, strict=True) if key not in found}
        if missing:
            vectors = self._embedder.embed_tokens(list(missing.values()), "passage")
            made = {
                key: np.rint(each * _SCALE).astype(np.int8)
                for key, each in zip(missing, vectors, strict=True)
            }
            self._remember(made)
            found |= made
        return [found[key] for key in keys]

    def _remember(self, made: dict[bytes, npt.NDArray[np.int8]]) -> None:
        with self._lock:
            for key, vectors in made.items():
                if key not in self._cache:
                    self._cache[key] = vectors
                    self._used += vectors.nbytes
            while self._used > self._limit:
                _, oldest = self._cache.popitem(last=False)
                self._used -= oldest.nbytes


def _mean_max(query: Floats, passage: npt.NDArray[np.int8]) -> float:
    """0 for a passage or a query of no tokens."""
    if not len(query) or not len(passage):
        return 0.0
    similarities = query @ passage.T.astype(np.float32)
    return float(similarities.max(axis=1).mean()) / _SCALE


_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_SHINGLE = 3


def collapse(hits: Sequence[Hit], threshold: float) -> tuple[list[Hit], dict[int, str]]:
    """``hits`` without those that share ``threshold`` of their words in sequence (Jaccard index
    of runs of three) with one before them; and which those are. Texts that differ in a number
    say different things, and are never duplicates."""
    kept: list[tuple[Hit, list[str], frozenset[tuple[str, ...]]]] = []
    dropped: dict[int, str] = {}
    for hit in hits:
        numbers, shingles = _NUMBER.findall(hit.text), _shingles(hit.text)
        twin = next(
            (
                other
                for other, others, theirs in kept
                if others == numbers
                and len(shingles & theirs) / len(shingles | theirs) >= threshold
            ),
            None,
        )
        if twin is None:
            kept.append((hit, numbers, shingles))
        else:
            dropped[hit.chunk_id] = f"says what {twin.path} ({twin.start}-{twin.end}) says"
    return [hit for hit, _, _ in kept], dropped


def diversify(
    hits: Sequence[Hit], vectors: npt.NDArray[np.float32], k: int, share: float
) -> list[Hit]:
    """The ``k`` hits that MMR chooses, in that order; row i of ``vectors`` (unit length) is
    that of hit i. The score of a hit is its marginal relevance."""
    relevance = scaled([hit.score for hit in hits])
    likeness = np.zeros(len(hits))
    left = list(range(len(hits)))
    chosen: list[Hit] = []
    while left and len(chosen) < k:
        gains = [share * relevance[row] - (1 - share) * likeness[row] for row in left]
        row = left.pop(int(np.argmax(gains)))
        chosen.append(replace(hits[row], score=float(max(gains))))
        near = vectors @ vectors[row]
        likeness = near if len(chosen) == 1 else np.maximum(likeness, near)
    return chosen


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < _SHINGLE:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[i:] for i in range(_SHINGLE)), strict=False))


_DATE = re.compile(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?(?!\d)")


def prefer_fresh(
    hits: Sequence[Hit],
    fields_of: Callable[[Hit], Fields],
    today: date,
    half_life_days: float,
    weight: float,
    date_field: str,
) -> list[Hit]:
    """``hits`` in the order of relevance and age."""
    if not hits:
        return []
    freshness = []
    for hit in hits:
        fields = fields_of(hit)
        day = day_of(fields.get(date_field)) or day_of(fields.get("modified"))
        age = half_life_days if day is None else max((today - day).days, 0)
        freshness.append(0.5 ** (age / half_life_days))
    relevance = scaled([hit.score for hit in hits])
    return by_score(hits, (1 - weight) * relevance + weight * np.array(freshness))


def day_of(value: object) -> date | None:
    """The day of an ISO 8601 text, which may lack day or month (then the first); None if it is
    not one."""
    match = _DATE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    try:
        return date(int(match[1]), int(match[2] or 1), int(match[3] or 1))
    except ValueError:
        return None


def reads(info: ModelInfo, language: str) -> bool:
    """Whether text in ``language`` (a code of ISO 639-1, empty where it could not be told) is for
    the model of ``info``."""
    return not (info.languages and language) or language in info.languages


def reads_most(info: ModelInfo, languages: Iterable[str]) -> bool:
    """Whether the model reads at least half of the documents in ``languages``, one code for each.
    Those that could not be told do not count; without any that could, it does."""
    known = [reads(info, language) for language in languages if language]
    return 2 * sum(known) >= len(known)


Version = tuple[int, ...]
_IN_PATH = re.compile(
    r"[\s_.-]*(?:\b|(?<=_))(?:v|ver|version|rev|revision)[\s_.-]*(\d+(?:[._]\d+)*)", re.I
)
# Python reads no number of thousands of digits, which a document may well state.
_NUMBERS = re.compile(r"\d{1,18}")
_SEPARATORS = re.compile(r"[\s_.-]+")


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a document: as much as tells versions apart."""

    id: int
    path: str
    title: str
    fields: Fields

    @property
    def version(self) -> Version | None:
        stated = self.fields.get("version")
        if isinstance(stated, int | float | str) and not isinstance(stated, bool):
            numbers = _NUMBERS.findall(str(stated))
            if numbers:
                return tuple(map(int, numbers))
        found = _IN_PATH.search(PurePosixPath(self.path).stem)
        return tuple(map(int, _NUMBERS.findall(found[1]))) if found else None

    @property
    def families(self) -> tuple[str, ...]:
        """Documents that share one of these are versions of one, if they state versions."""
        path = PurePosixPath(self.path)
        stem = _plain(_IN_PATH.sub("", path.stem))
        title = _plain(_IN_PATH.sub("", self.title))
        own_title = title and title != stem
        return (f"path {path.parent}/{stem}", *([f"title {title}"] if own_title else []))

    def is_named(self, name: str) -> bool:
        """By its title, its file name, or the end of its path."""
        wanted = name.strip().removeprefix("./").lower()
        path = self.path.lower()
        names = {self.title.lower(), PurePosixPath(path).stem, path}
        return bool(wanted) and (wanted in names or path.endswith(f"/{wanted}"))


def superseded_by(documents: Iterable[Described]) -> dict[int, int]:
    """Of each superseded document the id of its newest version. A circle of documents that
    supersede each other supersedes nothing."""
    known = sorted(documents, key=lambda each: each.id)
    newer = _by_version(known) | _by_name(known)
    newest: dict[int, int] = {}
    for old in newer:
        seen, last = {old}, newer[old]
        while last in newer and last not in seen:
            seen.add(last)
            last = newer[last]
        if last not in newer:
            newest[old] = last
    return newest


def unless_named(newest: Mapping[int, int], hits: Sequence[Hit]) -> dict[int, int]:
    """``newest`` without documents that names in the query single out sooner than their newest
    version: who asks for version 2.1 does not mean 2.4."""
    named = {hit.document_id: hit.named for hit in hits}
    return {old: new for old, new in newest.items() if named.get(old, 0) <= named.get(new, 0)}


def newest_first(hits: Sequence[Hit], newest: Mapping[int, int]) -> list[Hit]:
    """``hits`` where the places that the versions of one document hold are filled with the
    newest version's first, each version in its own order. Places keep their scores."""
    places: dict[int, list[int]] = {}
    for place, hit in enumerate(hits):
        places.setdefault(newest.get(hit.document_id, hit.document_id), []).append(place)
    ordered = list(hits)
    for family, held in places.items():
        mine = sorted(held, key=lambda place: hits[place].document_id != family)
        for place, source in zip(held, mine, strict=True):
            ordered[place] = replace(hits[source], score=hits[place].score)
    return ordered


def _by_version(known: Sequence[Described]) -> dict[int, int]:
    families: dict[str, list[tuple[Version, Described]]] = {}
    for each in known:
        if each.version is not None:
            for family in each.families:
                families.setdefault(family, []).append((each.version, each))
    newer: dict[int, int] = {}
    for members in families.values():
        version, newest = max(members, key=lambda pair: (pair[0], -pair[1].id))
        newer |= {each.id: newest.id for own, each in members if own < version}
    return newer


def _by_name(known: Sequence[Described]) -> dict[int, int]:
    newer: dict[int, int] = {}
    for each in known:
        for other in known:
            if other.id == each.id:
                continue
            if any(other.is_named(name) for name in _texts(each.fields.get("supersedes"))):
                newer[other.id] = each.id
            if any(other.is_named(name) for name in _texts(each.fields.get("superseded_by"))):
                newer[each.id] = other.id
    return newer


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return tuple(str(each) for each in value)
    return (value,) if isinstance(value, str) else ()


def _plain(text: str) -> str:
    return _SEPARATORS.sub(" ", text).strip().lower()


# Passages of one document that are read because it is the one named.
OF_ONE = 3


def with_read(hits: Sequence[Hit], depth: int, wanted: Collection[int]) -> list[Hit]:
    """``hits`` with those among the first ``depth`` that are to be read: the first `OF_ONE` of each
    document ``wanted``, and the one that words alone put first: where a query holds a number, it
    may be the only one with that number."""
    counts = Counter[int]()
    sooner = {hit.chunk_id for hit in hits if hit.ranks.get("lexical") == 1}
    for hit in hits:
        counts[hit.document_id] += 1
        if hit.document_id in wanted and counts[hit.document_id] <= OF_ONE:
            sooner.add(hit.chunk_id)
    first = sorted(hits, key=lambda hit: hit.chunk_id not in sooner)[:depth]
    read = {hit.chunk_id for hit in first}
    return sorted(hits, key=lambda hit: hit.chunk_id not in read)


def rescore(
    scorer: Reranker,
    query: str,
    hits: Sequence[Hit],
    depth: int,
    weight: float,
    others: Collection[int] = (),
    asked: Mapping[int, str] | None = None,
) -> list[Hit]:
    """The first ``depth`` of ``hits`` in the order of ``weight`` times the new score, and the
    rest times the old one, both scaled to [0, 1]; then the others as they were. Their scores are
    lowered below, so that scores descend. Of those, passages of the documents
    ``others`` come last. The new score as it is becomes the first ones' ``relevance``. ``asked``:
    what some of the passages are read for instead of ``query``."""
    first, rest = list(hits[:depth]), list(hits[depth:])
    if not first:
        return []
    texts = [hit.with_names(embedded_text(hit.prefix, hit.text)) for hit in first]
    found = np.empty(len(texts))
    queries = [(asked or {}).get(hit.chunk_id, query) for hit in first]
    for query in dict.fromkeys(queries):
        rows = [row for row, each in enumerate(queries) if each == query]
        found[rows] = scorer.score(query, [texts[row] for row in rows])
    first = [replace(hit, relevance=float(own)) for hit, own in zip(first, found, strict=True)]
    if weight < 1:
        old = scaled([hit.score for hit in first])
        found = weight * scaled(found) + (1 - weight) * old
    if others:
        found = scaled(found) - 2 * np.array([hit.document_id in others for hit in first])
    ordered = by_score(first, found)
    floor = ordered[-1].score
    return ordered + [
        replace(hit, score=floor - 1 + 1 / (place + 1)) for place, hit in enumerate(rest, 1)
    ]


def by_score(hits: Sequence[Hit], scores: npt.ArrayLike) -> list[Hit]:
    """Best first; equal scores keep their order."""
    values = np.asarray(scores, np.float64)
    order = np.argsort(-values, kind="stable")
    return [replace(hits[row], score=float(values[row])) for row in order]


def scaled(scores: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """To [0, 1], the lowest to 0; all to 1 where they are equal."""
    values = np.asarray(scores, np.float64)
    low, high = values.min(initial=np.inf), values.max(initial=-np.inf)
    return (values - low) / (high - low) if high > low else np.ones_like(values)
