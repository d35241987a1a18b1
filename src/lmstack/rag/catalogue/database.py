"""What holds the tables of an index: a SQLite file or a PostgreSQL database, behind one face.

Covers transactions, locks between processes and the engine's own state. What the tables hold is
`schema`'s, and every query in `lmstack.rag` is one that both engines understand.

`writer_lock` is an advisory lock (`flock`): a killed process leaves none behind, and searches never
take it.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal, Protocol

import sqlalchemy as sa

from lmstack.core import StoreError, shown

__all__ = ["LOCK_NAME", "Database", "Lock", "index_option", "writer_lock"]

LOCK_NAME = "index.lock"
_POLL_S = 0.05


@contextmanager
def writer_lock(folder: Path, timeout_s: float, name: str = LOCK_NAME) -> Iterator[None]:
    """Hold the lock of ``folder``; `StoreError` that names the holder after ``timeout_s``."""
    path = folder / name
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(
            f"cannot write in the index folder {shown(str(folder))}: {error.strerror}",
            hint="check the permissions of the folder and the space on its disk",
        ) from None
    try:
        _acquire(descriptor, path, timeout_s)
        # A full disk must not stop a removal: the name of the holder is only a courtesy.
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                who = f"process {holder}" if holder else "another process"
                raise StoreError(
                    f"the index {shown(str(path.parent))} is locked by {who}",
                    hint="wait for it to finish, or stop it",
                ) from None
            time.sleep(_POLL_S)


# One writer of documents at a time, and one builder of a space beside them.
Lock = Literal["writer", "builder"]


class Database(Protocol):
    """Thread-safe; each transaction has its own connection. ``place`` names it to people;
    ``folder`` is where its files are, None if they are elsewhere."""

    @property
    def place(self) -> str: ...

    @property
    def folder(self) -> Path | None: ...

    def reading(self) -> AbstractContextManager[sa.Connection]:
        """A read transaction: one snapshot, whatever writers do meanwhile."""
        ...

    def writing(self) -> AbstractContextManager[sa.Connection]:
        """A write transaction, one at a time: commits at the end, or leaves no trace when
        anything raises. What it reads is what the one before it left."""
        ...

    def locked(self, lock: Lock, timeout_s: float) -> AbstractContextManager[None]:
        """Hold ``lock`` against other processes; `StoreError` after ``timeout_s``. A process
        that dies lets go of it."""
        ...

    def size(self) -> int:
        """Bytes on disk."""
        ...

    def findings(self, connection: sa.Connection) -> list[str]:
        """What the engine itself finds wrong with its tables."""
        ...

    def close(self) -> None: ...


def index_option(place: str | Path) -> str:
    """``--index`` with ``place``, as it is typed in a shell."""
    return f"--index {shlex.quote(str(place))}"
