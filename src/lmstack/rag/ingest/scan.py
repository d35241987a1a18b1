"""Which files a source holds, in a fixed order, without following anything out of it.

Hidden files and folders (a leading dot) are passed over in silence. The folders in `JUNK`, what
its owner wants left out (`rules`) and files whose ending no loader knows are `PassedOver`.
Everything else that cannot be indexed is a `Problem`. Links: one that points inside the source is
passed over, because its target is found anyway; one that points outside, nowhere or at itself is
reported and never followed.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lmstack.core import InputError, NotFoundError, shown
from lmstack.rag.catalogue.rules import Patterns, SourceRules, patterns_of
from lmstack.rag.documents import Problem
from lmstack.rag.formats.load import FORMATS, Fingerprint, ProblemError, ending_of, unknown_ending

__all__ = [
    "JUNK",
    "LISTED",
    "FoundFile",
    "NotRead",
    "PassedOver",
    "PassingCount",
    "check_root",
    "readable_name",
    "scan_source",
]

# How many are kept by name, and how many of their endings.
LISTED = 1000
ENDINGS = 10

PassingReason = Literal["ending", "pattern", "folder", "removed"]


@dataclass(frozen=True, slots=True)
class PassedOver:
    """``path`` in its source, with ``/``. Reasons: an ``ending`` that no loader knows, a
    ``pattern`` of the owner's, a ``folder`` whose name says that programs fill it, or
    ``removed`` from the index by hand."""

    path: str
    reason: PassingReason

    @property
    def ending(self) -> str:
        return ending_of(self.path)

    def at(self, path: str) -> Problem:
        """The same as it is shown to people, at the ``path`` that opens from where they are."""
        message, hint = _words(self)
        return Problem(path, self.reason, message, hint)


@dataclass(frozen=True, slots=True)
class NotRead:
    """``counts``: how many by reason. ``endings``: the most frequent unknown endings. ``files``:
    at most `LISTED` of them."""

    counts: Mapping[PassingReason, int] = field(default_factory=dict)
    endings: Mapping[str, int] = field(default_factory=dict)
    files: tuple[Problem, ...] = ()

    @property
    def total(self) -> int:
        return sum(self.counts.values())


class PassingCount:
    """Counts what a scan passes over; ``add`` is told the path that opens from here."""

    def __init__(self) -> None:
        self._counts: Counter[PassingReason] = Counter()
        self._endings: Counter[str] = Counter()
        self._first: list[Problem] = []

    @property
    def lists_more(self) -> bool:
        """Whether the next one is kept by name."""
        return len(self._first) < LISTED

    def add(self, found: PassedOver, path: str) -> None:
        self._counts[found.reason] += 1
        if found.reason == "ending":
            self._endings[found.ending] += 1
        if self.lists_more:
            self._first.append(found.at(path))

    def result(self) -> NotRead:
        return NotRead(
            dict(self._counts), dict(self._endings.most_common(ENDINGS)), tuple(self._first)
        )


def _words(found: PassedOver) -> tuple[str, str]:
    """The message and what to do."""
    if found.reason == "pattern":
        return "is left out by a pattern", "see --exclude, --include, .lmstackignore, .gitignore"
    if found.reason == "folder":
        name = shown(os.path.basename(found.path))
        return f"folders named {name} are not looked into", "add it as a source of its own"
    if found.reason == "removed":
        return "was taken out of the index", "lmstack index add takes it in again"
    error = unknown_ending(found.path)
    return error.message, error.hint


JUNK = frozenset(
    {"__pycache__", "node_modules", "venv", "env", "build", "dist", "site-packages", "target"}
)

_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to index: its path within the source (``/`` between parts, ``.`` when the source
    is that file itself) and what the file system said of it."""

    path: str
    fingerprint: Fingerprint


def scan_source(
    root: Path, rules: SourceRules | None = None, inner: str = "."
) -> Iterator[FoundFile | Problem | PassedOver]:
    """Walk the source ``root`` (a folder or a file), or what is at ``inner`` in it, sorted by
    path, without what ``rules`` and ignore files leave out. Raises `NotFoundError` without one."""
    start = root if inner == "." else root / inner
    try:
        status = start.stat()
    except OSError as error:
        raise NotFoundError(
            f"cannot open {shown(str(start))}: {error.strerror}",
            hint="give an existing file or folder",
            param="paths",
        ) from None
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and inner == ".":
        yield _entry(".", root.name, status)
        return
    try:
        patterns = patterns_of(os.fspath(root), rules or SourceRules(), inner)
    except ProblemError as error:
        yield error.at(readable_name(inner))
        return
    if patterns is None:
        return
    if not is_folder:
        yield _entry(inner, start.name, status)
        return
    yield from _walk(os.fspath(root), os.path.realpath(root), patterns, inner)


