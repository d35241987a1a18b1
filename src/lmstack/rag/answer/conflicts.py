"""Where another passage answers otherwise than the one that is cited.

Two sentences of different documents conflict if they state the same thing (most of their words
are the same, and the names that were asked about are in both) with other numbers or names. An
earlier or later edition of the cited document is named as such. Does not cover statements in
quite other words, nor two that differ in a "not".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from lmstack.rag.answer.answer import Conflict, Relation
from lmstack.rag.answer.quoting import Quote
from lmstack.rag.documents import Document
from lmstack.rag.words import content_words, name_words, number_words, stem

__all__ = ["Edition", "edition_of", "find_conflicts", "in_force"]

OPENING = 700
_MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july"),
    *("august", "september", "october", "november", "december"),
)
_MONTH = "|".join(f"{month[:3]}(?:{month[3:]})?" for month in _MONTHS)
_DATES = (
    re.compile(r"\b(?P<y>(?:19|20)\d\d)-(?P<m>\d\d)-(?P<d>\d\d)\b"),
    re.compile(rf"\b(?P<d>\d{{1,2}})\.?\s+(?P<w>{_MONTH})\.?,?\s+(?P<y>(?:19|20)\d\d)\b", re.I),
    re.compile(rf"\b(?P<w>{_MONTH})\.?\s+(?P<d>\d{{1,2}}),?\s+(?P<y>(?:19|20)\d\d)\b", re.I),
    re.compile(r"\b(?P<d>\d{1,2})[./](?P<m>\d{1,2})[./](?P<y>(?:19|20)\d\d)\b"),
)
_CUE = re.compile(
    r"\b(?:version|edition|revision|revised|in force|valid|effective|status|date[d]?|updated|"
    r"issued|published|adopted|approved|as of)\b[^.\n]{0,40}?$",
    re.I,
)
_VERSION = re.compile(r"\b(?:version|edition|revision|rev\.?)\s*:?\s*(\d+(?:\.\d+)*)\b", re.I)
_IN_NAME = re.compile(
    r"[\s_.-]*(?:\b|(?<=_))(?:(?:v|ver|version|rev|revision|edition)[\s_.-]*(\d+(?:[._]\d+)*)|"
    r"((?:19|20)\d\d)(?:-\d\d){0,2})(?![A-Za-z0-9])",
    re.I,
)
# Titles that say nothing of a work: two files called so are two works.
_COMMON = frozenset(
    (
        *("readme", "read me", "index", "contents", "introduction", "overview", "home", "untitled"),
        *("changelog", "changes", "news", "minutes", "report", "notes", "license", "document"),
    )
)
_ASIDE = frozenset(("archive", "archived", "old", "previous", "superseded", "history"))


@dataclass(frozen=True, slots=True)
class Edition:
    """``work``: what editions of one work have in common. ``date`` is ISO 8601 (a year alone
    stands for its first day), empty if none is stated."""

    work: str
    date: str
    version: tuple[int, ...]
    is_aside: bool = False

    @property
    def place(self) -> tuple[str, tuple[int, ...], bool]:
        """Later editions have greater places."""
        return self.date, self.version, not self.is_aside

    @property
    def is_dated(self) -> bool:
        return bool(self.date or self.version or self.is_aside)


def edition_of(document: Document) -> Edition:
    path = PurePosixPath(document.path)
    named = _IN_NAME.search(path.stem)
    fields = document.fields
    opening = document.text[:OPENING]
    # What a file says of its making ("date" of a PDF) is less than what its text says.
    stated = fields.get("effective") or fields.get("issued")
    when = _iso(str(stated)) if stated else _stated_date(opening)
    when = when or (f"{named[2]}-01-01" if named and named[2] else "")
    when = when or _iso(str(fields.get("date") or ""))
    version = str(fields.get("version") or "")
    if not version:
        found = _VERSION.search(opening)
        version = found[1] if found else (named[1] or "" if named else "")
    numbers = tuple(int(n) for n in re.findall(r"\d{1,6}", version))
    aside = any(part.lower() in _ASIDE for part in path.parts[:-1])
    return Edition(_work(document, path), when, numbers, aside)


def in_force(editions: Mapping[int, Edition], year: int | None) -> dict[int, int]:
    """Of each document that another edition stands before, that edition's document: the newest,
    or the newest of ``year`` and earlier. Works whose editions cannot be told apart are left
    alone."""
    works: dict[str, list[int]] = {}
    for document, edition in editions.items():
        if edition.work and edition.is_dated:
            works.setdefault(edition.work, []).append(document)
    found: dict[int, int] = {}
    for documents in works.values():
        allowed = [
            d for d in documents if year is None or int(editions[d].date[:4] or 0) <= year
        ] or [min(documents, key=lambda d: editions[d].place)]
        best = max(allowed, key=lambda d: editions[d].place)
        found |= {
            d: best for d in documents if d != best and editions[d].place != editions[best].place
        }
    return found


def _work(document: Document, path: PurePosixPath) -> str:
    """By its title where it has one of its own, by its place otherwise; without version and
    year."""
    title = _plain(_IN_NAME.sub(" ", document.title))
    if title and title not in _COMMON:
        return title
    folders = [part for part in path.parts[:-1] if part.lower() not in _ASIDE]
    return _plain(" ".join([*folders, _IN_NAME.sub("", path.stem)]))


def _plain(text: str) -> str:
    return " ".join(re.findall(r"[^\W_]+", text.casefold()))


def _stated_date(opening: str) -> str:
    """The first date that a word announces, else that of a line of its own."""
    found: list[tuple[int, str]] = []
    for at, iso in _dates(opening):
        if _CUE.search(opening[:at]):
            found.append((at, iso))
    return min(found)[1] if found else ""


def _dates(text: str) -> Iterable[tuple[int, str]]:
    for pattern in _DATES:
        for match in pattern.finditer(text):
            iso = _checked(match)
            if iso:
                yield match.start(), iso


def _iso(text: str) -> str:
    found = min(_dates(text), default=(0, ""))[1]
    year = re.match(r"\s*((?:19|20)\d\d)\b", text)
    return found or (f"{year[1]}-01-01" if year else "")


def _checked(match: re.Match[str]) -> str:
    parts = match.groupdict()
    word = parts.get("w")
    month = (
        next(n for n, m in enumerate(_MONTHS, 1) if m.startswith(word[:3].lower()))
        if word
        else int(parts["m"])
    )
    try:
        return date(int(parts["y"]), month, int(parts["d"])).isoformat()
    except ValueError:
        return ""


SAME_WORK, OTHER_WORK = 0.4, 0.7
_YEAR = re.compile(r"(?:19|20)\d\d")
_NAME = re.compile(r"[A-ZÀ-Þ][\w'’-]+")


def find_conflicts(
    citation: int,
    cited: Quote,
    question: str,
    others: Sequence[Quote],
    editions: Mapping[int, Edition],
) -> list[Conflict]:
    """Of ``others``, quotations that answer the question too, those that say otherwise than
    ``cited``: at most one a document, newest edition first."""
    known = {stem(word.lower()) for word in name_words(question)}
    own = editions.get(cited.hit.document_id)
    best: dict[int, Quote] = {}
    for rival in others:
        if rival.hit.document_id == cited.hit.document_id:
            continue
        other = editions.get(rival.hit.document_id)
        same_work = own is not None and other is not None and own.work == other.work
        # A year that was asked about chooses the edition, and the others need not hold it.
        names = {name for name in known if not _YEAR.fullmatch(name)} if same_work else known
        named = names <= _stems(f"{rival.hit.prefix} {rival.shown}")
        if not named or not _differ(cited.point, rival.point, question):
            continue
        if _likeness(cited.point, rival.point) < (SAME_WORK if same_work else OTHER_WORK):
            continue
        held = best.get(rival.hit.document_id)
        if held is None or rival.score > held.score:
            best[rival.hit.document_id] = rival
    found = [
        _conflict(citation, rival, own, editions.get(document)) for document, rival in best.items()
    ]
    return sorted(found, key=lambda c: c.date, reverse=True)


def _stems(text: str) -> set[str]:
    return set(map(stem, content_words(text)))


def _differ(cited: str, rival: str, question: str) -> bool:
    """Whether one states a number or a name that the other and the question do not."""
    ours, theirs = _values(cited, question), _values(rival, question)
    return bool(ours and theirs) and not (ours <= theirs or theirs <= ours)


def _values(text: str, question: str) -> set[str]:
    asked = {word.casefold() for word in re.findall(r"\w+", question)}
    names = {name for name in _NAME.findall(text[1:]) if name.casefold() not in asked}
    return (number_words(text) - number_words(question)) | names


def _likeness(one: str, other: str) -> float:
    """The share of the words, numbers and names aside, that both hold."""
    left, right = _words(one), _words(other)
    return len(left & right) / max(1, len(left | right))


def _words(text: str) -> set[str]:
    names = {stem(name.lower()) for name in _NAME.findall(text[1:])}
    return {word for word in _stems(text) if not any(c.isdigit() for c in word)} - names


def _conflict(citation: int, rival: Quote, own: Edition | None, other: Edition | None) -> Conflict:
    relation: Relation = "other"
    same_work = own and other and own.work == other.work and own.is_dated and other.is_dated
    if own and other and same_work and own.place != other.place:
        relation = "older" if other.place < own.place else "newer"
    hit = rival.hit
    return Conflict(
        citation,
        relation,
        hit.path,
        *rival.focus,
        rival.quote[rival.focus[0] - rival.start : rival.focus[1] - rival.start],
        rival.page,
        hit.document_id,
        other.date if other is not None else "",
        own.date if own is not None else "",
    )
