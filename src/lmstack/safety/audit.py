"""The audit log: append-only, hash-chained, shared by threads and processes.

`AuditLog.append` returns once the record is on disk, or raises `StoreError`. A record that a
killed process left half written stays where it is, is ended with a newline, and the next record
(`"event": "recovered"`) names its size and hash, so nothing is ever cut from the file and a
crash does not look like tampering.

Who can change what unnoticed:

- someone who can write the log but not its head file: nothing;
- someone who can write both: everything, unless the log has a key (``$LMSTACK_AUDIT_KEY``) or a
  head hash was pinned elsewhere (`verify(path, expect_head=...)`);
- someone who can write both, of a log with a key that they do not have: only put back an older
  copy of both files. A pinned head finds that too, and so does a process that still runs;
- someone who has the key, or can change the running program: everything from then on.

Covers writing. `verify` reads and checks. Does not cover rotation: to start a new log, stop the
server and move the log and its head away together. Needs POSIX file locks on a local disk.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from lmstack.core import InputError, StoreError, UnsupportedError, shown
from lmstack.core.files import replaced_file
from lmstack.safety.chain import (
    FORMAT,
    RESERVED,
    Head,
    canonical,
    key_from_environment,
    open_line,
    seal,
)

__all__ = ["AuditLog", "head_path", "locked"]

LOCK_TIMEOUT_S = 10.0


def head_path(path: Path) -> Path:
    """The head file of the log at ``path``."""
    return path.with_name(path.name + ".head")


class AuditLog:
    """One log file. Thread-safe; any number of processes may append to the same path.

    ``key``: makes every record carry a keyed hash; by default ``$LMSTACK_AUDIT_KEY`` if set.
    ``fsync``: True waits for the disk at each record, so that a power cut loses none; False
    leaves it to the operating system, which survives a killed process but not a power cut.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        key: bytes | None = None,
        fsync: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if fcntl is None:
            problem = "the audit log needs POSIX file locks, which this system does not have"
            raise UnsupportedError(problem, hint="run the server on Linux or macOS")
        self.path = Path(path)
        self._key = key if key is not None else key_from_environment()
        self._fsync = fsync
        self._now = now
        self._mutex = threading.Lock()
        self._last_seq = 0
        self._unwritten: list[Mapping[str, Any]] = []

    def __repr__(self) -> str:
        return f"AuditLog({str(self.path)!r}, keyed={self._key is not None})"

    def append(self, record: Mapping[str, Any], *, keep: bool = False) -> str:
        """Write ``record`` and return its hash. `InputError` if it is not JSON or uses a name
        of the chain's own; `StoreError` if it could not be written, or the log was tampered
        with. ``keep``: a record that could not be written is kept, and written before any
        other is."""
        _check_record(record)
        with self._mutex:
            pending = [*self._unwritten, record]
            self._unwritten = pending if keep else pending[:-1]
            try:
                with locked(self.path, create=True) as file:
                    for each in pending:
                        hash_ = self._append(file, each)
                        self._unwritten = self._unwritten[1:]
                return hash_
            except OSError as error:
                raise StoreError(
                    f"cannot write the audit log {str(self.path)!r}: {error.strerror or error}",
                    hint="requests are refused until it can be written; free space or check"
                    " the permissions of its folder",
                ) from error

    def _append(self, file: int, record: Mapping[str, Any]) -> str:
        head = self._read_head(file)
        lines = bytearray()
        if head.seq == 0 and os.fstat(file).st_size == 0:
            opened = {"event": "opened", "format": FORMAT, "log": secrets.token_hex(16)}
            head = self._chain(lines, head, {**opened, "keyed": self._key is not None})
        else:
            head = self._recover(file, head, lines)
        head = self._chain(lines, head, record)
        _write_all(file, bytes(lines))
        if self._fsync:
            os.fsync(file)
        self._write_head(head)
        self._last_seq = head.seq
        return head.hash

    def _chain(self, lines: bytearray, head: Head, record: Mapping[str, Any]) -> Head:
        """Add ``record`` to ``lines``; the head after it."""
        time_ = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {**record, "seq": head.seq + 1, "time": time_, "prev": head.hash}
        line, hash_ = seal(body, self._key)
        lines += line
        return Head(head.seq + 1, hash_, head.size + len(line))

    def _recover(self, file: int, head: Head, lines: bytearray) -> Head:
        """Take in what a killed writer left after ``head``: whole records as they are, a torn
        one with a record about it."""
        size = os.fstat(file).st_size
        if size < head.size:
            raise _tampered(
                self.path, f"it has {size} bytes, its head says {head.size}: it was cut short"
            )
        tail = _read_range(file, head.size, size)
        while tail:
            line, newline, rest = tail.partition(b"\n")
            try:
                record = open_line(line, seq=head.seq + 1, prev=head.hash, key=self._key)
            except ValueError as error:
                if newline:
                    raise _tampered(self.path, f"after record {head.seq}, {error}") from error
                lines += b"\n"
                torn = {"torn_bytes": len(line), "torn_sha256": hashlib.sha256(line).hexdigest()}
                head = Head(head.seq, head.hash, head.size + len(line) + 1)
                return self._chain(lines, head, {"event": "recovered", **torn})
            lines += b"" if newline else b"\n"
            head = Head(record["seq"], record["hash"], head.size + len(line) + 1)
            tail = rest
        return head

    def _read_head(self, file: int) -> Head:
        path = head_path(self.path)
        try:
            head = Head.from_bytes(path.read_bytes(), self._key)
        except FileNotFoundError:
            if os.fstat(file).st_size:
                raise _tampered(self.path, f"its head file {str(path)!r} is gone") from None
            head = Head()
            self._write_head(head)
        except ValueError as error:
            raise _tampered(self.path, f"of its head file {str(path)!r}: {error}") from error
        if head.seq < self._last_seq:
            raise _tampered(
                self.path,
                f"it ends at record {head.seq}, this process wrote {self._last_seq}: an older"
                " copy was put back",
            )
        return head

    def _write_head(self, head: Head) -> None:
        with replaced_file(head_path(self.path), synced=self._fsync) as partial:
            file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                _write_all(file, head.to_bytes(self._key))
            finally:
                os.close(file)


