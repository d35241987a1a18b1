"""How much of a folder a worker may fill: files, and bytes where nothing else bounds them.

The kernel asks about each call that makes a file, and where bytes are counted about each that
makes one longer (`seccomp`); the worker waits for the answer. It is one process of one thread
without shared memory, so what it asked cannot change in the meantime.

Not covered: what a call does is not checked here, only how much there may be of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import platform
import stat
import struct

from .confinement import Setup
from .folder import DEEPEST
from .system_calls import ARCHITECTURES, CHECKED, FOLLOWED

__all__ = ["FileQuota", "Quota", "answer", "quota_of"]

_RECEIVE, _SEND = 0xC0502100, 0xC0182101  # SECCOMP_IOCTL_NOTIF_RECV, _SEND
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_CONTINUE = 1
_BLOCK = 4096


def answer(listener: int, quota: FileQuota) -> None:
    """Answer the question that waits there."""
    try:
        asked = fcntl.ioctl(listener, _RECEIVE, bytes(_NOTIFICATION.size))
    except OSError:
        return  # who asked was interrupted or has ended
    identity, _, _, call, _, _, *arguments = _NOTIFICATION.unpack(asked)
    error = quota.refusal(call, arguments)
    response = _RESPONSE.pack(identity, 0, -error, 0 if error else _CONTINUE)
    with contextlib.suppress(OSError):
        fcntl.ioctl(listener, _SEND, response)


def quota_of(setup: Setup) -> FileQuota:
    return Quota(setup) if setup.disk_bytes else FileQuota(setup)


class FileQuota:
    """Of the number of files, in a file system of the worker's own, which knows how many there
    are, removed ones that are still held included. ``pid``: the worker, once there is one."""

    def __init__(self, setup: Setup) -> None:
        self.pid: int | None = None
        self._setup = setup

    def refusal(self, _call: int, _arguments: list[int]) -> int:
        """The error that the call ends with; 0 for none."""
        found = os.statvfs(self._setup.folder)
        used = found.f_files - found.f_ffree - 1  # without the folder itself
        return 0 if used < self._setup.files else errno.EDQUOT


class Quota(FileQuota):
    """Of the number of files and of bytes, in a folder of a larger file system. Both are estimated
    from above, and counted anew when the estimate is at the limit."""

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._files, self._bytes = setup.files, setup.disk_bytes  # the first question counts
        column, _ = ARCHITECTURES[platform.machine()]
        self._counted = {
            FOLLOWED[name][column]: size
            for name, size in (("write", 2), ("pwrite64", 2), ("ftruncate", 1))
        }
        self._mmap = CHECKED["mmap"][column]

    def refusal(self, _call: int, _arguments: list[int]) -> int:
        call, arguments = _call, _arguments
        if call == self._mmap:
            return 0 if self._is_read_only(arguments[4] & 0xFFFFFFFF) else errno.EACCES
        argument = self._counted.get(call)
        if argument is None:
            return self._spent(1, _BLOCK)
        if not self._is_regular(arguments[0] & 0xFFFFFFFF):
            return 0
        size = min(arguments[argument], self._setup.limits["RLIMIT_FSIZE"])
        return self._spent(0, (size // _BLOCK + 2) * _BLOCK)

    def spend(self, files: int, size: int) -> bool:
        """Whether there is room for as much; it is counted then."""
        return self._spent(files, (size // _BLOCK + 2) * _BLOCK) == 0

    def _spent(self, files: int, size: int) -> int:
        if not self._has_room(files, size):
            counted = self._counted_anew()
            if counted is not None:
                self._files, self._bytes = counted
        if not self._has_room(files, size):
            return errno.EDQUOT
        self._files += files
        self._bytes += size
        return 0

    def _has_room(self, files: int, size: int) -> bool:
        most = self._setup
        return self._files + files <= most.files and self._bytes + size <= most.disk_bytes

    def _is_regular(self, fd: int) -> bool:
        try:
            return stat.S_ISREG(os.stat(f"/proc/{self.pid}/fd/{fd}").st_mode)
        except OSError:
            return True  # it is none, or cannot be seen: counted

    def _is_read_only(self, fd: int) -> bool:
        """Through a mapping that is shared a file's holes could be filled unseen."""
        try:
            with open(f"/proc/{self.pid}/fdinfo/{fd}", encoding="ascii") as file:
                fields = dict(line.split(":", 1) for line in file if ":" in line)
            return int(fields["flags"], 8) & os.O_ACCMODE == os.O_RDONLY
        except (OSError, KeyError, ValueError):
            return False

    def _counted_anew(self) -> tuple[int, int] | None:
        """Files and bytes there; None where they cannot be told: a file that was removed is still
        mapped, or folders are nested too deeply."""
        try:
            removed = self._removed()
            there = _counted(self._setup.folder) if removed is not None else None
        except OSError:
            return None
        if removed is None or there is None:
            return None
        return there[0] + removed[0], there[1] + removed[1]

    def _removed(self) -> tuple[int, int] | None:
        """Of files that have no name any more, and that the worker holds."""
        if self.pid is None:
            return 0, 0
        with open(f"/proc/{self.pid}/maps", "rb") as file:
            if any(line.rstrip().endswith(b"(deleted)") for line in file):
                return None
        files = size = 0
        with os.scandir(f"/proc/{self.pid}/fd") as entries:
            for entry in entries:
                found = os.stat(entry.path)
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 0:
                    files, size = files + 1, size + _size(found)
        return files, size


def _counted(folder: str) -> tuple[int, int] | None:
    """Of all that is in ``folder``; None where it is nested too deeply."""
    files = size = 0
    waiting = [(folder, 0)]
    while waiting:
        path, depth = waiting.pop()
        if depth > DEEPEST:
            return None
        with os.scandir(path) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                files, size = files + 1, size + _size(found)
                if stat.S_ISDIR(found.st_mode):
                    waiting.append((entry.path, depth + 1))
    return files, size


def _size(found: os.stat_result) -> int:
    """What it takes at most: a file may have holes that can be filled, or blocks past its end."""
    return max(found.st_blocks * 512, -(-found.st_size // _BLOCK) * _BLOCK)
