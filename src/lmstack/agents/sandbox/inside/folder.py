"""A folder that somebody else filled: listed, read and written to without being led out of it.

Every step goes from an open folder to one name in it, and no link is followed; only regular files
are opened. Paths are the text that `shown` makes of the bytes of a name: printable, with a
backslash before what is not, and they can be read back. Hidden names, which begin with a dot, are
not listed.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["DEEPEST", "FolderError", "Listed", "emptied", "listed", "raw", "read", "shown", "write"]

DEEPEST = 32  # levels of folders that are looked into
_ESCAPE = re.compile(rb"\\(?:(\\)|x([0-9a-f]{2}))?")
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class FolderError(Exception):
    """What was asked for is not there, is no regular file, or is too large; in words."""


@dataclass(frozen=True)
class Listed:
    """``version``: another one after each change."""

    path: str
    size: int
    version: tuple[int, int]


def listed(folder: str, most: int) -> tuple[list[Listed], int]:
    """The regular files in ``folder``, sorted, at most ``most``; and how many more there are."""
    place = os.open(folder, os.O_DIRECTORY | _OPEN)
    try:
        found = sorted(_walked(place, b"", 0), key=lambda each: each.path)
    finally:
        os.close(place)
    return found[:most], max(0, len(found) - most)


def _walked(place: int, prefix: bytes, depth: int) -> Iterator[Listed]:
    with os.scandir(place) as entries:
        names = [os.fsencode(entry.name) for entry in entries]
    for name in names:
        if name.startswith(b"."):
            continue
        with contextlib.suppress(OSError):
            found = os.stat(name, dir_fd=place, follow_symlinks=False)
            if stat.S_ISREG(found.st_mode):
                version = (found.st_mtime_ns, found.st_ino)
                yield Listed(shown(prefix + name), found.st_size, version)
            elif stat.S_ISDIR(found.st_mode) and depth < DEEPEST:
                inner = os.open(name, os.O_DIRECTORY | _OPEN, dir_fd=place)
                try:
                    yield from _walked(inner, prefix + name + b"/", depth + 1)
                finally:
                    os.close(inner)


def read(folder: str, path: str, limit: int) -> bytes:
    """The file at ``path``; `FolderError` where there is none, or where it is larger."""
    *parents, name = _parts(path)
    with _opened(folder, parents) as place:
        try:
            file = os.open(name, os.O_RDONLY | _OPEN, dir_fd=place)
        except OSError as error:
            raise FolderError(f"{path}: {error.strerror}") from error
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise FolderError(f"{path} is no regular file")
        if found.st_size > limit:
            raise FolderError(f"{path} has {found.st_size:,} bytes, more than {limit:,}")
        return _content(file, path, limit)
    finally:
        os.close(file)


def _content(file: int, path: str, limit: int) -> bytes:
    data = bytearray()
    while piece := os.read(file, min(1 << 20, limit + 1 - len(data))):
        data += piece
        if len(data) > limit:
            raise FolderError(f"{path} has more than {limit:,} bytes")
    return bytes(data)


def write(folder: str, path: str, data: bytes) -> None:
    """Put a file at ``path``, in place of one that is there, and the folders that it is in."""
    *parents, name = _parts(path)
    with _opened(folder, parents, make=True) as place:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=place)  # whatever it is: the new file is nobody's link
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN
        file = os.open(name, flags, 0o600, dir_fd=place)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
    finally:
        os.close(file)


@contextlib.contextmanager
def _opened(folder: str, parents: list[bytes], *, make: bool = False) -> Iterator[int]:
    place = os.open(folder, os.O_DIRECTORY | _OPEN)
    try:
        for name in parents:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=place)
            try:
                inner = os.open(name, os.O_DIRECTORY | _OPEN, dir_fd=place)
            except OSError as error:
                raise FolderError(f"{shown(name)}: {error.strerror}") from error
            os.close(place)
            place = inner
        yield place
    finally:
        os.close(place)


def emptied(folder: str) -> None:
    """Remove all that is in ``folder``, however deeply it is nested: what is in an inner folder is
    moved up before the folder is removed."""
    number = 0
    place = os.open(folder, os.O_DIRECTORY | _OPEN)
    try:
        while names := os.listdir(place):
            for name in names:
                try:
                    os.unlink(name, dir_fd=place)
                except (IsADirectoryError, PermissionError):
                    number = _moved_up(place, name, number)
                    os.rmdir(name, dir_fd=place)
    finally:
        os.close(place)


def _moved_up(place: int, name: str, number: int) -> int:
    os.chmod(name, 0o700, dir_fd=place)
    inner = os.open(name, os.O_DIRECTORY | _OPEN, dir_fd=place)
    try:
        for each in os.listdir(inner):
            free = f"\x01{number}"
            while _is_there(free, place):
                number += 1
                free = f"\x01{number}"
            if stat.S_ISDIR(os.stat(each, dir_fd=inner, follow_symlinks=False).st_mode):
                os.chmod(each, 0o700, dir_fd=inner)  # to move a folder is to write to it
            os.rename(each, free, src_dir_fd=inner, dst_dir_fd=place)
    finally:
        os.close(inner)
    return number


def _is_there(name: str, place: int) -> bool:
    try:
        os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def shown(name: bytes) -> str:
    """The bytes of a path as printable text, from which `raw` makes them again."""
    text = name.decode("utf-8", "surrogateescape").replace("\\", "\\\\")
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))


def raw(path: str) -> bytes:
    """The bytes that `shown` wrote as ``path``; `FolderError` for what it does not write."""

    def meant(escape: re.Match[bytes]) -> bytes:
        if escape[1]:
            return b"\\"
        if not escape[2]:
            raise FolderError(f"{path!r} is no path of the folder")
        return bytes.fromhex(escape[2].decode())

    return _ESCAPE.sub(meant, path.encode("utf-8", "surrogatepass"))


def _parts(path: str) -> list[bytes]:
    parts = raw(path).split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise FolderError(f"{path!r} is no path inside the folder")
    return parts
