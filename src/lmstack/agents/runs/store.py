"""Runs in SQLite: every step is on disk before the next begins, and one process at a time may run a
run.

Write-ahead logging lets a page read while a run writes. A step is one transaction and waits for
the disk, so that a call which had begun is known to have begun after a power cut too. That holds
up the event loop for as long as the disk takes. The file is the owner's alone, since steps hold
what models and tools said. Does not cover what a run does next.

A lock is a byte of a file beside the store, locked by the operating system (POSIX record locks): a
killed process leaves none behind, and neither does one that it forked. Such locks hold between
processes only and all go when any descriptor of their file is closed, so a process keeps one
descriptor for a file and its own list of what it holds. Needs a local disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lmstack.agents.budget import Spent
from lmstack.agents.runs.run import (
    Run,
    spec_from_json,
    spec_to_json,
    step_from_json,
    step_to_json,
    type_of,
)
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import End, EndStep, Step, TaskStep
from lmstack.core import FormatError, NotFoundError, StoreError, UnsupportedError, shown
from lmstack.core.files import sqlite_error, store_error

__all__ = ["RunStore", "RunSummary", "run_lock"]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@dataclass
class _File:
    descriptor: int
    pid: int
    held: set[int] = field(default_factory=set)


_files: dict[Path, _File] = {}
_mutex = threading.Lock()


@contextlib.contextmanager
def run_lock(path: Path, number: int, name: str) -> Iterator[None]:
    """Hold byte ``number`` of the file at ``path``; `StoreError` at once if somebody else does."""
    if fcntl is None:
        raise UnsupportedError(
            "runs are locked with POSIX file locks, which this system does not have",
            hint="run agents without a store, or on Linux or macOS",
        )
    path = path.resolve()
    with _mutex:
        _take(path, number, name)
    try:
        yield
    finally:
        with _mutex:
            _give_back(path, number)


def _take(path: Path, number: int, name: str) -> None:
    file = _files.get(path)
    if file is None or file.pid != os.getpid():
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        try:
            file = _files[path] = _File(os.open(path, flags, 0o600), os.getpid())
        except OSError as error:
            raise store_error(error, path, "opening") from error
    try:
        if number in file.held:
            raise BlockingIOError
        fcntl.lockf(file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        file.held.add(number)
    except OSError as error:
        if not file.held:
            _close(path, file)
        if not isinstance(error, BlockingIOError | PermissionError):
            raise store_error(error, path, "locking") from error
        raise StoreError(
            f"the run {name} is running already, here or in another process",
            hint="wait until it has ended, or stop it first",
        ) from None


def _give_back(path: Path, number: int) -> None:
    file = _files.get(path)
    if file is None or file.pid != os.getpid():
        return  # a fork: the lock is the other process's
    file.held.discard(number)
    if file.held:
        fcntl.lockf(file.descriptor, fcntl.LOCK_UN, 1, number)
    else:
        _close(path, file)


def _close(path: Path, file: _File) -> None:
    os.close(file.descriptor)
    del _files[path]


# "lmsa" in ASCII, in the header of the file: tells our runs from any other SQLite file.
APPLICATION_ID = 0x6C6D7361
FORMAT_VERSION = 1
TITLE_CHARS = 200
BUSY_S = 10.0

METADATA = sa.MetaData()
runs = sa.Table(
    "runs",
    METADATA,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("parent", sa.Text, sa.ForeignKey("runs.id", ondelete="CASCADE"), index=True),
    sa.Column("call_id", sa.Text),
    sa.Column("agent", sa.Text, nullable=False),
    sa.Column("task", sa.Text, nullable=False),
    sa.Column("end", sa.Text),
    sa.Column("created", sa.Float, nullable=False),
    sa.Column("updated", sa.Float, nullable=False),
    sa.Column("steps", sa.Integer, nullable=False),
    sa.Column("turns", sa.Integer, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("money", sa.Float, nullable=False),
    sa.Column("spec", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
steps = sa.Table(
    "steps",
    METADATA,
    sa.Column("run", sa.ForeignKey("runs.number", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A line of a list of runs. ``task``: its beginning. ``end``: None while it runs, and where
    its process was killed. ``created``, ``updated``: Unix time. ``steps``: of every type. The rest
    is what it and all below have spent; ``turns``: of models."""

    id: str
    parent: str | None
    agent: str
    task: str
    end: End | None
    created: float
    updated: float
    steps: int
    turns: int
    tokens: int
    money: float


