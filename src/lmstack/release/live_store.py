"""What a canary or a shadow was seen to do, in one file that a server writes and commands read.

A comparison is of two versions in one mode, by their digests; a server that is started again with
the same two goes on with it, and a canary that was stopped stays stopped. An answer is a row of
numbers and hashes; texts are kept only where that was asked for. SQLite with write-ahead logging,
the owner's alone, of a bounded size: what does not fit is counted and not kept. Reports join it
with what people thought of the answers by the id of the request. Not covered: what follows from it
(`evals.live`), and the thread that writes (`live_recorder`).
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lmstack.core import NotFoundError, StoreError, shown
from lmstack.core.files import sqlite_error, sqlite_transaction
from lmstack.evals.live import LiveAnswer, LiveReport, compare_live
from lmstack.registry.home import home
from lmstack.release.feedback import FeedbackStore
from lmstack.safety.traffic import Arm

__all__ = [
    "FILE",
    "LOST",
    "LiveComparison",
    "LiveStore",
    "clear",
    "comparison",
    "comparisons",
    "live_path",
    "report",
]

FILE = "live.sqlite"
# The reason under which answers are counted that are not in the file.
LOST = "not recorded"
MAX_BYTES = 512 << 20
Mode = Literal["canary", "shadow"]
# "lmsv" in ASCII, in the header of the file: tells ours from any other SQLite file.
APPLICATION_ID = 0x6C6D7376
VERSION = 1
BUSY_S = 5.0
_TABLES = (
    """CREATE TABLE comparisons (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        mode TEXT NOT NULL,
        stable TEXT NOT NULL, stable_digest TEXT NOT NULL,
        candidate TEXT NOT NULL, candidate_digest TEXT NOT NULL,
        share REAL NOT NULL,
        begun TEXT NOT NULL,
        stopped TEXT, reason TEXT,
        feedback TEXT NOT NULL,
        UNIQUE (mode, stable_digest, candidate_digest)
    )""",
    """CREATE TABLE answers (
        comparison INTEGER NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        side TEXT NOT NULL,
        place INTEGER NOT NULL,
        unit TEXT NOT NULL,
        share REAL NOT NULL,
        time TEXT NOT NULL,
        request TEXT NOT NULL,
        outcome TEXT NOT NULL, error TEXT NOT NULL,
        first_token_s REAL, total_s REAL NOT NULL,
        prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
        finish TEXT, refusal INTEGER NOT NULL,
        input_digest TEXT NOT NULL, input_characters INTEGER NOT NULL,
        output_digest TEXT NOT NULL, output_characters INTEGER NOT NULL,
        prompt TEXT, text TEXT,
        PRIMARY KEY (comparison, place, side)
    ) WITHOUT ROWID""",
    """CREATE TABLE counts (
        comparison INTEGER NOT NULL REFERENCES comparisons (id) ON DELETE CASCADE,
        what TEXT NOT NULL,
        number INTEGER NOT NULL,
        PRIMARY KEY (comparison, what)
    ) WITHOUT ROWID""",
)
COLUMNS = (
    *("side", "place", "unit", "share", "time", "request", "outcome", "error", "first_token_s"),
    *("total_s", "prompt_tokens", "completion_tokens", "finish", "refusal", "input_digest"),
    *("input_characters", "output_digest", "output_characters", "prompt", "text"),
)


@dataclass(frozen=True)
class LiveComparison:
    """``share``: of the server that began last; an answer has that of its own. ``feedback``: the
    folders of all servers. ``counts``: what was left out and what fell back, by reason."""

    id: int
    mode: Mode
    stable: Arm
    candidate: Arm
    share: float
    begun: str
    stopped: str | None
    reason: str | None
    feedback: tuple[str, ...]
    counts: dict[str, int]


class LiveStore:
    """The file at ``path``, which is made when something is first written. Thread-safe; any number
    of processes."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.path, self._max_bytes = path, max_bytes

    def begin(
        self, mode: Mode, stable: Arm, candidate: Arm, share: float, feedback: Path
    ) -> LiveComparison:
        """Of the two versions, new or as it was left, perhaps by a server that goes on beside this
        one. ``feedback``: the folder of the file in which people's judgements of answers are kept.
        """
        key = (mode, stable.digest, candidate.digest)
        with self._writing() as connection:
            known = connection.execute(
                "SELECT feedback FROM comparisons"
                " WHERE (mode, stable_digest, candidate_digest) = (?, ?, ?)",
                key,
            ).fetchone()
            folders = {*(() if known is None else _folders(known[0])), str(feedback)}
            values = (stable.model, candidate.model, share, json.dumps(sorted(folders)))
            connection.execute(
                "INSERT INTO comparisons (mode, stable_digest, candidate_digest, stable, candidate,"
                " share, feedback, begun) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (mode, stable_digest, candidate_digest) DO UPDATE SET"
                " stable = excluded.stable, candidate = excluded.candidate,"
                " share = excluded.share, feedback = excluded.feedback",
                (*key, *values, now()),
            )
        return next(
            each
            for each in self.comparisons()
            if (each.mode, each.stable.digest, each.candidate.digest) == key
        )

    def comparisons(self) -> list[LiveComparison]:
        """All of them, the newest last."""
        if not self.path.exists():
            return []
        with self._opened() as connection:
            rows = connection.execute("SELECT * FROM comparisons ORDER BY id").fetchall()
            counts = connection.execute("SELECT comparison, what, number FROM counts").fetchall()
        return [_comparison(row, counts) for row in rows]

    def write(
        self, comparison: int, answers: Iterable[Mapping[str, Any]], counts: Mapping[str, int]
    ) -> None:
        """All or nothing. An answer in whose place there is one already is counted as lost."""
        holes = ", ".join("?" * (1 + len(COLUMNS)))
        rows = [(comparison, *(each[name] for name in COLUMNS)) for each in answers]
        with self._writing() as connection:
            done = connection.executemany(
                f"INSERT OR IGNORE INTO answers (comparison, {', '.join(COLUMNS)})"
                f" VALUES ({holes})",
                rows,
            )
            counts = Counter(counts) + Counter({LOST: len(rows) - max(done.rowcount, 0)})
            connection.executemany(
                "INSERT INTO counts VALUES (?, ?, ?) ON CONFLICT (comparison, what)"
                " DO UPDATE SET number = number + excluded.number",
                [(comparison, what, number) for what, number in counts.items()],
            )

    def stop(self, comparison: int, reason: str) -> None:
        with self._writing() as connection:
            connection.execute(
                "UPDATE comparisons SET stopped = ?, reason = ? WHERE id = ? AND stopped IS NULL",
                (now(), reason, comparison),
            )

    def answers(
        self,
        comparison: int,
        thumbs: Mapping[str, bool] | None = None,
        *,
        with_texts: bool = True,
    ) -> list[LiveAnswer]:
        """In the order in which requests came. ``thumbs``: by the id of the request."""
        thumbs, text = thumbs or {}, "text" if with_texts else "NULL"
        with self._opened() as connection:
            rows = connection.execute(
                "SELECT side, place, unit, share, request, outcome, first_token_s, total_s,"
                f" prompt_tokens, completion_tokens, finish, refusal, output_digest, {text}"
                " FROM answers WHERE comparison = ? ORDER BY place, side",
                (comparison,),
            )
            return [
                LiveAnswer(*(*row[:11], bool(row[11]), thumbs.get(row[4]), *row[12:]))
                for row in rows
            ]

    def clear(self, comparison: int) -> None:
        """Forget a comparison: begun again, it is new and not stopped."""
        with self._writing() as connection:
            found = connection.execute("DELETE FROM comparisons WHERE id = ?", (comparison,))
            if not found.rowcount:
                raise NotFoundError(f"there is no comparison {comparison}")

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._opened() as connection, sqlite_transaction(connection):
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # SQLite gives its side files the rights of the file.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with closing(
                sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA secure_delete = ON")
                self._check(connection)
                size = int(connection.execute("PRAGMA page_size").fetchone()[0])
                connection.execute(f"PRAGMA max_page_count = {self._max_bytes // size}")
                yield connection
        except (sqlite3.Error, OSError) as error:
            kept = "`lmstack release traffic --clear` forgets a comparison"
            raise sqlite_error(error, self.path, "comparisons of versions", kept=kept) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        if self._version(connection) == VERSION:
            return
        connection.execute("PRAGMA journal_mode = WAL")
        # Under the lock, and looked at again: another process may do the same.
        with sqlite_transaction(connection):
            if self._version(connection) == 0:
                for table in _TABLES:
                    connection.execute(table)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")

    def _version(self, connection: sqlite3.Connection) -> int:
        [version] = connection.execute("PRAGMA user_version").fetchone()
        [application] = connection.execute("PRAGMA application_id").fetchone()
        if version not in (0, VERSION) or (version and application != APPLICATION_ID):
            raise StoreError(
                f"{shown(str(self.path))} was written by another program or version ({version})",
                hint="use that version of lmstack, or move the file away",
            )
        return int(version)


