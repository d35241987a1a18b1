"""Linux's capabilities, given up. A process of the first user has them all; without them it is
that user still, who owns files, but can do nothing else that others cannot."""

from __future__ import annotations

import ctypes
import os

__all__ = ["drop_capabilities"]

_VERSION_3 = 0x20080522
_READ_BOUND, _DROP_BOUND = 23, 24
_AMBIENT, _CLEAR_ALL = 47, 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Set(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_capabilities() -> None:
    """Leave this process none, nor a way to any. `OSError` where some are left."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = _Header(_VERSION_3, 0), (_Set * 2)()
    _checked(libc.capget(ctypes.byref(header), sets))
    if any(each.permitted for each in sets):
        number = 0
        while libc.prctl(_READ_BOUND, number, 0, 0, 0) >= 0:
            libc.prctl(_DROP_BOUND, number, 0, 0, 0)
            number += 1
        libc.prctl(_AMBIENT, _CLEAR_ALL, 0, 0, 0)
        _checked(libc.capset(ctypes.byref(header), (_Set * 2)()))
        _checked(libc.capget(ctypes.byref(header), sets))
        if any(each.permitted for each in sets):
            raise OSError("capabilities are left")


def _checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
