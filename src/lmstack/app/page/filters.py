"""What the page's filters may ask for: read from JSON, and offered with their counts.

A path in a filter is as the page names files: from the folder's own name on. The counts are of
the documents that a caller sees, and of nothing else. What a filter means is
`lmstack.rag.filters`'.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmstack.rag import DocumentInfo
from lmstack.rag.filters import PATHS, And, Condition, Filter, Not, Or, Scalar, Value, parse_filter

__all__ = ["facets_of", "read_filter"]

MAX_VALUES = 24
MAX_FIELDS = 12
MAX_VALUE_CHARS = 60
# Different for nearly every document, or nothing to choose by.
_NOT_OFFERED = frozenset(
    {*PATHS, "title", "size", "modified", "date", "format", "language", "access", "warnings"}
)

Counts = Counter[Scalar]


def read_filter(data: object, folder: Path) -> Filter | None:
    """The filter in ``data``, JSON as of `parse_filter`, with the paths in it made absolute;
    None for none. `InputError` says what is wrong with it."""
    return None if data is None else _opened(parse_filter(data), folder)


def _opened(where: Filter, folder: Path) -> Filter:
    def opened(path: str) -> str:
        return os.path.normpath(os.path.join(folder.parent, path))

    match where:
        case Condition(name, "=" | "!=" | "under", str(path)) if name in PATHS:
            return replace(where, value=opened(path))
        case Condition(name, "in", tuple(paths)) if name in PATHS:
            return replace(where, value=tuple(map(opened, paths)))
        case And(parts) | Or(parts):
            return replace(where, parts=tuple(_opened(part, folder) for part in parts))
        case Not(part):
            return Not(_opened(part, folder))
    return where


def facets_of(infos: Sequence[DocumentInfo], named: Callable[[str], str]) -> list[dict[str, Any]]:
    """What is worth choosing among ``infos``: for each field its values, each with how many
    documents have it and the filter that keeps these. ``named``: a path as the page names it."""
    found = [
        _facet("format", "Format", _counts(info.format for info in infos), _equal),
        _facet("folder", "Folder", Counter(_folders(infos, named)), _under),
        _facet("language", "Language", _counts(info.language for info in infos), _equal),
        *_years(infos),
        *_own(infos),
    ]
    # A choice that every document meets is none.
    return [f for f in found if len(f["values"]) > 1 or 0 < _most(f) < len(infos)]


def _most(facet: Mapping[str, Any]) -> int:
    return max((value["count"] for value in facet["values"]), default=0)


def _counts(values: Iterable[str]) -> Counts:
    return Counter(value for value in values if value)


def _facet(
    name: str, title: str, counts: Counts, condition: Callable[[str, Scalar], Filter]
) -> dict[str, Any]:
    common = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_VALUES]
    values = [
        {"value": _shown(value), "count": count, "where": condition(name, value).to_json()}
        for value, count in common
    ]
    return {"field": name, "title": title, "values": values, "more": len(counts) - len(common)}


def _shown(value: Scalar) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _equal(name: str, value: Scalar) -> Filter:
    return Condition(name, "=", value)


def _has(name: str, value: Scalar) -> Filter:
    return Condition(name, "has", value)


def _under(_: str, value: Scalar) -> Filter:
    return Condition("path", "under", value)


def _year(name: str, value: Scalar) -> Filter:
    # ISO 8601 dates compare as text.
    later = f"{int(value) + 1:04d}"
    return And((Condition(name, ">=", str(value)), Condition(name, "<", later)))


def _folders(infos: Iterable[DocumentInfo], named: Callable[[str], str]) -> Iterator[str]:
    """Each folder that a document is in, at any depth, but for the outermost."""
    for info in infos:
        folder = os.path.dirname(named(info.path))
        while os.path.dirname(folder) not in ("", "/"):
            yield folder
            folder = os.path.dirname(folder)


def _years(infos: Sequence[DocumentInfo]) -> Iterator[dict[str, Any]]:
    for name, title in (("date", "Year"), ("modified", "Year of the last change")):
        values = (info.fields.get(name) for info in infos)
        counts = Counter(
            value[:4]
            for value in values
            if isinstance(value, str) and value[:4].isdecimal() and value[:4].isascii()
        )
        yield _facet(name, title, Counter({y: n for y, n in counts.items() if y != "9999"}), _year)


def _own(infos: Sequence[DocumentInfo]) -> Iterator[dict[str, Any]]:
    """Fields that documents brought, where few values are shared by many."""
    names = Counter(name for info in infos for name in info.fields if name not in _NOT_OFFERED)
    offered = 0
    for name, _ in sorted(names.items(), key=lambda pair: (-pair[1], pair[0])):
        single, several = _values(name, infos)
        title = name[:1].upper() + name[1:].replace("_", " ")
        for counts, condition in ((several, _has), (single, _equal)):
            # Tags are worth a choice whatever their number; a field of one text only if shared.
            if counts and (condition is _has or len(counts) <= MAX_VALUES):
                yield _facet(name, title, counts, condition)
                offered += 1
        if offered >= MAX_FIELDS:
            return


def _values(name: str, infos: Iterable[DocumentInfo]) -> tuple[Counts, Counts]:
    single: Counts = Counter()
    several: Counts = Counter()
    for info in infos:
        held: Value | None = info.fields.get(name)
        if isinstance(held, tuple):
            several.update({one for one in held if len(one) <= MAX_VALUE_CHARS})
        elif held is not None and len(str(held)) <= MAX_VALUE_CHARS:
            single[held] += 1
    return single, several
