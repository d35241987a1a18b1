"""SHA-256 of files, remembered by what the file system says of them.

A model is named by the hash of its bytes, so its bytes are hashed before they are used; the
memory makes that cost nothing as long as a file keeps its size and times. Does not cover which
hash a file ought to have (`card`).
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from lmstack.core import StoreError
from lmstack.core.files import store_error, write_atomic
from lmstack.registry.card import file_hash

__all__ = ["FileHashes"]

MOST = 500


class FileHashes:
    """The memory in ``$LMSTACK_HOME/hashes.json``. Whoever can write there can also replace
    the card of a model: it guards against damage and mistakes, not against its owner."""

    def __init__(self, root: Path) -> None:
        self._path = root / "hashes.json"

    def sha256(self, path: Path) -> str:
        """Hex SHA-256 of the bytes of ``path``."""
        try:
            stat = path.stat()
        except OSError as error:
            raise store_error(error, path, "reading") from error
        # A change cannot keep the time of the last change of status, whatever it does to mtime.
        times = f"{stat.st_mtime_ns}:{stat.st_ctime_ns}"
        key = f"{path.resolve()}:{stat.st_size}:{times}:{stat.st_ino}"
        known = self._read()
        if key not in known:
            known[key] = file_hash(path)
            self._write(known)
        return known[key]

    def _read(self) -> dict[str, str]:
        try:
            values = json.loads(self._path.read_text(encoding="utf-8"))
            return {str(key): str(value) for key, value in values.items()}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def _write(self, known: dict[str, str]) -> None:
        with contextlib.suppress(StoreError):  # a memory that cannot be kept only costs time
            write_atomic(self._path, json.dumps(dict(list(known.items())[-MOST:])).encode())
