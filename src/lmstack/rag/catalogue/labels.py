"""Who may see a document: access labels, from rules kept in the index and from the document.

A caller sees a document only if it holds all of its labels; the owner (no label set at all)
sees everything. Labels come from rules for a path and everything under it, and from the
document's own ``access`` field; their union counts. An ``access`` field that cannot be read
gives the document a label that nobody can hold. Covers the rules; which caller holds what is
the application's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from lmstack.core import InputError, shown
from lmstack.rag.catalogue.schema import label_rules
from lmstack.rag.filters import Fields

__all__ = [
    "UNREADABLE",
    "check_labels",
    "labels_of",
    "may_see",
    "read_rules",
]

# Not a label by the rule below, so that no caller can hold it.
UNREADABLE = "!"
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:-]{0,63}")


def check_labels(labels: Iterable[str]) -> frozenset[str]:
    """Labels as given by a person; `InputError` for one that is none."""
    found = frozenset(labels)
    for label in sorted(found):
        if not _LABEL.fullmatch(label):
            raise InputError(
                f"{shown(label)} is no access label",
                hint="a label is 1 to 64 letters, digits and _ . @ : -, like hr or board-2026",
                param="label",
            )
    return found


def labels_of(path: str, fields: Fields, rules: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """All labels of the document at the absolute ``path``."""
    found = _own_labels(fields)
    for place, labels in rules.items():
        if path == place or path.startswith(place.rstrip("/") + "/"):
            found |= labels
    return found


def _own_labels(fields: Fields) -> frozenset[str]:
    """Those of the ``access`` field: a text (several with commas) or a list of texts."""
    found: set[str] = set()
    for name, own in fields.items():
        if name.lower() != "access":
            continue
        if isinstance(own, str):
            own = tuple(part.strip() for part in own.split(","))
        readable = isinstance(own, tuple) and all(map(_LABEL.fullmatch, own))
        found.update(own if readable and isinstance(own, tuple) else {UNREADABLE})
    return frozenset(found)


def may_see(held: frozenset[str] | None, labels: Iterable[str]) -> bool:
    """Whether a caller that holds ``held`` (None: the owner) sees a document with ``labels``."""
    return held is None or held.issuperset(labels)


def read_rules(connection: sa.Connection) -> dict[str, frozenset[str]]:
    """The labels given by hand, by absolute path."""
    rows = connection.execute(sa.select(label_rules))
    return {row.path: frozenset(json.loads(row.labels)) for row in rows}
