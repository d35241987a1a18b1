"""What an index remembers of its sources and files, as an update needs to know it.

Covers reading only; `store` changes what is remembered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import sqlalchemy as sa

from lmstack.rag.catalogue.rules import SourceRules
from lmstack.rag.catalogue.schema import documents, exclusions, meta, problems, sources
from lmstack.rag.documents import Problem
from lmstack.rag.formats.load import Fingerprint

__all__ = [
    "CatalogueSnapshot",
    "DocumentKey",
    "KnownDocument",
    "absolute_path",
    "display_path",
    "get_meta",
    "inode_key",
    "read_snapshot",
    "rules_key",
    "source_roots",
    "source_rules",
]

_INODE = "inode of source "
_RULES = "rules of source "


@dataclass(frozen=True, slots=True, order=True)
class DocumentKey:
    """Where a document lives: a source and the path in it."""

    source_id: int
    path: str


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What is remembered of an indexed document, enough to tell whether it changed."""

    id: int
    digest: bytes
    recipe: str
    fingerprint: Fingerprint
    checked_ns: int


@dataclass(frozen=True)
class CatalogueSnapshot:
    """What an index remembers, read in one snapshot. ``inodes``: which folder each source was
    when it was last looked into. ``rules``: of the sources that have some."""

    roots: Mapping[int, str]
    inodes: Mapping[int, int]
    documents: Mapping[DocumentKey, KnownDocument]
    problems: Mapping[DocumentKey, tuple[Problem, bytes | None, str]]
    excluded: frozenset[str]
    recipe: str
    rules: Mapping[int, SourceRules] = field(default_factory=dict)

    def path(self, key: DocumentKey) -> str:
        """The absolute path of a document's file."""
        return absolute_path(self.roots, key)

    def count_of(self, source_id: int) -> int:
        """How many documents a source has."""
        return sum(key.source_id == source_id for key in self.documents)


def absolute_path(roots: Mapping[int, str], key: DocumentKey) -> str:
    """The absolute path of a document's file."""
    root = roots[key.source_id]
    return root if key.path == "." else os.path.join(root, *key.path.split("/"))


# Made once: every search by meaning asks it.
_META = sa.select(meta)


def get_meta(connection: sa.Connection) -> dict[str, str]:
    return {row.key: row.value for row in connection.execute(_META)}


def source_roots(connection: sa.Connection) -> dict[int, str]:
    rows = connection.execute(sa.select(sources).order_by(sources.c.id))
    return {row.id: row.root for row in rows}


def inode_key(source_id: int) -> str:
    """The name in `meta` under which a source's inode is kept."""
    return f"{_INODE}{source_id}"


def rules_key(source_id: int) -> str:
    """The name in `meta` under which a source's rules are kept."""
    return f"{_RULES}{source_id}"


def source_rules(connection: sa.Connection) -> dict[int, SourceRules]:
    """The rules of each source that has some."""
    return {
        int(key.removeprefix(_RULES)): SourceRules.from_mapping(json.loads(value))
        for key, value in get_meta(connection).items()
        if key.startswith(_RULES)
    }


def _inodes(connection: sa.Connection) -> dict[int, int]:
    facts = get_meta(connection).items()
    return {int(k.removeprefix(_INODE)): int(v) for k, v in facts if k.startswith(_INODE)}


def _known_documents(connection: sa.Connection) -> dict[DocumentKey, KnownDocument]:
    columns = documents.c
    rows = connection.execute(
        sa.select(
            columns.id,
            columns.source_id,
            columns.path,
            columns.digest,
            columns.recipe,
            columns.size,
            columns.mtime_ns,
            columns.ctime_ns,
            columns.inode,
            columns.checked_ns,
        )
    )
    return {
        DocumentKey(row.source_id, row.path): KnownDocument(
            row.id,
            row.digest,
            row.recipe,
            Fingerprint(row.size, row.mtime_ns, row.ctime_ns, row.inode),
            row.checked_ns,
        )
        for row in rows
    }


def _known_problems(
    connection: sa.Connection,
) -> dict[DocumentKey, tuple[Problem, bytes | None, str]]:
    """Per file: the problem, the digest of the content that had it, and the recipe."""
    return {
        DocumentKey(row.source_id, row.path): (
            Problem(row.path, row.kind, row.message, row.hint),
            row.digest,
            row.recipe,
        )
        for row in connection.execute(sa.select(problems))
    }


def read_snapshot(connection: sa.Connection, recipe: str) -> CatalogueSnapshot:
    return CatalogueSnapshot(
        source_roots(connection),
        _inodes(connection),
        _known_documents(connection),
        _known_problems(connection),
        frozenset(connection.execute(sa.select(exclusions.c.path)).scalars()),
        recipe,
        source_rules(connection),
    )


def display_path(path: str, folder: str | None = None) -> str:
    """An absolute ``path`` as it opens from ``folder``, None for the current one: relative where
    they share more than the root of the file system."""
    try:
        here = folder or os.getcwd()
    except OSError:  # the current folder was removed
        return path
    return _from_folder(here, path)


@lru_cache(4096)
def _from_folder(here: str, path: str) -> str:
    shared = os.path.commonpath([here, path])
    return path if shared == os.sep else os.path.relpath(path, here)
