"""A file of questions that are being asked about passages: what is done is kept if it is stopped.

Until all passages are done a journal lies beside the file: the settings in its first line, then a
line for each passage. Started again with the same settings, what it holds is not asked again; the
file itself is written whole, at the end. Does not cover how questions are made
(`lmstack.rag.questions`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

from lmstack.core import InputError
from lmstack.core.files import store_error, write_atomic
from lmstack.rag.questions import AskedPassage

__all__ = ["QuestionFile"]


class QuestionFile:
    """``settings``: what decides which questions are asked; a journal of others is an
    `InputError`. A context: leaving it keeps the journal, `finish` ends it."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.journal = path, path.with_name(path.name + ".unfinished")
        self._settings = json.loads(json.dumps(dict(settings)))
        self._asked: dict[str, AskedPassage] = {}
        self._file: IO[str] | None = None
        if path.exists() and not self.journal.exists():
            raise InputError(
                f"{path} is there already", hint="another --output, or delete it", param="output"
            )

    def __enter__(self) -> Self:
        try:
            kept = self._read() if self.journal.exists() else ""
            self.journal.parent.mkdir(parents=True, exist_ok=True)
            # Anew: the last line of a process that was killed may be half a line.
            write_atomic(
                self.journal, kept.encode() or (json.dumps(self._settings) + "\n").encode()
            )
            self._file = self.journal.open("a", encoding="utf-8")
        except OSError as error:
            raise store_error(error, self.journal, "writing") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._asked

    @property
    def passages(self) -> int:
        """Those that were asked about."""
        return len(self._asked)

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [row for each in self._asked.values() for row in each.rows]

    @property
    def dropped(self) -> dict[str, int]:
        """Questions that were not kept, by the reason."""
        total = Counter[str]()
        for each in self._asked.values():
            total.update(each.dropped)
        return dict(total.most_common())

    def add(self, asked: AskedPassage) -> None:
        assert self._file is not None
        line = {"key": asked.key, "rows": list(asked.rows), "dropped": asked.dropped}
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise store_error(error, self.journal, "writing") from error
        self._asked[asked.key] = asked

    def finish(self) -> None:
        """Write the file, and drop the journal."""
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)
        write_atomic(self.path, text.encode())
        self.journal.unlink(missing_ok=True)

    def _read(self) -> str:
        """What the journal holds, without a last line that is not whole."""
        first, *lines = self.journal.read_text(encoding="utf-8", errors="replace").split("\n")
        if first != json.dumps(self._settings):
            raise InputError(
                f"{self.journal} was begun with other settings",
                hint="give those again, another --output, or delete it",
                param="output",
            )
        for line in lines[:-1]:
            held = json.loads(line)
            self._asked[held["key"]] = AskedPassage(
                held["key"], tuple(held["rows"]), held["dropped"]
            )
        return "\n".join([first, *lines[:-1], ""])
