"""What a process that parses foreign files may still do: compute, and answer on its pipe.

Covers Linux: limits of the kernel (no file may grow, no core dumps, few open files, no new
processes unless root), no gain of privileges, and Landlock where the kernel has it (since 5.13):
no file can be written, made, renamed or removed, nothing outside the installed software can be
read (a document cannot pull in another file), no program can be started, and no TCP connection
opened. Where there is no Landlock, and on other systems, what is left is the limits. Not covered:
a filter of system calls.
"""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["confine"]

_MAX_OPEN_FILES = 64
_NO_NEW_PRIVILEGES = 38
# The same numbers on every architecture (linux/landlock.h, asm-generic/unistd.h).
_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446
_BENEATH = 1
_READ = 1 << 2 | 1 << 3  # files, folders
# How many rights on files each version of Landlock knows; all later ones know the last.
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_TCP_RIGHTS = 2
_SYSTEM = ("/usr", "/lib", "/lib64", "/etc", "/dev/urandom", "/dev/null")


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def confine() -> bool:
    """Give up for good what this process does not need; whether Landlock holds."""
    for limit, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
    ):
        with suppress(OSError, ValueError):  # a lower hard limit stands already
            resource.setrlimit(limit, (most, most))
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    return _landlock(libc, {*_SYSTEM, sys.prefix, sys.base_prefix, *filter(None, sys.path)})


def _landlock(libc: ctypes.CDLL, readable: Iterable[str]) -> bool:
    version = libc.syscall(_CREATE, None, 0, 1)
    if version < 1:
        return False
    files = (1 << _FILE_RIGHTS.get(version, max(_FILE_RIGHTS.values()))) - 1
    wanted = _Ruleset(files, (1 << _TCP_RIGHTS) - 1 if version >= 4 else 0)
    size = 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE, ctypes.byref(wanted), size, 0)
    if ruleset < 0:
        return False
    for path in readable:
        with suppress(OSError):
            _allow(libc, ruleset, path)
    held = bool(libc.syscall(_RESTRICT, ruleset, 0) == 0)
    os.close(ruleset)
    return held


def _allow(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rights = _READ if Path(path).is_dir() else _READ & ~(1 << 3)
        rule = _Rule(rights, folder)
        libc.syscall(_ADD_RULE, ruleset, _BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(folder)
