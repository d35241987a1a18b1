"""Which edition of a work a document is: its date, its version, and the other editions.

Dates are those that a document states (a field, or its first lines), never those of its file,
which copying changes. Covers what a document says of itself; the places of editions among the
passages found are `stages.versions`'.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import PurePosixPath

from lmstack.rag.documents import Document

__all__ = ["Edition", "edition_of", "in_force"]

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
        allowed = [d for d in documents if _begun(editions[d], year)] or [
            min(documents, key=lambda d: editions[d].place)
        ]
        best = max(allowed, key=lambda d: editions[d].place)
        found |= {
            d: best for d in documents if d != best and editions[d].place != editions[best].place
        }
    return found


def _begun(edition: Edition, year: int | None) -> bool:
    return year is None or not edition.date or int(edition.date[:4]) <= year


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
