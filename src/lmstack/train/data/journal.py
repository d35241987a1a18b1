"""A file of rows that a model is writing: what is done is kept if the process stops.

Until all rows are done a journal lies beside the file: the settings in its first line, then a line
for each item. Started again with the same settings, what it holds is not written again. The file
itself appears whole, at the end. Does not cover who writes the items.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Self

from lmstack.core import FormatError, InputError
from lmstack.core.files import store_error, write_atomic

__all__ = ["Journal"]


class Journal:
    """Items by key, on their way into the file ``path``. ``settings``: what decides the items; a
    journal of others is an `InputError`, with ``hint`` and ``param``. A context: leaving it keeps
    the journal, `finish` ends it. For one thread."""

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, hint: str, param: str | None = None
    ) -> None:
        self.path, self.unfinished = path, path.with_name(path.name + ".unfinished")
        self.items: dict[str, dict[str, Any]] = {}
        self._settings = json.loads(json.dumps(dict(settings)))
        self._hint, self._param = hint, param
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        try:
            begun = json.dumps(self._settings).encode()
            lines = self._read() if self.unfinished.exists() else [begun]
            self.unfinished.parent.mkdir(parents=True, exist_ok=True)
            # Anew: the last line of a process that was killed may be half a line.
            write_atomic(self.unfinished, b"".join(line + b"\n" for line in lines))
            self._file = self.unfinished.open("ab")
        except OSError as error:
            raise store_error(error, self.unfinished, "writing") from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self.items

    def add(self, key: str, item: Mapping[str, Any]) -> None:
        """Keep ``item``, of whatever JSON holds."""
        assert self._file is not None
        try:
            self._file.write(_line({"key": key, **item}))
            self._file.flush()
        except OSError as error:
            raise store_error(error, self.unfinished, "writing") from error
        self.items[key] = dict(item)

    def finish(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write ``rows`` as the file, and drop the journal."""
        write_atomic(self.path, b"".join(map(_line, rows)))
        self.unfinished.unlink(missing_ok=True)

    def _read(self) -> list[bytes]:
        """The lines that the journal holds, without a last one that is not whole."""
        first, *lines = self.unfinished.read_bytes().split(b"\n")
        try:
            self._check(json.loads(first))
            for line in lines[:-1]:
                item = json.loads(line)
                self.items[item.pop("key")] = item
        except (ValueError, LookupError, AttributeError) as error:
            raise FormatError(f"{self.unfinished} is damaged", hint="delete it") from error
        return [first, *lines[:-1]]

    def _check(self, begun: Mapping[str, Any]) -> None:
        if begun == self._settings:
            return
        names = sorted({*begun, *self._settings})
        names = [name for name in names if begun.get(name) != self._settings.get(name)]
        raise InputError(
            f"{self.unfinished} was begun with other settings: {', '.join(names)}",
            hint=self._hint,
            param=self._param,
        )


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()
