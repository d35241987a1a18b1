"""One writer at a time for an index folder, told apart by a file that the kernel unlocks.

An advisory lock (`flock`): a killed process leaves no lock behind. Searches never take it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmstack.core import StoreError, shown

__all__ = ["LOCK_NAME", "writer_lock"]

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
