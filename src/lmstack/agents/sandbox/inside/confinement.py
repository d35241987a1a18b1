"""A process of one's own with limits that hold: it is forked, confines itself, then runs code.

`start` returns twice, as fork does: in the worker, which has by then no right but those of the
`Setup`, and in the supervisor, which gets a `Worker`. The worker dies with the supervisor.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import signal
import socket
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .capabilities import drop_capabilities
from .landlock import READ, WORK, WRITE_FILE, restrict
from .seccomp import install, seccomp_filter

__all__ = ["NOT_CONFINED", "Setup", "Worker", "close_all_but", "prepare", "start"]

NOT_CONFINED = 125  # the status of a worker that could not confine itself, and ran nothing
_DIE_WITH_PARENT = 1
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "MPLBACKEND": "Agg",
    **dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_HIGHEST = 1 << 20


@dataclass(frozen=True)
class Setup:
    """``name``: for people who look at processes. ``limits``: by the names of `resource`. ``box``:
    the folder of what is to be run; ``folder``: where the worker may write; ``inputs``: of what it
    is given to read. ``files``: how many it may make; ``disk_bytes``: to be counted, where nothing
    else bounds them (0: the file system does). ``landlock``: its version to use, 0 for none;
    ``readable``: paths for it. ``packages``: folders to import from. ``life``: a file descriptor
    that is closed when whoever asked for all this is gone, or -1."""

    name: str
    limits: Mapping[str, int]
    box: str
    folder: str
    inputs: str
    files: int
    disk_bytes: int = 0
    landlock: int = 0
    readable: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    life: int = -1

    @classmethod
    def read(cls, text: str) -> Setup:
        values: dict[str, Any] = json.loads(text)
        return cls(**{name: _fixed(value) for name, value in values.items()})

    @property
    def rights(self) -> list[tuple[str, int]]:
        """For Landlock."""
        readable = (*self.readable, *self.packages, self.box, self.inputs, *_DEVICES)
        return [
            *((path, READ) for path in readable),
            ("/dev/null", WRITE_FILE),
            (self.folder, WORK),
        ]


def _fixed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@dataclass
class Worker:
    """``listener``: where the kernel asks about calls of the worker; ``ended``: readable once it
    has ended. ``status``: as `os.wait4` gives it, from then on."""

    pid: int
    listener: int
    ended: int
    status: int | None = None
    _used_s: float = 0.0

    def signal(self, number: int) -> None:
        if self.status is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, also while it is stopped, and wait until it has."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> bool:
        """Stop it until it is sent SIGCONT; whether it lives."""
        self.signal(signal.SIGSTOP)
        self._waited(os.WUNTRACED)
        return self.status is None

    def wait(self) -> int:
        while self.status is None:
            self._waited(0)
        return self.status

    def _waited(self, options: int) -> None:
        if self.status is None:
            _, status, used = os.wait4(self.pid, options)
            if not os.WIFSTOPPED(status):
                self.status, self._used_s = status, used.ru_utime + used.ru_stime

    def cpu_s(self) -> float:
        """Processor time that it has had."""
        if self.status is None:
            with contextlib.suppress(OSError):  # it has ended just now
                return time.clock_gettime(
                    (~self.pid << 3) | 2
                )  # its CPU clock, by clock_gettime(3)
            self.wait()
        return self._used_s

    def close(self) -> None:
        os.close(self.listener)
        os.close(self.ended)


def prepare(setup: Setup) -> None:
    """What the supervisor gives up before it starts workers: all but what workers have, and to
    look into /proc for what these hold."""
    if setup.landlock:
        drop_capabilities()
        restrict([*setup.rights, ("/proc", READ)], setup.landlock)
    os.chdir(setup.folder)


def start(setup: Setup, fds: Mapping[int, int]) -> Worker | None:
    """None in the worker. ``fds``: its file descriptors, by the numbers that it has them under;
    it has no others. `OSError` in the supervisor where the worker could not confine itself."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _confined_or_ended(setup, fds, theirs, parent)
        return None
    theirs.close()
    with ours:
        _, found, _, _ = socket.recv_fds(ours, 1, 1)
    if not found:
        _, status = os.waitpid(pid, 0)
        raise OSError(f"a process could not confine itself, and ended with {status}")
    return Worker(pid, found[0], os.pidfd_open(pid))


def _confined_or_ended(
    setup: Setup, fds: Mapping[int, int], reports: socket.socket, parent: int
) -> None:
    try:
        _confine(setup, fds, reports, parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.write(2, f"not confined: {error!r}\n".encode())
        os._exit(NOT_CONFINED)


def _confine(setup: Setup, fds: Mapping[int, int], reports: socket.socket, parent: int) -> None:
    _die_with(parent)
    socket_fd = max(fds) + 1
    _place({**fds, socket_fd: reports.detach()})
    report = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, socket_fd)
    os.environ.clear()
    os.environ.update(_ENVIRONMENT, HOME=setup.folder, TMPDIR=setup.folder)
    if setup.landlock:
        restrict(setup.rights, setup.landlock)
    program = seccomp_filter(os.getpid(), socket_fd, counts_bytes=bool(setup.disk_bytes))
    assert program is not None
    for name, value in setup.limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
    listener = install(program)
    socket.send_fds(report, [b"."], [listener])
    report.close()
    os.close(listener)


def _die_with(parent: int) -> None:
    if ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, int(signal.SIGKILL), 0, 0, 0):
        raise OSError("PR_SET_PDEATHSIG")
    if os.getppid() != parent:
        os._exit(NOT_CONFINED)


def _place(fds: Mapping[int, int]) -> None:
    """Give each file descriptor its number, and close all others."""
    above = max(fds) + 1
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD, above) for number, fd in fds.items()}
    for number, copy in copies.items():
        os.dup2(copy, number)
    close_all_but(fds)


def close_all_but(kept: Iterable[int]) -> None:
    low = 0
    for fd in sorted(kept):
        if low < fd:  # Python's closerange(0, 0) closes all
            os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, _HIGHEST)
