"""What holds the tables of an index: a SQLite file or a PostgreSQL database, behind one face.

Covers transactions, locks between processes and the engine's own state. What the tables hold is
`schema`'s, and every query in `lmstack.rag` is one that both engines understand.
"""

from __future__ import annotations

import shlex
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, Protocol

import sqlalchemy as sa

__all__ = ["Database", "Lock", "index_option"]

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
