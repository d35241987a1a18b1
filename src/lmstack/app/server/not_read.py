"""What is said of the files that an index does not hold: one line that counts them by reason, and
an error where nothing else is there.

Does not cover the list of them, which `lmstack index status` prints.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core import NotFoundError, shown

if TYPE_CHECKING:
    from lmstack.rag import Problem, UpdateResult
    from lmstack.rag.ingest.scan import NotRead

__all__ = ["NotReadNotes", "not_read_note", "not_read_text", "nothing_to_read"]

# How many endings of files that are not read are named.
MOST_ENDINGS = 3


def not_read_note(text: str, option: str) -> str:
    """The line that says so; empty where all was read."""
    return f"not read: {text}; lmstack index status {option} lists them" if text else ""


def nothing_to_read(place: str, text: str = "") -> NotFoundError:
    """For a question to the documents of ``place`` where there are none; ``text``: what is not
    read there, as of `not_read_text`."""
    from lmstack.rag.formats.load import ENDINGS_READ

    why = f"has no file that can be read: {text}" if text else "is empty"
    return NotFoundError(
        f"{shown(place)} {why}",
        hint=f"put documents there; these are read: {ENDINGS_READ}",
        param="docs",
    )


class NotReadNotes:
    """Called with each update of the folder ``docs``: notes what is not read when that changes."""

    def __init__(self, note: Callable[[str], None], docs: Path) -> None:
        self._note, self._last = note, ""
        self._option = f"--docs {shlex.quote(str(docs))}"

    def __call__(self, result: UpdateResult) -> None:
        text = not_read_text(result.plan.not_read, result.problems)
        if text and text != self._last:
            self._note(not_read_note(text, self._option))
        self._last = text


def not_read_text(found: NotRead, all_problems: Iterable[Problem]) -> str:
    """``12 files of other kinds (.png, .zip), 2 with problems``; empty where all was read."""
    endings = [ending for ending in found.endings if ending][:MOST_ENDINGS]
    kinds = f" ({', '.join(endings)})" if endings else ""
    problems = sum(problem.kind != "access" for problem in all_problems)
    counts = (
        (
            found.counts.get("ending", 0),
            f"file of another kind{kinds}",
            f"files of other kinds{kinds}",
        ),
        (found.counts.get("pattern", 0), "left out by a pattern", "left out by patterns"),
        (found.counts.get("folder", 0), "folder of programs", "folders of programs"),
        (found.counts.get("removed", 0), "taken out", "taken out"),
        (problems, "with a problem", "with problems"),
    )
    return ", ".join(
        f"{number:,} {one if number == 1 else several}" for number, one, several in counts if number
    )
