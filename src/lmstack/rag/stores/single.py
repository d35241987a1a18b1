"""A folder that an engine lets only one process open, and says so when a second one comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lmstack.core import StoreError, shown
from lmstack.rag.catalogue.lock import LOCK_NAME, writer_lock

__all__ = ["one_process"]


@contextmanager
def one_process(folder: Path, name: str) -> Iterator[None]:
    """Hold ``folder``, making it if need be; `StoreError` if another process does."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StoreError(
            f"cannot make the folder {shown(str(folder))}: {error.strerror}",
            hint="give another place for the store",
            param="store",
        ) from None
    lock = writer_lock(folder, 0)
    try:
        lock.__enter__()
    except StoreError as error:
        who = (folder / LOCK_NAME).read_text("ascii", "replace").strip() or "another process"
        raise StoreError(
            f"{name} is open in process {who}",
            hint="one process at a time can use it; end that one, or use a server",
            param="store",
        ) from error
    try:
        yield
    finally:
        lock.__exit__(None, None, None)
