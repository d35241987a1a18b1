"""What people thought of answers: kept beside the index, judged by whoever asked, once but
changeable.

A judgement may hold what the answer should have said, and whether models may be trained with it,
which is asked for and never taken for granted. It is stored with what it is about (question,
answer, citations, passages, which models), so that it can be looked into after the documents have
changed. Only answers that are judged are stored; others are forgotten (`RecentAnswers`). Callers
are kept by the name of `lmstack.serve`, which does not tell their key. Does not cover what follows
from it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lmstack.core import InputError, NotFoundError, StoreError, shown
from lmstack.core.files import sqlite_transaction

__all__ = ["FILE", "FeedbackJudgement", "FeedbackStore", "RecentAnswers", "Verdict"]

FILE = "feedback.sqlite"
VERSION = 2
MAX_ROWS = 100_000
MAX_RECENT = 500
RECENT_S = 86_400.0
Verdict = Literal["helpful", "not_helpful"]

_TABLE = """
CREATE TABLE IF NOT EXISTS feedback (
    request_id TEXT PRIMARY KEY,
    time TEXT NOT NULL,
    client TEXT NOT NULL,
    verdict TEXT,
    comment TEXT NOT NULL,
    wrong_sources TEXT NOT NULL,
    answered TEXT NOT NULL,
    edit TEXT NOT NULL DEFAULT '',
    consent INTEGER NOT NULL DEFAULT 0
)"""
# From the version before; what was kept then was said without being asked for consent.
_UPGRADES = {
    1: (
        "ALTER TABLE feedback ADD COLUMN edit TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE feedback ADD COLUMN consent INTEGER NOT NULL DEFAULT 0",
    ),
}


@dataclass(frozen=True, slots=True)
class FeedbackJudgement:
    """``wrong_sources``: numbers of citations that do not say what they are cited for. ``edit``:
    the answer as it should read; empty where nobody changed it. ``consent``: whether it may be
    used to train models."""

    verdict: Verdict | None
    comment: str = ""
    wrong_sources: tuple[int, ...] = ()
    edit: str = ""
    consent: bool = False

    @property
    def is_empty(self) -> bool:
        said = self.comment or self.wrong_sources or self.edit
        return self.verdict is None and not said


class RecentAnswers:
    """Answers of the last day that may still be judged, in memory only. Thread-safe."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, tuple[float, str, Mapping[str, Any]]] = OrderedDict()

    def remember(self, request_id: str, client: str, answered: Mapping[str, Any]) -> None:
        with self._lock:
            self._kept[request_id] = (self._now(), client, answered)
            while len(self._kept) > MAX_RECENT:
                self._kept.popitem(last=False)

    def answered(self, request_id: str, client: str) -> Mapping[str, Any]:
        """What ``client`` was answered under this id. An answer of somebody else is as unknown
        as one that never was: `NotFoundError`."""
        with self._lock:
            when, asker, found = self._kept.get(request_id, (0.0, "", {}))
            if not found or asker != client or self._now() - when > RECENT_S:
                raise NotFoundError(
                    "this answer cannot be judged any more",
                    hint="ask again: answers can be judged for a day, while the server runs",
                    param="request_id",
                )
        return found


class FeedbackStore:
    """The judgements beside the index in ``folder``; the file is made with the first one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE

    def save(
        self,
        request_id: str,
        client: str,
        judgement: FeedbackJudgement,
        answered: Mapping[str, Any],
    ) -> None:
        """Keep ``judgement`` in place of an earlier one of this answer; an empty one takes it
        back. `InputError` for a source that was not cited."""
        cited = {citation["id"] for citation in answered["citations"]}
        unknown = sorted(set(judgement.wrong_sources) - cited)
        if unknown:
            raise InputError(
                f"the answer cites no source {unknown[0]}",
                hint=f"it cites {sorted(cited)}",
                param="wrong_sources",
            )
        row = (
            request_id,
            datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            client,
            judgement.verdict,
            judgement.comment,
            json.dumps(sorted(set(judgement.wrong_sources))),
            json.dumps(answered),
            judgement.edit,
            int(judgement.consent),
        )
        with self._writing() as connection:
            connection.execute("DELETE FROM feedback WHERE request_id = ?", (request_id,))
            [count] = connection.execute("SELECT count(*) FROM feedback").fetchone()
            if judgement.is_empty:
                return
            if count >= MAX_ROWS:
                raise StoreError(
                    f"{count:,} judgements are kept, and no more",
                    hint="lmstack feedback export, then lmstack feedback clear",
                )
            connection.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def all(self) -> list[dict[str, Any]]:
        """Every judgement with what it is about, the oldest first."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT request_id, time, client, verdict, comment, wrong_sources, answered,"
                " edit, consent FROM feedback ORDER BY time, request_id"
            ).fetchall()
        return [_record(row) for row in rows]

    def clear(self) -> int:
        """Forget all judgements; how many there were."""
        if not self.path.exists():
            return 0
        with self._writing() as connection:
            count = connection.execute("DELETE FROM feedback").rowcount
        with self._opened() as connection:
            connection.execute("VACUUM")  # nothing of them is left in the file
        return int(count)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as connection, sqlite_transaction(connection):
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            # Only the owner of the server reads what others wrote.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(sqlite3.connect(self.path, timeout=5, isolation_level=None)) as found:
                found.execute("PRAGMA secure_delete = ON")
                self._check_version(found)
                yield found
        except (sqlite3.Error, OSError) as error:
            raise StoreError(
                f"{shown(str(self.path))} cannot be used: {error}",
                hint="check its permissions and the disk; moved away, a new one is begun",
            ) from error

    def _check_version(self, connection: sqlite3.Connection) -> None:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version == VERSION:
            return
        # Under the lock, and looked at again: another process may do the same.
        connection.execute("BEGIN IMMEDIATE")
        [version] = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.execute(_TABLE)
        while version in _UPGRADES:
            for statement in _UPGRADES[version]:
                connection.execute(statement)
            version += 1
        if version in (0, VERSION):
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.commit()
        else:
            connection.rollback()
            raise StoreError(
                f"{shown(str(self.path))} was written by another version of lmstack ({version})",
                hint="use that version, or move the file away",
            )


def _record(row: Sequence[Any]) -> dict[str, Any]:
    request_id, when, client, verdict, comment, wrong, answered, edit, consent = row
    return {
        "request_id": request_id,
        "time": when,
        "client": client,
        "verdict": verdict,
        "comment": comment,
        "wrong_sources": json.loads(wrong),
        "edit": edit,
        "consent": bool(consent),
        **json.loads(answered),
    }
