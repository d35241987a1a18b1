"""What data files held, so that nothing changes under a run without a word.

A file is known by the SHA-256 of its content, never by its name or its time. Covers whether files
are the ones that a checkpoint was made with, and whether one changed while it was read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import InputError
from lmstack.core.files import store_error

__all__ = ["DataFile", "check_same_files", "check_unchanged", "data_files", "fingerprint"]


@dataclass(frozen=True, slots=True)
class DataFile:
    """``stamp``: size, time and place on disk, which change when somebody writes the file."""

    path: Path
    size: int
    sha256: str
    stamp: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        return {"path": str(self.path), "bytes": self.size, "sha256": self.sha256}


def data_files(paths: Sequence[Path]) -> list[DataFile]:
    """Read all of ``paths`` once; `StoreError` where one cannot be read."""
    found = []
    for path in paths:
        try:
            with path.open("rb") as file:
                stamp = _stamp(path)
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise store_error(error, path, "reading") from error
        found.append(DataFile(path, stamp[0], digest, stamp))
    return found


def fingerprint(files: Sequence[DataFile]) -> str:
    """Of what the files hold, in their order."""
    return hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()


def check_unchanged(files: Sequence[DataFile]) -> None:
    """`InputError` where somebody wrote one of ``files`` since it was hashed."""
    for file in files:
        try:
            is_same = _stamp(file.path) == file.stamp
        except FileNotFoundError:
            is_same = False
        except OSError as error:
            raise store_error(error, file.path, "reading") from error
        if not is_same:
            raise InputError(
                f"{file.path} changed while it was read",
                hint="let whatever writes it end, then start again",
                param="data",
            )


def check_same_files(before: Sequence[Mapping[str, Any]], now: Sequence[DataFile]) -> None:
    """`InputError` that names the first file whose content is not what it was ``before``."""
    old = {str(file["path"]): str(file["sha256"]) for file in before}
    if list(old.values()) == [file.sha256 for file in now]:
        return
    new = {str(file.path): file.sha256 for file in now}
    for path, digest in new.items():
        if path in old and old[path] != digest:
            raise _other(f"{path} changed since the run began")
    for path in new.keys() - old.keys():
        raise _other(f"{path} was not among the data when the run began")
    for path in old.keys() - new.keys():
        raise _other(f"{path} was among the data when the run began, and is not now")
    raise _other("the data files are in another order than when the run began")


def _other(message: str) -> InputError:
    return InputError(
        message,
        hint="give the data back what it had, or start a run of its own: run=FOLDER",
        param="data",
    )


def _stamp(path: Path) -> tuple[int, ...]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino
