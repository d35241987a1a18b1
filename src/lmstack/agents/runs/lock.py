"""One process at a time may run a run.

A lock is a byte of a file beside the store, locked by the operating system (POSIX record locks): a
killed process leaves none behind, and neither does one that it forked. Such locks hold between
processes only and all go when any descriptor of their file is closed, so a process keeps one
descriptor for a file and its own list of what it holds. Needs a local disk.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from lmstack.core import StoreError, UnsupportedError
from lmstack.core.files import store_error

__all__ = ["run_lock"]


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
