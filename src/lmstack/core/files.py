"""Files that are written whole or not at all, and the error of a disk that refuses."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from lmstack.core.errors import StoreError

__all__ = ["replaced_file", "store_error", "write_atomic"]

_HINTS = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space, or use another disk"),
    **dict.fromkeys((errno.EACCES, errno.EPERM), "give yourself access to it"),
    **dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "a file is in the way: move it"),
    errno.EROFS: "choose a folder that can be written",
}


def store_error(error: OSError, path: Path, doing: str) -> StoreError:
    """The `StoreError` for ``doing`` ("reading", "writing"...) ``path``, with what to do."""
    hint = _HINTS.get(error.errno or 0, "check the disk and the permissions")
    return StoreError(
        f"{doing} {path} failed: {error.strerror or error}",
        hint=f"{hint}; LMSTACK_HOME names the folder of models and indexes",
    )


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