def live_path(home: Path) -> Path:
    """The file of live comparisons below the folder that `lmstack` keeps everything in."""
    return home / "live" / FILE


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _folders(text: str) -> tuple[str, ...]:
    """One alone is how they were written before."""
    return tuple(json.loads(text)) if text.startswith("[") else (text,)


def _comparison(row: tuple[Any, ...], counts: Iterable[tuple[int, str, int]]) -> LiveComparison:
    number, mode, stable, stable_digest, candidate, candidate_digest, *rest = row
    share, begun, stopped, reason, feedback = rest
    return LiveComparison(
        number,
        mode,
        Arm("stable", stable, stable_digest),
        Arm("canary" if mode == "canary" else "shadow", candidate, candidate_digest),
        share,
        begun,
        stopped,
        reason,
        _folders(feedback),
        {what: found for comparison, what, found in counts if comparison == number},
    )


def comparisons() -> list[LiveComparison]:
    """The newest last."""
    return LiveStore(live_path(home())).comparisons()


def comparison(number: int | None) -> LiveComparison:
    """By its number; without one the newest."""
    known = comparisons()
    if not known:
        raise NotFoundError(
            "no two versions have been compared on live traffic",
            hint="lmstack up DIR --canary MODEL, or --shadow MODEL",
        )
    found = known[-1] if number is None else next((k for k in known if k.id == number), None)
    if found is None:
        numbers = ", ".join(str(each.id) for each in known)
        raise NotFoundError(
            f"there is no comparison {number}", hint=f"there are {numbers}", param="number"
        )
    return found


def report(found: LiveComparison) -> LiveReport:
    thumbs = {
        each["request_id"]: each["verdict"] == "helpful"
        for folder in found.feedback
        for each in FeedbackStore(Path(folder)).all()
        if each["verdict"] is not None
    }
    return compare_live(found.mode, LiveStore(live_path(home())).answers(found.id, thumbs))


def clear(found: LiveComparison) -> None:
    LiveStore(live_path(home())).clear(found.id)
