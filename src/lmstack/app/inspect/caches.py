"""What lmstack keeps on disk and could make or fetch again, how much that is, and what of it
nothing uses.

    $LMSTACK_HOME/packed      quantized weights (`registry.weight_cache`)
    $LMSTACK_HOME/downloads   parts of downloads, and packages of several models
    $LMSTACK_HOME/indexes     the indexes of folders (`lmstack ask --docs`)
    the platform's caches     lmstack-*, of tests and benchmarks

Does not cover models (`lmstack model rm`), results of evaluations, or what was bought from a
provider (embeddings.sqlite).
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lmstack.core import LmstackError
from lmstack.core.files import store_error
from lmstack.registry.home import home

__all__ = ["CacheEntry", "entries", "remove"]

# A download that was written to within this time may still be running.
_RUNNING_S = 3_600.0


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A file or folder of a cache. ``unused``: why nothing needs it; empty where something may."""

    cache: str
    path: Path
    bytes: int
    unused: str = ""


def entries() -> list[CacheEntry]:
    """All that is there, by cache and path."""
    root = home()
    return [
        *_in(root / "packed", "weights", _weights()),
        *_in(root / "downloads", "downloads", _download),
        *_in(root / "indexes", "indexes", _index),
        *_in(_platform_caches(), "tests and benchmarks", lambda _: "", "lmstack-*"),
    ]


def remove(entry: CacheEntry) -> None:
    """`StoreError` where the system refuses."""
    try:
        if entry.path.is_dir() and not entry.path.is_symlink():
            shutil.rmtree(entry.path)
        else:
            entry.path.unlink(missing_ok=True)
    except OSError as error:
        raise store_error(error, entry.path, "deleting") from error


def _in(
    folder: Path, cache: str, unused: Callable[[Path], str], pattern: str = "*"
) -> Iterator[CacheEntry]:
    try:
        for path in sorted(folder.glob(pattern)):
            yield CacheEntry(cache, path, _size(path), unused(path))
    except OSError as error:
        raise store_error(error, folder, "reading") from error


def _size(path: Path) -> int:
    """On disk, of all that is below; what goes away meanwhile is nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            total += _bytes(Path(folder, name))
    return total + (0 if path.is_dir() else _bytes(path))


def _bytes(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _weights() -> Callable[[Path], str]:
    from lmstack.registry import Store
    from lmstack.registry.weight_cache import is_of

    digests = [folder.digest for folder in Store().models()]

    def unused(path: Path) -> str:
        used = any(is_of(path, digest) for digest in digests)
        return "" if used else "of no model in the store"

    return unused


def _download(path: Path) -> str:
    try:
        idle = time.time() - path.lstat().st_mtime > _RUNNING_S
    except OSError:
        idle = False
    return "nothing is written to it" if idle else ""


def _index(folder: Path) -> str:
    """Of folders that are all gone, or away with their disk."""
    from lmstack.rag import Index

    try:
        with Index.open(folder, create=False) as index:
            sources = index.status(check=False).sources
    except LmstackError:
        return ""
    if sources and not any(os.path.exists(source) for source in sources):
        return f"{', '.join(map(os.path.abspath, sources))} is not there"
    return ""


def _platform_caches() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
