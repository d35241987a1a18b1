"""Files and folders that a scan passes over on purpose: how many, why, and which.

A huge folder may hold millions of them, so they are counted by reason, and only the first are
kept by name. Hidden ones (a leading dot) are not counted: nobody expects them to be read. Does
not cover files that should have been read and could not be: those are problems.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lmstack.core import shown
from lmstack.rag.documents import Problem, ProblemError

__all__ = [
    "LISTED",
    "NotRead",
    "PassedOver",
    "PassingCount",
    "PassingReason",
    "unknown_ending",
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
        """``.png``; empty where what follows the last dot is no name of a format."""
        ending = os.path.splitext(self.path)[1].lower()
        return ending if ending.isascii() and ending[1:].isalnum() else ""

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


def unknown_ending(path: str) -> ProblemError:
    """For a file that was named itself, and whose ending no loader knows."""
    return ProblemError("format", *_words(PassedOver(path, "ending")))


def _words(found: PassedOver) -> tuple[str, str]:
    """The message and what to do."""
    if found.reason == "pattern":
        return "is left out by a pattern", "see --exclude, --include, .lmstackignore, .gitignore"
    if found.reason == "folder":
        name = shown(os.path.basename(found.path))
        return f"folders named {name} are not looked into", "add it as a source of its own"
    if found.reason == "removed":
        return "was taken out of the index", "lmstack index add takes it in again"
    ends = f"that end in {shown(found.ending)}" if found.ending else "without a known ending"
    return f"files {ends} are not read", "convert it to .txt, .md, .html, .pdf or .docx"
