"""Outputs of subjects on disk, so that a run goes on where it was killed, and a scorer that changed
scores again what is there.

An output is kept under a hash of all that decides it: the subject's digest, the task's name and
version, the solver's protocol, and the sample with everything in it. The data set as a whole is
not part of it: a sample that stays as it was keeps its output when others are added, and what a
solver takes from other samples (shots) is in its protocol. Nor is the scorer. Scores are computed
each time; those that cost a model's time may be kept too, under a hash of the sample, the output
itself, and the scorer's protocol.

SQLite with write-ahead logging: any number of threads and processes share a file. What is kept
first stays, so that two runs at once report the same. A killed process loses nothing; a power cut
may take the last outputs, which are then asked for again. The file is the owner's alone. Not
covered: results (`results`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmstack.core import (
    FormatError,
    InputError,
    IntegrityError,
    check_whole,
    shown,
)
from lmstack.core.files import sqlite_error, sqlite_transaction, store_error
from lmstack.evals.json_forms import (
    canonical,
    digest_of,
    output_from_json,
    output_to_json,
    scores_from_json,
    scores_to_json,
)
from lmstack.evals.task import ModelOutput, Sample, Subject, Task

__all__ = ["MAX_OUTPUT_BYTES", "OutputKeys", "OutputStore"]

# "lmso" in ASCII, in the header of the file: tells our outputs from any other SQLite file.
APPLICATION_ID = 0x6C6D736F
FORMAT_VERSION = 1
MAX_OUTPUT_BYTES = 16 << 20
BUSY_S = 30.0
_AT_ONCE = 500
_EVICTED = 10  # one in so many of the oldest, when the file is full
_TABLE = """
CREATE TABLE kept (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    created REAL NOT NULL,
    body TEXT NOT NULL
)"""


class OutputKeys:
    """The keys of the outputs of ``subject`` for ``task``, and of their scores."""

    def __init__(self, task: Task, subject: Subject) -> None:
        if not subject.digest:
            raise InputError(
                f"{subject.name} has no digest, so that its outputs cannot be told from others'",
                hint="give the digest of what decides its answers: weights, prompt, index",
                param="model",
            )
        common = {
            "kind": "output",
            "format": FORMAT_VERSION,
            "subject": subject.digest,
            "task": task.name,
            "version": task.version,
            "solver": dict(task.solver.protocol),
        }
        self._common = digest_of(common, f"the protocol of the solver of {task.name}")
        self._task = task

    def output(self, sample: Sample) -> str:
        key = {"common": self._common, "sample": sample.to_json()}
        return digest_of(key, f"the sample {sample.id}")

    def scores(self, sample: Sample, output: ModelOutput) -> str:
        """Whatever time the output took."""
        key = {
            "kind": "scores",
            "format": FORMAT_VERSION,
            "task": self._task.name,
            "version": self._task.version,
            "scorer": dict(self._task.scorer.protocol),
            "sample": sample.to_json(),
            "output": output_to_json(replace(output, seconds=0.0)),
        }
        return digest_of(key, f"the scorer's protocol of {self._task.name}, or sample {sample.id}")


class OutputStore:
    """The outputs in one file, which is made where there is none. ``max_bytes``: of the file;
    beyond it the oldest outputs are deleted. ``fsync``: False leaves the disk to the operating
    system, which survives a killed process; a power cut may then damage the file. Thread-safe.

    `FormatError` for a file that is something else, or of a newer lmstack; `IntegrityError` for a
    damaged one; `StoreError` where the disk or another process is in the way."""

    def __init__(
        self, path: str | os.PathLike[str], *, max_bytes: int = 8 << 30, fsync: bool = True
    ) -> None:
        check_whole("max_bytes", max_bytes, 1 << 16, 1 << 50)
        self.path = Path(path)
        self._max_bytes, self._fsync = max_bytes, fsync
        self._lock = threading.Lock()
        _make_private(self.path)
        with self._translated():
            self._connection = sqlite3.connect(
                self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare()
            except BaseException:
                self._connection.close()
                raise

    def __repr__(self) -> str:
        return f"OutputStore({str(self.path)!r})"

    def outputs(self, keys: Iterable[str]) -> dict[str, ModelOutput]:
        """Those that are kept, by key."""
        return {key: self._read(body, output_from_json) for key, body in self._bodies(keys).items()}

    def keep_output(self, key: str, output: ModelOutput) -> ModelOutput:
        """The output that is kept under ``key`` from now on: this one, or an earlier one.
        `InputError` for one that is too large or holds facts that are not JSON."""
        body = self._keep(key, "output", output_to_json(output))
        return output if body is None else self._read(body, output_from_json)

    def scores(self, key: str) -> dict[str, float] | None:
        body = self._bodies([key]).get(key)
        return None if body is None else self._read(body, _scores)

    def keep_scores(self, key: str, scores: Mapping[str, float]) -> dict[str, float]:
        """The scores that are kept under ``key`` from now on."""
        body = self._keep(key, "scores", scores_to_json(scores))
        return dict(scores) if body is None else self._read(body, _scores)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> OutputStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _bodies(self, keys: Iterable[str]) -> dict[str, str]:
        wanted = list(keys)
        found: dict[str, str] = {}
        with self._lock, self._translated():
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, body FROM kept WHERE key IN ({marks})"
                found.update(self._connection.execute(query, part).fetchall())
        return found

    def _keep(self, key: str, kind: str, value: Mapping[str, Any]) -> str | None:
        """Keep ``value``, or return the body that was kept under ``key`` before."""
        body = canonical(value, f"the {kind} of a sample")
        if len(body) > MAX_OUTPUT_BYTES:  # all of it is ASCII
            raise InputError(
                f"an output has {len(body):,} bytes, at most {MAX_OUTPUT_BYTES:,} are kept",
                hint="set max_tokens of the task's sampling",
                param="max_tokens",
            )
        with self._lock, self._writing() as connection:
            row = (key, kind, time.time(), body)
            query = "INSERT OR IGNORE INTO kept (key, kind, created, body) VALUES (?, ?, ?, ?)"
            if connection.execute(query, row).rowcount:
                self._make_room(connection)
                return None
            found = connection.execute("SELECT body FROM kept WHERE key = ?", (key,)).fetchone()
            return str(found[0])

    def _make_room(self, connection: sqlite3.Connection) -> None:
        pages = _number(connection, "page_count") - _number(connection, "freelist_count")
        if pages * _number(connection, "page_size") <= self._max_bytes:
            return
        query = "SELECT min(number), max(number) FROM kept"
        oldest, newest = connection.execute(query).fetchone()
        last = min(oldest + (newest - oldest) // _EVICTED, newest - 1)
        connection.execute("DELETE FROM kept WHERE number <= ?", (last,))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), sqlite_transaction(self._connection):
            yield self._connection

    def _prepare(self) -> None:
        _use_write_ahead_log(self._connection)
        self._connection.execute(f"PRAGMA synchronous = {'NORMAL' if self._fsync else 'OFF'}")
        with self._writing() as connection:
            application = _number(connection, "application_id")
            version = _number(connection, "user_version")
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if not (application or tables):
                connection.execute(_TABLE)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {FORMAT_VERSION}")
            elif application != APPLICATION_ID:
                raise FormatError(
                    f"{shown(str(self.path))} is a SQLite file, but does not hold outputs of tasks",
                    hint="give another file",
                )
            elif version != FORMAT_VERSION:
                raise FormatError(
                    f"{shown(str(self.path))} has the format {version}; this lmstack reads"
                    f" {FORMAT_VERSION}",
                    hint="update lmstack, or give another file",
                )

    def _read(self, body: str, read: Any) -> Any:
        try:
            return read(json.loads(body))
        except (ValueError, FormatError) as error:
            raise IntegrityError(
                f"{shown(str(self.path))} holds an output that cannot be read: {error}",
                hint="move it away, and its -wal file with it; outputs are then asked for again",
            ) from error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            kept = "run again: what is done is kept"
            raise sqlite_error(error, self.path, "outputs", kept=kept) from error


def _scores(value: Any) -> dict[str, float]:
    return scores_from_json(value, "scores")


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _use_write_ahead_log(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for others when it changes the mode: two that make a file at once."""
    end = time.monotonic() + BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            is_busy = str(getattr(error, "sqlite_errorname", "")).startswith("SQLITE_BUSY")
            if not is_busy or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _make_private(path: Path) -> None:
    """Make the file: SQLite gives its side files the same rights."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise store_error(error, path, "opening") from error
