"""Files that are written whole or not at all, and what a disk or SQLite says where it refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.core.errors import IntegrityError, StoreError, shown

if TYPE_CHECKING:
    import sqlite3

__all__ = ["replaced_file", "sqlite_error", "sqlite_transaction", "store_error", "write_atomic"]

_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or use another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give yourself access to it"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way: move it"),
    errno.EROFS: "choose a folder that can be written",
}


def store_error(error: OSError, path: Path, doing: str) -> StoreError:
    """The `StoreError` for ``doing`` ("reading", "writing"...) ``path``, with what to do."""
    if error.errno == errno.ENOENT and doing == "reading":
        return StoreError(f"there is nothing at {shown(str(path), 4096)}", hint="check the path")
    hint = _HINTS.get(error.errno or 0, "check the disk and the permissions")
    return StoreError(
        f"{doing} {path} failed: {error.strerror or error}",
        hint=f"{hint}; LMSTACK_HOME names the folder of models and indexes",
    )


@contextlib.contextmanager
def sqlite_transaction(connection: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """A transaction that may write from its first statement on: it waits for others at once, and
    is undone where the block fails."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield connection
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def sqlite_error(
    error: BaseException | None, path: Path, what: str, *, kept: str
) -> IntegrityError | StoreError:
    """The error for sqlite3's ``error`` about the file ``path``. ``what``: a plural noun, what it
    holds. ``kept``: what a full disk does not lose, and how to go on."""
    name, file = str(getattr(error, "sqlite_errorname", "")), shown(str(path))
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        hint = "move it away, and its -wal file with it; a new one is made"
        return IntegrityError(f"{file} is damaged or holds no {what}: {error}", hint=hint)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        hint = "wait for the process that uses it, or stop it"
        return StoreError(f"the {what} in {file} are locked by another process", hint=hint)
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        hint = f"free space on that disk; {kept}"
        return StoreError(f"cannot write the {what} in {file}: {error}", hint=hint)
    hint = "check the permissions of the file and its folder"
    return StoreError(f"cannot use the {what} in {file}: {error}", hint=hint)


@contextlib.contextmanager
def replaced_file(path: Path, *, synced: bool = True) -> Iterator[Path]:
    """A path beside ``path`` to write to, which replaces it when the block ends: whole or not at
    all, if ``synced`` also across a power cut. Makes the folder; `StoreError` where that fails."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            if synced:
                with partial.open("rb+") as file:
                    os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise store_error(error, path, "writing") from error


def write_atomic(path: Path, data: bytes) -> None:
    """Write ``path`` by `replaced_file`."""
    with replaced_file(path) as partial:
        partial.write_bytes(data)
