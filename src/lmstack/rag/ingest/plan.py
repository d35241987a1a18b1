"""What an update would do: the files on disk held against what the index remembers.

The content hash decides. A file's times save the reading only where they can be trusted: the
same size, modification time, inode and *change* time (which no program can set) as when it was
hashed, and that change at least two seconds before the hashing, so that no write can hide in
the clock's granularity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmstack.core import NotFoundError, shown
from lmstack.rag.catalogue.snapshot import (
    CatalogueSnapshot,
    DocumentKey,
    KnownDocument,
    display_path,
)
from lmstack.rag.documents import Problem
from lmstack.rag.formats.load import Fingerprint, LoadConfig, ProblemError, read_file
from lmstack.rag.ingest.scan import (
    FoundFile,
    NotRead,
    PassedOver,
    PassingCount,
    readable_name,
    scan_source,
)

__all__ = ["IndexStatus", "IngestPlan", "attempt", "is_under", "make_plan", "not_found"]


@dataclass(frozen=True, slots=True)
class IndexStatus:
    """``bytes`` on disk; ``sources`` and problem paths as they open from the current folder;
    ``rules`` say what is read of those that have some. ``plan`` is what an update would do and
    what it passes over, None if not asked for. ``formats``: how many documents there are of each.
    ``fields``: the names that filters may use, with the number of documents that have each.
    ``labels``: those given to paths. ``store`` keeps the
    vectors besides. ``embedder_weights``: the form of weights that made the vectors, None for a
    remote model."""

    folder: str
    documents: int
    chunks: int
    bytes: int
    embedder: str
    embedder_digest: str
    embedder_weights: str | None
    dimensions: int
    sources: tuple[str, ...]
    problems: tuple[Problem, ...]
    plan: IngestPlan | None
    rules: tuple[str, ...] = ()
    formats: Mapping[str, int] = field(default_factory=dict)
    fields: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    store: str | None = None

    @property
    def up_to_date(self) -> bool | None:
        return None if self.plan is None else self.plan.up_to_date


_RACY_NS = 2_000_000_000
_LARGE = 1_000_000
_INODE_BITS = 2**63 - 1


@dataclass
class Work:
    """A plan for the machine. Keys of files to read (and their ``sizes``), keys to take out,
    problems to store (with the digest of the content, if it was read) and to forget, times and
    inodes of sources to refresh."""

    read: list[DocumentKey] = field(default_factory=list)
    sizes: dict[DocumentKey, int] = field(default_factory=dict)
    remove: list[DocumentKey] = field(default_factory=list)
    report: list[tuple[DocumentKey, Problem, bytes | None]] = field(default_factory=list)
    forget: list[DocumentKey] = field(default_factory=list)
    touch: list[tuple[int, Fingerprint, int]] = field(default_factory=list)
    inodes: dict[int, int] = field(default_factory=dict)

    @property
    def only_times(self) -> bool:
        """Nothing is to be done but, perhaps, to remember new file times and inodes."""
        return not (self.read or self.remove or self.report or self.forget)


@dataclass(frozen=True)
class IngestPlan:
    """Paths to ``add``, ``change`` and ``remove``, as they open from the current folder, sorted;
    ``problems`` are files that cannot be indexed, ``not_read`` those that are passed over on
    purpose. ``up_to_date`` when nothing is to be done."""

    add: tuple[str, ...] = ()
    change: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    not_read: NotRead = field(default_factory=NotRead)

    @property
    def up_to_date(self) -> bool:
        return not (self.add or self.change or self.remove)


def make_plan(
    snapshot: CatalogueSnapshot, paths: Sequence[str], config: LoadConfig, *, thorough: bool
) -> tuple[IngestPlan, Work]:
    """Scan the absolute ``paths``, each inside one of the sources of ``snapshot``. ``thorough``
    reads every file again."""
    judged = _Judged()
    seen: set[DocumentKey] = set()
    passed = PassingCount()
    for key, found in _files(snapshot, paths):
        if key in seen:
            continue
        if isinstance(found, PassedOver):
            passed.add(found, _shown_path(snapshot, key) if passed.lists_more else "")
        elif isinstance(found, Problem):
            seen.add(key)
            if found.kind in ("absent", "closed"):
                judged.closed.add(snapshot.path(key))
            judged.report(snapshot, key, found)
        elif _judge(snapshot, key, found, config, judged, thorough=thorough):
            seen.add(key)
    work = judged.work
    troubled = {key for key, _, _ in work.report} | {key for key, _ in judged.standing}
    known = [key for key in snapshot.documents if is_under(snapshot.path(key), paths)]
    work.remove = sorted(
        key
        for key in known
        if (key not in seen or key in troubled) and not is_under(snapshot.path(key), judged.closed)
    )
    work.forget = [
        key
        for key in snapshot.problems
        if key not in troubled
        and key not in judged.sizes
        and is_under(snapshot.path(key), paths)
        and not is_under(snapshot.path(key), judged.closed)
    ]
    work.inodes = _new_inodes(snapshot, paths, judged.closed)
    # What is quickly done is done first: nobody waits for one huge file to search the others.
    work.read = sorted([*judged.added, *judged.changed], key=lambda k: judged.sizes[k] > _LARGE)
    work.sizes = judged.sizes
    problems = [*((key, problem) for key, problem, _ in work.report), *judged.standing]
    plan = IngestPlan(
        _shown(snapshot, judged.added),
        _shown(snapshot, judged.changed),
        _shown(snapshot, work.remove),
        judged.unchanged,
        tuple(problem.at(_shown_path(snapshot, key)) for key, problem in problems),
        passed.result(),
    )
    return plan, work


def _shown_path(snapshot: CatalogueSnapshot, key: DocumentKey) -> str:
    return readable_name(display_path(snapshot.path(key)))


@dataclass
class _Judged:
    """What was found so far; ``standing`` problems are those already stored, ``closed`` the
    folders and sources that could not be looked into: what is known of them is kept."""

    work: Work = field(default_factory=Work)
    added: list[DocumentKey] = field(default_factory=list)
    changed: list[DocumentKey] = field(default_factory=list)
    standing: list[tuple[DocumentKey, Problem]] = field(default_factory=list)
    sizes: dict[DocumentKey, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    unchanged: int = 0

    def report(self, snapshot: CatalogueSnapshot, key: DocumentKey, problem: Problem) -> None:
        """A problem seen without reading the file; nothing is to be stored if it is known."""
        stored, _, _ = snapshot.problems.get(key, (None, None, ""))
        if stored == problem.at(key.path):
            self.standing.append((key, problem))
        else:
            self.work.report.append((key, problem, None))


def _judge(
    snapshot: CatalogueSnapshot,
    key: DocumentKey,
    found: FoundFile,
    config: LoadConfig,
    judged: _Judged,
    *,
    thorough: bool,
) -> bool:
    """Put one file where it belongs; False if it vanished meanwhile."""
    known = snapshot.documents.get(key)
    if known and not thorough and _trusted(known, found.fingerprint, snapshot.recipe):
        judged.unchanged += 1
        return True
    checked_ns = time.time_ns()
    try:
        raw = read_file(Path(snapshot.path(key)), config)
    except ProblemError as error:
        if error.kind == "vanished":
            return False
        judged.report(snapshot, key, error.at(key.path))
        return True
    trouble = snapshot.problems.get(key)
    if known and known.digest == raw.digest and known.recipe == snapshot.recipe:
        judged.unchanged += 1
        judged.work.touch.append((known.id, raw.fingerprint, checked_ns))
    elif trouble and trouble[1:] == (raw.digest, attempt(snapshot.recipe, config)):
        judged.standing.append((key, trouble[0]))
    else:
        (judged.changed if known else judged.added).append(key)
        judged.sizes[key] = len(raw.data)
    return True


def attempt(recipe: str, load: LoadConfig) -> str:
    """Names how a file was read when it was refused: under other limits it may be taken."""
    return f"{recipe} {load}"


def _shown(snapshot: CatalogueSnapshot, keys: Sequence[DocumentKey]) -> tuple[str, ...]:
    return tuple(sorted(display_path(snapshot.path(key)) for key in keys))


def _trusted(known: KnownDocument, seen: Fingerprint, recipe: str) -> bool:
    return (
        known.recipe == recipe
        and known.fingerprint == seen
        and seen.ctime_ns + _RACY_NS < known.checked_ns
    )


def _files(
    snapshot: CatalogueSnapshot, paths: Sequence[str]
) -> Iterator[tuple[DocumentKey, FoundFile | Problem | PassedOver]]:
    """Every file under ``paths`` with its key; those that were taken out by hand are passed
    over."""
    for path in paths:
        source_id, inner = _owner(snapshot, path)
        if not os.path.exists(path):
            yield from _missing(snapshot, path, DocumentKey(source_id, inner))
            continue
        if inner == "." and _is_replaced(snapshot, source_id):
            yield (
                DocumentKey(source_id, "."),
                _absent("is an empty folder now", snapshot.count_of(source_id)),
            )
            continue
        rules = snapshot.rules.get(source_id)
        for found in scan_source(Path(snapshot.roots[source_id]), rules, inner):
            key = DocumentKey(source_id, found.path)
            if is_under(snapshot.path(key), snapshot.excluded):
                yield key, PassedOver(found.path, "removed")
            else:
                yield key, found


def _missing(
    snapshot: CatalogueSnapshot, path: str, key: DocumentKey
) -> Iterator[tuple[DocumentKey, Problem]]:
    """A path that is gone: its documents go too, but not those of a whole source, which may be
    on a disk that is not mounted. Only a typing mistake is an error."""
    root = snapshot.roots[key.source_id]
    if not os.path.exists(root):
        yield (
            DocumentKey(key.source_id, "."),
            _absent("is not there", snapshot.count_of(key.source_id)),
        )
    elif not any(is_under(snapshot.path(other), [path]) for other in snapshot.documents):
        raise not_found(path)


def _is_replaced(snapshot: CatalogueSnapshot, source_id: int) -> bool:
    """Whether an empty folder stands where another one was, as when a disk is not mounted. One
    that was emptied is the same as before: its documents go."""
    root = snapshot.roots[source_id]
    try:
        with os.scandir(root) as listing:
            empty = next(listing, None) is None
        same = os.stat(root).st_ino & _INODE_BITS == snapshot.inodes.get(source_id)
    except OSError:  # a file, or a folder that cannot be listed
        return False
    return empty and not same and source_id in snapshot.inodes and snapshot.count_of(source_id) > 0


def _new_inodes(
    snapshot: CatalogueSnapshot, paths: Sequence[str], closed: Collection[str]
) -> dict[int, int]:
    """The inodes of sources that were looked into, where they are not those remembered."""
    result: dict[int, int] = {}
    for source_id, root in snapshot.roots.items():
        if root in paths and root not in closed and os.path.isdir(root):
            with suppress(OSError):
                result[source_id] = os.stat(root).st_ino & _INODE_BITS
    return {i: inode for i, inode in result.items() if snapshot.inodes.get(i) != inode}


def _absent(what: str, kept: int) -> Problem:
    return Problem(
        ".",
        "absent",
        f"this source {what}; {kept} document{'' if kept == 1 else 's'} kept",
        "bring it back (is its disk mounted?), or drop them with lmstack index remove",
    )


def not_found(path: str) -> NotFoundError:
    return NotFoundError(
        f"cannot open {shown(display_path(path))}: no such file or folder",
        hint="give an existing file or folder",
        param="paths",
    )


def _owner(snapshot: CatalogueSnapshot, path: str) -> tuple[int, str]:
    for source_id, root in snapshot.roots.items():
        if path == root:
            return source_id, "."
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return source_id, os.path.relpath(path, root).replace(os.sep, "/")
    raise AssertionError(f"{path} is in no source of {list(snapshot.roots.values())}")


def is_under(path: str, folders: Collection[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or inside one (absolute paths)."""
    return any(path == f or path.startswith(f.rstrip(os.sep) + os.sep) for f in folders)