def _walk(
    root: str, real_root: str, patterns: Patterns, inner: str
) -> Iterator[FoundFile | Problem | PassedOver]:
    waiting = [("" if inner == "." else inner, patterns)]
    while waiting:
        folder, patterns = waiting.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            yield Problem(
                readable_name(folder or "."),
                "closed",
                f"the folder cannot be listed: {error.strerror}; documents known of it are kept",
                "make it readable: chmod u+rx FOLDER",
            )
            continue
        below: list[tuple[str, Patterns]] = []
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            found = _look(entry, path, real_root, patterns)
            if not isinstance(found, str):
                yield from () if found is None else (found,)
                continue
            try:
                below.append((found, patterns.below(found)))
            except ProblemError as error:
                yield error.at(readable_name(found))
        waiting.extend(reversed(below))


def _look(
    entry: os.DirEntry[str], path: str, real_root: str, patterns: Patterns
) -> FoundFile | Problem | PassedOver | str | None:
    """A file, a problem, what is passed over, the path of a folder to walk, or None for what is
    hidden or found elsewhere."""
    if entry.name.startswith("."):
        return None
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        if entry.name in JUNK and is_folder:
            return PassedOver(path, "folder")
        if patterns.leaves_out(path, is_folder=is_folder):
            return PassedOver(path, "pattern")
        if entry.is_symlink():
            return _link(entry, path, real_root)
        if is_folder:
            return path
        if os.path.splitext(entry.name)[1].lower() not in FORMATS:
            return PassedOver(path, "ending")
        return _entry(path, entry.name, entry.stat(follow_symlinks=False))
    except FileNotFoundError:
        return None
    except OSError as error:
        return Problem(
            readable_name(path),
            "unreadable",
            f"cannot be read: {error.strerror}",
            "check the path and its permissions",
        )


def _entry(path: str, name: str, status: os.stat_result) -> FoundFile | Problem:
    try:
        _check_name(name if path == "." else path)
        if not (stat.S_ISREG(status.st_mode)):
            raise ProblemError(
                "special", "is not a regular file (a pipe, socket or device)", "leave it out"
            )
        if os.path.splitext(name)[1].lower() not in FORMATS:
            raise unknown_ending(name)
    except ProblemError as error:
        return error.at(readable_name(path))
    return FoundFile(path.replace(os.sep, "/"), Fingerprint.of(status))


def _check_name(path: str) -> None:
    if any(map(_is_misleading, path)):
        broken = any("\ud800" <= c <= "\udfff" for c in path)
        raise ProblemError(
            "name",
            "the name is not valid UTF-8"
            if broken
            else "the name holds a line break or another control character",
            _name_hint(),
        )


def _name_hint() -> str:
    encoding = sys.getfilesystemencoding()
    if encoding.lower() not in ("utf-8", "utf8"):
        return f"the locale reads names of files as {encoding}; set LC_ALL=C.UTF-8, or rename it"
    return "rename it: a citation must name its file in one readable line"


def _is_misleading(c: str) -> bool:
    """Control characters, line ends, broken encodings and marks that turn the reading order."""
    return unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") or c in _TURNING


def _link(entry: os.DirEntry[str], path: str, real_root: str) -> Problem | PassedOver | None:
    known = os.path.splitext(entry.name)[1].lower() in FORMATS
    try:
        target = os.path.realpath(entry.path, strict=True)
    except OSError as error:
        loop = "loops" in str(error.strerror) or "levels of symbolic" in str(error.strerror)
        return Problem(
            readable_name(path),
            "symlink",
            "is a symbolic link that points at itself" if loop else "is a broken symbolic link",
            "remove the link",
        )
    if target == real_root or real_root.startswith(target.rstrip(os.sep) + os.sep):
        return Problem(
            readable_name(path),
            "symlink",
            "is a symbolic link to a folder that holds it, an endless loop; not followed",
            "remove the link",
        )
    if target.startswith(real_root.rstrip(os.sep) + os.sep):
        return None
    if not known and not os.path.isdir(target):
        return PassedOver(path, "ending")
    return Problem(
        readable_name(path),
        "symlink",
        f"is a symbolic link out of the folder, to {shown(target)}; not followed",
        "add its target as a source of its own",
    )


def readable_name(path: str) -> str:
    """``path`` on one line and encodable: misleading characters as Python escapes."""
    return "".join(
        c.encode("unicode_escape", "surrogatepass").decode() if _is_misleading(c) else c
        for c in path
    )


def check_root(path: str) -> None:
    """Raise `InputError` for a source that no citation could name."""
    try:
        _check_name(path)
    except ProblemError as error:
        raise InputError(
            f"{shown(readable_name(path))} cannot be indexed: {error.message}",
            hint=error.hint,
            param="paths",
        ) from None
