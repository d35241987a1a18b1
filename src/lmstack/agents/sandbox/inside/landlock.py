"""Landlock: which files the calling process may still reach, for good, by system calls.

A process gives up all rights on files that its kernel knows of, but those granted for a list of
paths, and with them TCP and (from version 6 on) signals to processes outside. What Landlock does
not cover at any version, reading that a path exists, its size and times, is not covered here.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

__all__ = ["READ", "WORK", "WRITE_FILE", "restrict", "version"]

# The same numbers on every architecture (linux/landlock.h, asm-generic/unistd.h).
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_OF_VERSION, _BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
WRITE_FILE = 1 << 1
READ = 1 << 2 | 1 << 3  # files, folders
# Of files and folders: write, read, remove, make, link, rename between folders, and cut. No
# devices, sockets or FIFOs, and no program is started.
WORK = READ | WRITE_FILE | 1 << 4 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 13 | 1 << 14
# EXECUTE, WRITE_FILE, READ_FILE, TRUNCATE, IOCTL_DEV: the others are of folders.
_OF_FILES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15
# How many rights on files each version knows; all later ones know the last.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP = 0b11  # from version 4 on
_SCOPES = 0b11  # abstract Unix sockets and signals, from version 6 on


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scopes", ctypes.c_uint64),
    )


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("path", ctypes.c_int32))


def version() -> int:
    """Of Landlock in this kernel; 0 where it has none, or where it was not enabled."""
    libc = ctypes.CDLL(None, use_errno=True)
    return max(0, int(libc.syscall(_CREATE, None, 0, _OF_VERSION)))


def restrict(granted: Iterable[tuple[str, int]], known: int) -> None:
    """Leave this process no right but those of ``granted``: paths, with what may be done at and
    beneath each; those that do not exist are passed over. ``known``: the version whose rights are
    used. `OSError` where it does not hold."""
    libc = ctypes.CDLL(None, use_errno=True)
    files = (1 << _FILE_RIGHTS.get(known, max(_FILE_RIGHTS.values()))) - 1
    rules = _Ruleset(files, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = _checked(libc.syscall(_CREATE, ctypes.byref(rules), size, 0))
    try:
        for path, rights in granted:
            if os.path.exists(path):
                _grant(libc, ruleset, path, rights & files)
        _checked(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(libc.syscall(_RESTRICT, ruleset, 0))
    finally:
        os.close(ruleset)


def _grant(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH)
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= _OF_FILES
        rule = _Rule(rights, place)
        _checked(libc.syscall(_ADD_RULE, ruleset, _BENEATH, ctypes.byref(rule), 0))
    finally:
        os.close(place)


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock refused")
    return result
