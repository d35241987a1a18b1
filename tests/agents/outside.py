"""What a program in a sandbox must not reach, watched: files, a process, sockets, a secret.

`Outside.violations` names what was reached since it was made, from what the program has left
behind: its output, the watched things themselves, and processes with its marker.
"""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["Outside", "leftovers"]

_CONTENT = "as it was"
_TO_END_S = 10.0
_TO_BE_TOLD_S = 2.0


class Outside:
    """``folder``: with a secret and a canary; ``variable``: of this process's environment, with the
    same secret."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.secret = folder, secrets.token_hex(16)
        (folder / "secret").write_text(self.secret)
        self.variable = f"SECRET_{secrets.token_hex(4).upper()}"
        os.environ[self.variable] = self.secret
        self.canary = folder / "canary"
        self.canary.write_text(_CONTENT)
        self.canary.chmod(0o600)
        os.utime(self.canary, (10**9, 10**9))
        self._names = sorted(os.listdir(folder))
        self.victim = subprocess.Popen(["sleep", "600"])
        self._affinity = os.sched_getaffinity(self.victim.pid)
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("127.0.0.1", 0))
        self._socket_names = (str(folder.parent / "s"), f"\0{self.variable}")
        self.unix = [socket.socket(socket.AF_UNIX) for _ in self._socket_names]
        for each, name in zip(self.unix, self._socket_names, strict=True):
            each.bind(name)
            each.listen()

    def close(self) -> None:
        del os.environ[self.variable]
        self.victim.kill()
        self.victim.wait()
        for each in (self.tcp, self.udp, *self.unix):
            each.close()
        Path(self._socket_names[0]).unlink()

    def filled(self, code: str) -> str:
        """``code`` with the names of what is watched."""
        names = {
            "secret": self.folder / "secret",
            "folder": self.folder,
            "canary": self.canary,
            "variable": self.variable,
            "victim": self.victim.pid,
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "unix": self._socket_names[0],
            "abstract": self.variable,
        }
        for name, value in names.items():
            code = code.replace(f"<{name}>", str(value))
        return code

    def violations(self, output: str, marker: str) -> list[str]:
        """``output``: all that the program has handed out. ``marker``: on the command line of its
        processes, which are waited for a moment."""
        return [
            *(["escaped"] if "ESCAPED" in output else []),
            *(["secret"] if self.secret in output else []),
            *self._of_files(),
            *self._of_others(),
            *(["leftover"] if leftovers(marker) else []),
        ]

    def _of_files(self) -> Iterator[str]:
        if sorted(os.listdir(self.folder)) != self._names:
            yield "folder"
        with suppress(FileNotFoundError):
            found = self.canary.stat()
            same = (self.canary.read_text(), found.st_mode & 0o777, found.st_mtime)
            if same == (_CONTENT, 0o600, 10**9):
                return
        yield "canary"

    def _of_others(self) -> Iterator[str]:
        if self.victim.poll() is not None:
            yield "victim"
        elif os.sched_getaffinity(self.victim.pid) != self._affinity:
            yield "affinity"
        for name, watched in (("tcp", [self.tcp]), ("udp", [self.udp]), ("unix", self.unix)):
            if select.select(watched, [], [], 0)[0]:
                yield name


def leftovers(marker: str) -> list[int]:
    """Processes with ``marker`` on their command line, once those that are being killed are gone;
    they are ended. A process whose namespace has just lost its first one is told a moment later."""
    began = time.monotonic()
    while (found := _running(marker)) and time.monotonic() < began + _TO_END_S:
        told = time.monotonic() > began + _TO_BE_TOLD_S
        if told and not any(_is_dying(pid) for pid in found):
            break
        time.sleep(0.01)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def _running(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if marker.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def _is_dying(pid: int) -> bool:
    """Whether SIGKILL is on its way to it, or it is being taken apart."""
    with suppress(OSError, IndexError, ValueError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        pending = int(fields["SigPnd"], 16) | int(fields["ShdPnd"], 16)
        return bool(pending >> 8 & 1) or fields["State"][:1] in "ZX"
    return True
