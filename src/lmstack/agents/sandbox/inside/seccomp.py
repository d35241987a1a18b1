"""The filter of system calls that a confined process puts on itself, as a BPF program.

It lets through what one process of one thread needs (`system_calls`) and refuses the rest: with
EPERM, or with ENOSYS what is newer than the table, as a kernel without it would. A call of another
architecture kills the process. Calls that make files or folders are put to the supervisor first,
which counts them; ``counts_bytes``: so are calls that make files longer, and calls that Landlock
does not cover do nothing.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from .system_calls import (
    ALLOWED,
    ARCHITECTURES,
    CHECKED,
    CREATING,
    FOLLOWED,
    SET_TIMES_OR_MODES,
)

__all__ = ["install", "seccomp_filter"]

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_EQUAL, _AT_LEAST, _ANY_BIT = 0x15, 0x35, 0x45
_ALLOW, _ASK, _KILL, _ERROR = 0x7FFF0000, 0x7FC00000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # x86_64's calls with 32-bit pointers, under numbers of their own
_NEWER = 403  # from here on numbers are the same everywhere; glibc does without these calls
_MAP_SHARED, _MAP_ANONYMOUS = 0x1, 0x20
_O_CREAT_OR_TMPFILE, _O_TRUNC, _O_ACCMODE = 0x400040, 0x200, 0x3
_COUNTED = ("write", "pwrite64", "ftruncate")
# F_DUPFD to F_SETLKW, F_OFD_GETLK to F_OFD_SETLKW, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: nothing that
# sends signals, holds leases or makes pipes larger.
_FCNTL = (*range(8), 36, 37, 38, 1030, 1032)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX.
_IOCTL = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_GET_SECCOMP, PR_CAPBSET_READ, PR_GET_NO_NEW_PRIVS,
# PR_SET_VMA.
_PRCTL = (3, 15, 16, 21, 23, 39, 0x53564D41)
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_FILTER, _NEW_LISTENER = 1, 8
_NO_NEW_PRIVILEGES = 38


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def install(program: bytes) -> int:
    """Put the filter on this process for good; the file descriptor on which its questions come.
    `OSError` where the kernel refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    filled = ctypes.byref(_Program(len(program) // 8, program))
    number = _SECCOMP[platform.machine()]
    listener: int = libc.syscall(number, _SET_FILTER, _NEW_LISTENER, filled)
    if listener < 0:
        raise OSError(ctypes.get_errno(), "seccomp with a listener")
    return listener


def seccomp_filter(
    pid: int, socket: int, *, counts_bytes: bool, machine: str | None = None
) -> bytes | None:
    """The program for ``machine`` (that of this process unless given), as an array of struct
    sock_filter; None for a machine whose numbers are not known. ``pid``: the one process that may
    be sent signals, its own; ``socket``: the file descriptor of the one message that it sends."""
    known = ARCHITECTURES.get(machine or platform.machine())
    if known is None:
        return None
    column, architecture = known
    rules = {name: _returns(_ALLOW) for name in ALLOWED}
    rules |= {name: _returns(_ASK) for name in CREATING}
    rules |= _rules_of_bytes(counts_bytes)
    rules |= _checks(pid, socket)
    rules["mmap"] = _maps() if counts_bytes else _returns(_ALLOW)
    numbers = {**ALLOWED, **CREATING, **FOLLOWED, **SET_TIMES_OR_MODES, **CHECKED}
    steps = [
        _step(_LOAD, _ARCHITECTURE),
        _step(_EQUAL, architecture, 1, 0),
        *_returns(_KILL),
        _step(_LOAD, _NUMBER),
        _step(_AT_LEAST, _X32, 0, 1),
        *_returns(_KILL),
    ]
    for name, rule in rules.items():
        number = numbers[name][column]
        if number is not None:
            steps += [_step(_EQUAL, number, 0, len(rule)), *rule]
    steps += [_step(_AT_LEAST, _NEWER, 0, 1), *_fails(errno.ENOSYS), *_fails(errno.EPERM)]
    return b"".join(steps)


def _rules_of_bytes(counts_bytes: bool) -> dict[str, list[bytes]]:
    if not counts_bytes:
        return {name: _returns(_ALLOW) for name in (*FOLLOWED, *SET_TIMES_OR_MODES)}
    counted = {
        name: _returns(_ASK) if name in _COUNTED else _fails(errno.EPERM) for name in FOLLOWED
    }
    return counted | {name: _fails(0) for name in SET_TIMES_OR_MODES}


def _checks(pid: int, socket: int) -> dict[str, list[bytes]]:
    """What is done with each call of `CHECKED`."""
    rules = {name: _fails(errno.EOPNOTSUPP) for name in CHECKED}
    return rules | {
        "open": _opens(1),
        "openat": _opens(2),
        "fcntl": _one_of(1, _FCNTL),
        "ioctl": _one_of(1, _IOCTL, errno.ENOTTY),
        "kill": _one_of(0, (pid,)),
        "tkill": _one_of(0, (pid,)),
        "tgkill": _one_of(0, (pid,)),
        "sendmsg": _one_of(0, (socket,)),
        "prctl": _one_of(0, _PRCTL),
        "prlimit64": _only_reads_limits(pid),
    }


def _opens(argument: int) -> list[bytes]:
    """Making a file is put to the supervisor. Opening one to read and cutting it, which Linux
    does, and the first versions of Landlock let pass, is refused."""
    return [
        _low(argument),
        _step(_ANY_BIT, _O_CREAT_OR_TMPFILE, 0, 1),
        *_returns(_ASK),
        _step(_ANY_BIT, _O_TRUNC, 0, 3),
        _step(_AND, _O_ACCMODE),
        _step(_EQUAL, os.O_RDONLY, 0, 1),
        *_fails(errno.EACCES),
        *_returns(_ALLOW),
    ]


def _maps() -> list[bytes]:
    """Mapping a file, shared, is put to the supervisor."""
    return [
        _low(3),
        *(_step(_ANY_BIT, _MAP_ANONYMOUS, 2, 0), _step(_ANY_BIT, _MAP_SHARED, 0, 1)),
        *_returns(_ASK),
        *_returns(_ALLOW),
    ]


def _one_of(argument: int, values: tuple[int, ...], error: int = errno.EPERM) -> list[bytes]:
    """Where the low 32 bits of an argument that the kernel takes as an int are one of these."""
    steps = [_low(argument)]
    for value in values:
        steps += [_step(_EQUAL, value, 0, 1), *_returns(_ALLOW)]
    return [*steps, *_fails(error)]


def _only_reads_limits(pid: int) -> list[bytes]:
    """prlimit64(pid, resource, new, old): of this process, with ``new`` a null pointer."""
    return [
        *(_low(0), _step(_EQUAL, 0, 1, 0), _step(_EQUAL, pid, 0, 5)),
        *(_low(2), _step(_EQUAL, 0, 0, 3)),
        *(_high(2), _step(_EQUAL, 0, 0, 1)),
        *_returns(_ALLOW),
        *_fails(errno.EPERM),
    ]


def _low(argument: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * argument)


def _high(argument: int) -> bytes:
    return _step(_LOAD, _ARGUMENTS + 8 * argument + 4)


def _returns(action: int) -> list[bytes]:
    return [_step(_RETURN, action)]


def _fails(error: int) -> list[bytes]:
    return [_step(_RETURN, _ERROR | error)]


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
