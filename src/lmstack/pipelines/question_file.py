"""A file of questions that are being asked about passages: what is done is kept if it is stopped.

Does not cover how questions are made (`lmstack.rag.questions`), nor how they are kept
(`lmstack.train.data.journal`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from lmstack.core import InputError
from lmstack.rag.questions import AskedPassage
from lmstack.train.data.journal import Journal

__all__ = ["QuestionFile"]


class QuestionFile:
    """``settings``: what decides which questions are asked; a journal of others is an
    `InputError`. A context: leaving it keeps the journal, `finish` ends it."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self._journal = Journal(
            path,
            settings,
            hint="give those again, another --output, or delete it",
            param="output",
        )
        if path.exists() and not self.journal.exists():
            raise InputError(
                f"{path} is there already", hint="another --output, or delete it", param="output"
            )

    def __enter__(self) -> Self:
        self._journal.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._journal.__exit__()

    def __contains__(self, key: str) -> bool:
        return key in self._journal

    @property
    def path(self) -> Path:
        return self._journal.path

    @property
    def journal(self) -> Path:
        """Where it is kept until it is whole."""
        return self._journal.unfinished

    @property
    def passages(self) -> int:
        """Those that were asked about."""
        return len(self._journal.items)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for item in self._journal.items.values() for row in item["rows"]]

    @property
    def dropped(self) -> dict[str, int]:
        """Questions that were not kept, by the reason."""
        total = Counter[str]()
        for item in self._journal.items.values():
            total.update(item["dropped"])
        return dict(total.most_common())

    def add(self, asked: AskedPassage) -> None:
        self._journal.add(asked.key, {"rows": list(asked.rows), "dropped": asked.dropped})

    def finish(self) -> None:
        """Write the file, and drop the journal."""
        self._journal.finish(self.rows)
