"""What an update would do: the files on disk held against what the index remembers.

The content hash decides. A file's times save the reading only where they can be trusted: the
same size, modification time, inode and *change* time (which no program can set) as when it was
hashed, and that change at least two seconds before the hashing, so that no write can hide in
the clock's granularity.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from lmstack.core import NotFoundError, shown
from lmstack.rag.catalogue.memory import Key, Known, Memory, absolute_path, display_path
from lmstack.rag.documents import Problem
from lmstack.rag.formats.load import Fingerprint, LoadConfig, ProblemError, read_file
from lmstack.rag.formats.passing import NotRead, PassedOver, PassingCount
from lmstack.rag.ingest.scan import Found, readable_name, scan_source

__all__ = ["Plan", "attempt", "is_under", "make_plan", "not_found"]

_RACY_NS = 2_000_000_000
_LARGE = 1_000_000
_INODE_BITS = 2**63 - 1


@dataclass
class Work:
    """A plan for the machine. Keys of files to read (and their ``sizes``), keys to take out,
    problems to store (with the digest of the content, if it was read) and to forget, times and
    inodes of sources to refresh."""

    read: list[Key] = field(default_factory=list)
    sizes: dict[Key, int] = field(default_factory=dict)
    remove: list[Key] = field(default_factory=list)
    report: list[tuple[Key, Problem, bytes | None]] = field(default_factory=list)
    forget: list[Key] = field(default_factory=list)
    touch: list[tuple[int, Fingerprint, int]] = field(default_factory=list)
    inodes: dict[int, int] = field(default_factory=dict)

    @property
    def only_times(self) -> bool:
        """Nothing is to be done but, perhaps, to remember new file times and inodes."""
        return not (self.read or self.remove or self.report or self.forget)


@dataclass(frozen=True)
class Plan:
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
    memory: Memory, paths: Sequence[str], config: LoadConfig, *, thorough: bool
) -> tuple[Plan, Work]:
    """Scan the absolute ``paths``, each inside one of the sources of ``memory``. ``thorough``
    reads every file again."""
    judged = _Judged()
    seen: set[Key] = set()
    passed = PassingCount()
    for key, found in _files(memory, paths):
        if key in seen:
            continue
        if isinstance(found, PassedOver):
            passed.add(found, _shown_path(memory, key) if passed.lists_more else "")
        elif isinstance(found, Problem):
            seen.add(key)
            if found.kind in ("absent", "closed"):
                judged.closed.add(_path(memory, key))
            judged.report(memory, key, found)
        elif _judge(memory, key, found, config, judged, thorough=thorough):
            seen.add(key)
    work = judged.work
    troubled = {key for key, _, _ in work.report} | {key for key, _ in judged.standing}
    known = [key for key in memory.documents if _within(memory, key, paths)]
    work.remove = sorted(
        key
        for key in known
        if (key not in seen or key in troubled) and not is_under(_path(memory, key), judged.closed)
    )
    work.forget = [
        key
        for key in memory.problems
        if key not in troubled
        and key not in judged.sizes
        and _within(memory, key, paths)
        and not is_under(_path(memory, key), judged.closed)
    ]
    work.inodes = _new_inodes(memory, paths, judged.closed)
    # What is quickly done is done first: nobody waits for one huge file to search the others.
    work.read = sorted([*judged.added, *judged.changed], key=lambda k: judged.sizes[k] > _LARGE)
    work.sizes = judged.sizes
    problems = [*((key, problem) for key, problem, _ in work.report), *judged.standing]
    plan = Plan(
        _shown(memory, judged.added),
        _shown(memory, judged.changed),
        _shown(memory, work.remove),
        judged.unchanged,
        tuple(problem.at(_shown_path(memory, key)) for key, problem in problems),
        passed.result(),
    )
    return plan, work


def _shown_path(memory: Memory, key: Key) -> str:
    return readable_name(display_path(_path(memory, key)))


@dataclass
class _Judged:
    """What was found so far; ``standing`` problems are those already stored, ``closed`` the
    folders and sources that could not be looked into: what is known of them is kept."""

    work: Work = field(default_factory=Work)
    added: list[Key] = field(default_factory=list)
    changed: list[Key] = field(default_factory=list)
    standing: list[tuple[Key, Problem]] = field(default_factory=list)
    sizes: dict[Key, int] = field(default_factory=dict)
    closed: set[str] = field(default_factory=set)
    unchanged: int = 0

    def report(self, memory: Memory, key: Key, problem: Problem) -> None:
        """A problem seen without reading the file; nothing is to be stored if it is known."""
        stored, _, _ = memory.problems.get(key, (None, None, ""))
        if stored == problem.at(key.path):
            self.standing.append((key, problem))
        else:
            self.work.report.append((key, problem, None))


def _judge(
    memory: Memory, key: Key, found: Found, config: LoadConfig, judged: _Judged, *, thorough: bool
) -> bool:
    """Put one file where it belongs; False if it vanished meanwhile."""
    known = memory.documents.get(key)
    if known and not thorough and _trusted(known, found.fingerprint, memory.recipe):
        judged.unchanged += 1
        return True
    checked_ns = time.time_ns()
    try:
        raw = read_file(Path(absolute_path(memory.roots, key)), config)
    except ProblemError as error:
        if error.kind == "vanished":
            return False
        judged.report(memory, key, error.at(key.path))
        return True
    trouble = memory.problems.get(key)
    if known and known.digest == raw.digest and known.recipe == memory.recipe:
        judged.unchanged += 1
        judged.work.touch.append((known.id, raw.fingerprint, checked_ns))
    elif trouble and trouble[1:] == (raw.digest, attempt(memory.recipe, config)):
        judged.standing.append((key, trouble[0]))
    else:
        (judged.changed if known else judged.added).append(key)
        judged.sizes[key] = len(raw.data)
    return True


def attempt(recipe: str, load: LoadConfig) -> str:
    """Names how a file was read when it was refused: under other limits it may be taken."""
    return f"{recipe} {load}"


def _shown(memory: Memory, keys: Sequence[Key]) -> tuple[str, ...]:
    return tuple(sorted(display_path(absolute_path(memory.roots, key)) for key in keys))


def _trusted(known: Known, seen: Fingerprint, recipe: str) -> bool:
    return (
        known.recipe == recipe
        and known.fingerprint == seen
        and seen.ctime_ns + _RACY_NS < known.checked_ns
    )


def _files(
    memory: Memory, paths: Sequence[str]
) -> Iterator[tuple[Key, Found | Problem | PassedOver]]:
    """Every file under ``paths`` with its key; those that were taken out by hand are passed
    over."""
    for path in paths:
        source_id, inner = _owner(memory, path)
        if not os.path.exists(path):
            yield from _missing(memory, path, Key(source_id, inner))
            continue
        if inner == "." and _is_replaced(memory, source_id):
            yield Key(source_id, "."), _absent("is an empty folder now", _kept(memory, source_id))
            continue
        rules = memory.rules.get(source_id)
        for found in scan_source(Path(memory.roots[source_id]), rules, inner):
            key = Key(source_id, found.path)
            if is_under(absolute_path(memory.roots, key), memory.excluded):
                yield key, PassedOver(found.path, "removed")
            else:
                yield key, found


def _missing(memory: Memory, path: str, key: Key) -> Iterator[tuple[Key, Problem]]:
    """A path that is gone: its documents go too, but not those of a whole source, which may be
    on a disk that is not mounted. Only a typing mistake is an error."""
    root = memory.roots[key.source_id]
    if not os.path.exists(root):
        yield Key(key.source_id, "."), _absent("is not there", _kept(memory, key.source_id))
    elif not any(_within(memory, other, [path]) for other in memory.documents):
        raise not_found(path)


def _kept(memory: Memory, source_id: int) -> int:
    return sum(key.source_id == source_id for key in memory.documents)


def _is_replaced(memory: Memory, source_id: int) -> bool:
    """Whether an empty folder stands where another one was, as when a disk is not mounted. One
    that was emptied is the same as before: its documents go."""
    root = memory.roots[source_id]
    try:
        with os.scandir(root) as listing:
            empty = next(listing, None) is None
        same = os.stat(root).st_ino & _INODE_BITS == memory.inodes.get(source_id)
    except OSError:  # a file, or a folder that cannot be listed
        return False
    return empty and not same and source_id in memory.inodes and _kept(memory, source_id) > 0


def _new_inodes(memory: Memory, paths: Sequence[str], closed: Collection[str]) -> dict[int, int]:
    """The inodes of sources that were looked into, where they are not those remembered."""
    result: dict[int, int] = {}
    for source_id, root in memory.roots.items():
        if root in paths and root not in closed and os.path.isdir(root):
            with suppress(OSError):
                result[source_id] = os.stat(root).st_ino & _INODE_BITS
    return {i: inode for i, inode in result.items() if memory.inodes.get(i) != inode}


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


def _owner(memory: Memory, path: str) -> tuple[int, str]:
    for source_id, root in memory.roots.items():
        if path == root:
            return source_id, "."
        if path.startswith(root.rstrip(os.sep) + os.sep):
            return source_id, os.path.relpath(path, root).replace(os.sep, "/")
    raise AssertionError(f"{path} is in no source of {list(memory.roots.values())}")


def _path(memory: Memory, key: Key) -> str:
    return absolute_path(memory.roots, key)


def _within(memory: Memory, key: Key, paths: Collection[str]) -> bool:
    return is_under(_path(memory, key), paths)


def is_under(path: str, folders: Collection[str]) -> bool:
    """Whether ``path`` is one of ``folders`` or inside one (absolute paths)."""
    return any(path == f or path.startswith(f.rstrip(os.sep) + os.sep) for f in folders)