class RunStore:
    """The runs in one file. Thread-safe; any number of processes may share it. ``fsync``: True
    waits for the disk at each step, so that a power cut loses none; False leaves it to the
    operating system, which survives a killed process but not a power cut."""

    def __init__(self, path: str | os.PathLike[str], *, fsync: bool = True) -> None:
        self.path = Path(path)
        self._fsync = fsync
        _make_private(self.path)
        self._engine = sa.create_engine("sqlite://", creator=self._connect, poolclass=sa.NullPool)
        with self._translated():
            self._prepare()

    def __repr__(self) -> str:
        return f"RunStore({str(self.path)!r})"

    def create(
        self,
        run_id: str,
        spec: AgentSpec,
        *,
        parent: str | None = None,
        call_id: str | None = None,
    ) -> None:
        """A run without steps. `StoreError` if there is one of that id."""
        now = time.time()
        row: dict[str, Any] = {"id": run_id, "parent": parent, "call_id": call_id}
        row |= {"agent": spec.name, "task": ""}
        row |= {"created": now, "updated": now, "spec": json.dumps(spec_to_json(spec))}
        row |= {"steps": 0, "turns": 0, "tokens": 0, "money": 0.0}
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                connection.execute(sa.insert(runs).values(**row))
        except sa.exc.IntegrityError:
            raise StoreError(
                f"there is a run {shown(run_id)} already", hint="resume it, or give another id"
            ) from None

    def append(self, run_id: str, number: int, step: Step, spent: Spent) -> None:
        """Store ``step`` as number ``number`` of the run (from 0), and what the run has ``spent``
        by then. `StoreError` if that number is taken: then somebody else runs it too."""
        changes: dict[str, Any] = {
            "updated": step.at,
            "steps": number + 1,
            "turns": spent.steps,
            "tokens": spent.usage.total_tokens,
            "money": spent.money,
            "end": step.end if isinstance(step, EndStep) else None,
        }
        if isinstance(step, TaskStep):
            changes["task"] = step.text[:TITLE_CHARS]
        body = json.dumps(step_to_json(step), ensure_ascii=False)
        of_run = sa.select(runs.c.number).where(runs.c.id == run_id).scalar_subquery()
        row = {"run": of_run, "number": number, "type": type_of(step), "at": step.at, "body": body}
        try:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                connection.execute(sa.insert(steps).values(**row))
                connection.execute(sa.update(runs).where(runs.c.id == run_id).values(**changes))
        except sa.exc.IntegrityError:
            raise StoreError(
                f"step {number} of the run {shown(run_id)} is stored already",
                hint="somebody else has gone on with this run: load it again",
            ) from None

    def load(self, run_id: str) -> Run:
        """The run with all below it, as it is now. `NotFoundError` if there is none."""
        with self._transaction("BEGIN") as connection:
            return self._load(connection, run_id)

    def latest(
        self, *, limit: int = 100, end: End | None = None, nested: bool = False
    ) -> list[RunSummary]:
        """The runs that were last changed, the latest first; ``nested``: those of agents below
        too."""
        query = sa.select(runs).order_by(runs.c.updated.desc(), runs.c.number.desc()).limit(limit)
        if end is not None:
            query = query.where(runs.c.end == end)
        if not nested:
            query = query.where(runs.c.parent.is_(None))
        with self._transaction("BEGIN") as connection:
            return [_summary(row) for row in connection.execute(query)]

    def delete(self, run_id: str) -> None:
        """Forget the run and all below it. `StoreError` while it runs."""
        with self.lock(run_id), self._transaction("BEGIN IMMEDIATE") as connection:
            connection.execute(sa.delete(runs).where(runs.c.id == run_id))

    @contextlib.contextmanager
    def lock(self, run_id: str) -> Iterator[None]:
        """Nobody else may run the run meanwhile; `StoreError` at once if somebody does."""
        with self._transaction("BEGIN") as connection:
            number = _row(connection, run_id).number
        with run_lock(self.path.with_name(f"{self.path.name}.lock"), number, run_id):
            yield

    def _load(self, connection: sa.Connection, run_id: str) -> Run:
        row = _row(connection, run_id)
        query = sa.select(steps.c.body).where(steps.c.run == row.number).order_by(steps.c.number)
        bodies: Sequence[str] = connection.execute(query).scalars().all()
        below = sa.select(runs.c.id, runs.c.call_id).where(runs.c.parent == run_id)
        children = connection.execute(below.order_by(runs.c.number)).all()
        return Run(
            run_id,
            spec_from_json(json.loads(row.spec)),
            tuple(step_from_json(json.loads(body)) for body in bodies),
            {child.call_id: self._load(connection, child.id) for child in children},
            row.parent,
        )

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute(f"PRAGMA synchronous = {'FULL' if self._fsync else 'NORMAL'}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _transaction(self, begin: str) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            connection.exec_driver_sql(begin)
            yield connection
            connection.commit()

    def _prepare(self) -> None:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        with self._transaction("BEGIN IMMEDIATE") as connection:
            application = _number(connection, "PRAGMA application_id")
            version = _number(connection, "PRAGMA user_version")
            tables = _number(connection, "SELECT count(*) FROM sqlite_master")
            if not (application or tables):
                METADATA.create_all(connection)
                connection.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.exec_driver_sql(f"PRAGMA user_version = {FORMAT_VERSION}")
            elif application != APPLICATION_ID:
                raise FormatError(
                    f"{shown(str(self.path))} is a SQLite file, but does not hold runs",
                    hint="give another file",
                )
            elif version > FORMAT_VERSION:
                raise FormatError(
                    f"{shown(str(self.path))} has the format {version}; this lmstack reads"
                    f" {FORMAT_VERSION}",
                    hint="update lmstack: pip install -U lmstack",
                )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.IntegrityError:
            raise  # a row that is there already: the caller says which
        except (sa.exc.DBAPIError, sqlite3.Error) as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            kept = "the run can be resumed"
            raise sqlite_error(cause, self.path, "runs", kept=kept) from error


def _row(connection: sa.Connection, run_id: str) -> Any:
    row = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no run {shown(run_id)}", hint="list the runs that there are")
    return row


def _summary(row: Any) -> RunSummary:
    names = (each.name for each in fields(RunSummary))
    return RunSummary(**{name: getattr(row, name) for name in names})


def _number(connection: sa.Connection, query: str) -> int:
    return int(connection.exec_driver_sql(query).scalar_one())


def _make_private(path: Path) -> None:
    """Make the file, or take others' rights to it away: SQLite gives its side files the same."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # Never opened here once it is in use: closing it would drop SQLite's own locks.
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise store_error(error, path, "opening") from error