@contextlib.contextmanager
def locked(path: Path, *, create: bool = False) -> Iterator[int]:
    """The log's file descriptor under its lock: exclusive to write, shared to read."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags, mode = os.O_RDWR | os.O_APPEND | os.O_CREAT, fcntl.LOCK_EX
    else:
        flags, mode = os.O_RDONLY, fcntl.LOCK_SH
    file = os.open(path, flags | os.O_CLOEXEC, 0o600)
    try:
        deadline, wait = time.monotonic() + LOCK_TIMEOUT_S, 0.0005
        while True:
            try:
                fcntl.flock(file, mode | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"the audit log {str(path)!r} has been locked for {LOCK_TIMEOUT_S:g} s",
                        hint=f"another process holds it: `fuser {shlex.quote(str(path))}` names it",
                    ) from None
                time.sleep(wait)
                wait = min(wait * 1.5, 0.02)
        yield file
    finally:
        os.close(file)  # gives the lock back


def _check_record(record: Mapping[str, Any]) -> None:
    for name in RESERVED:
        if name in record:
            raise InputError(f"an audit record may not set {name!r} itself", param=name)
    try:
        canonical(record)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"the audit record {shown(record)} is not JSON: {error}") from error


def _tampered(path: Path, what: str) -> StoreError:
    return StoreError(
        f"the audit log {str(path)!r} is damaged: {what}",
        hint="nothing more is written to it: look with"
        f" `lmstack audit verify {shlex.quote(str(path))}`, then move the log and its"
        " .head file away together to start a new one",
    )


def _write_all(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _read_range(file: int, start: int, end: int) -> bytes:
    with open(file, "rb", closefd=False) as opened:
        opened.seek(start)
        return opened.read(end - start)
