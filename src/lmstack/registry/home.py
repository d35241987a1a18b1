"""Where lmstack keeps things, and one program at a time in a place.

Covers the home folder and a lock between processes. Does not cover what lies in the folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lmstack.core import StoreError
from lmstack.core.files import store_error

__all__ = ["home", "locked"]


def home() -> Path:
    """The folder of this user's models, indexes and audit logs, absolute; it may not exist yet.

    ``$LMSTACK_HOME``, or ``lmstack`` in the platform's data folder. `StoreError` for a user
    without a home folder, as in a container that runs under a bare number.
    """
    chosen = os.environ.get("LMSTACK_HOME")
    if chosen:
        return _expanded(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Application Support"
    else:
        base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return _expanded(base) / "lmstack"


def _expanded(path: str) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise StoreError(
            f"no home folder is known for {path.split('/')[0]} in {path}",
            hint="set LMSTACK_HOME to a folder that can be written",
        ) from None


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file ``path``; waits for whoever has it. A killed process frees it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+b")
    except OSError as error:
        raise store_error(error, path, "writing") from error
    with handle:
        _acquire(handle)
        try:
            yield
        finally:
            _release(handle)


if sys.platform == "win32":
    import msvcrt
    import time

    def _acquire(handle: IO[bytes]) -> None:
        while True:
            try:
                handle.seek(0)
                msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                time.sleep(0.1)
            else:
                return

    def _release(handle: IO[bytes]) -> None:
        handle.seek(0)
        msvcrt.locking(handle.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _acquire(handle: IO[bytes]) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX)

    def _release(handle: IO[bytes]) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
