"""Which of the documents found are older versions of others, and their places.

A document is superseded by another among those found that says so (``supersedes``, or its own
``superseded_by``, naming a path, a file name or a title), or that has the same title or the same
path but for its version and a higher ``version``, written in the fields or in the path
(``policy-v2.pdf``). A superseded document stays in the results, behind its newest version. Does
not cover contents: two texts that contradict each other are not known to be versions by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from lmstack.rag.filters import Fields
from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["Described", "newest_first", "superseded_by"]

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
