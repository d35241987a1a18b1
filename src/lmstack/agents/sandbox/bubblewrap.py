"""A program of Python in a sandbox of Linux's namespaces, made by bubblewrap.

It sees the system's libraries and the interpreter, read-only, a small /tmp of its own, and nothing
else: no network, no /proc, no home, no environment, no other process. It is one process with one
thread, without capabilities, under hard limits on processor time, memory, files and output, and a
filter of system calls (`seccomp`). It is killed with all of its namespace when its time is over or
when this process dies.

Fails closed: where bubblewrap is missing or the kernel refuses, nothing is run. Does not cover what
was run (`code_tests`), nor faults of the kernel itself.
"""

from __future__ import annotations

import functools
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from lmstack.agents.sandbox.seccomp import seccomp_filter
from lmstack.core import Config, ExtraMissingError, UnsupportedError, allowed

__all__ = ["Ran", "Sandbox", "SandboxConfig"]

End = Literal["exit", "signal", "time", "output"]
_INSIDE = Path(__file__).parent / "inside"
_BOOT = "import sys; sys.path.insert(0, '/box'); from inside.start import main; main()"
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache")
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_NOBODY = "65534"
_MIB = 1 << 20
_PIECE = 1 << 16
_INSTALL = "sudo apt-get install bubblewrap, or your system's package of that name"
_ALLOW = (
    "allow unprivileged user namespaces, with an AppArmor profile for bwrap or with sudo sysctl"
    " kernel.apparmor_restrict_unprivileged_userns=0 (on Debian kernel.unprivileged_userns_clone=1)"
)


@dataclass(frozen=True)
class SandboxConfig(Config):
    """``cpu_s``: seconds of processor time; ``wall_s``: of the clock, which also stops a program
    that waits. ``memory_mib``: of address space; ``disk_mib``: of /tmp. ``output_bytes``: of its
    output and errors, each."""

    cpu_s: int = allowed(3, int, 1, 3600)
    wall_s: float = allowed(10.0, float, 0, 86_400, above=True)
    memory_mib: int = allowed(512, int, 32, 1 << 20)
    disk_mib: int = allowed(16, int, 1, 1 << 20)
    output_bytes: int = allowed(64 * 1024, int, 1, 1 << 30)

    @property
    def limits(self) -> dict[str, int]:
        """Of the process, by the names of `resource`."""
        return {
            "RLIMIT_CPU": self.cpu_s,
            "RLIMIT_AS": self.memory_mib * _MIB,
            "RLIMIT_FSIZE": self.disk_mib * _MIB,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Ran:
    """``end``: it ended by itself (``exit``, with ``status``) or by a signal (``status``: its
    number); it was killed over its ``time`` or over its ``output``, of which the first bytes that
    are allowed are here."""

    end: End
    status: int
    stdout: bytes
    stderr: bytes


class Sandbox:
    """Makes sandboxes of one kind. ``bwrap``: the program; unless given, that of the path."""

    def __init__(self, config: SandboxConfig | None = None, *, bwrap: str | None = None) -> None:
        self.config = SandboxConfig() if config is None else config
        self._bwrap = bwrap

    def check(self) -> None:
        """`ExtraMissingError` or `UnsupportedError` where no sandbox can be made, with what to
        do."""
        _checked(self._program(), _python())

    def run(self, program: str, arguments: Sequence[str] = (), *, stdin: bytes = b"") -> Ran:
        """Run the text ``program`` as a script of Python, to its end."""
        self.check()
        deadline = time.monotonic() + self.config.wall_s
        files = {"/box/program.py": program.encode()}
        with self.started("program", arguments, files, stdin=stdin) as process:
            return _followed(process, self.config.output_bytes, deadline)

    @contextmanager
    def started(
        self,
        role: str,
        arguments: Sequence[str],
        files: Mapping[str, bytes],
        *,
        fds: Sequence[int] = (),
        stdin: bytes | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A process in the ``role`` of `inside.start`, with ``files`` by their paths there and the
        file descriptors ``fds``; killed with its namespace at the end. ``stdin`` None: it has no
        output either."""
        with ExitStack() as stack:
            filter_fd = stack.enter_context(_in_memory(_filter()))
            fixed = {path: stack.enter_context(_in_memory(data)) for path, data in files.items()}
            sink = subprocess.DEVNULL if stdin is None else subprocess.PIPE
            process = subprocess.Popen(
                [
                    *_command(self._program(), self.config),
                    *(word for path, fd in fixed.items() for word in ("--ro-bind-data", fd, path)),
                    *("--seccomp", filter_fd, "--remount-ro", "/", "--chdir", "/tmp", "--"),
                    *(_python(), "-I", "-S", "-B", "-c", _BOOT),
                    *(json.dumps(self.config.limits), role, *arguments),
                ],
                stdin=subprocess.DEVNULL if stdin is None else stack.enter_context(_file(stdin)),
                stdout=sink,
                stderr=sink,
                pass_fds=[int(filter_fd), *map(int, fixed.values()), *fds],
                start_new_session=True,
                env={},
            )
            try:
                yield process
            finally:
                _killed(process)

    def _program(self) -> str:
        if not sys.platform.startswith("linux"):
            raise UnsupportedError(
                f"the sandbox needs Linux, and this is {sys.platform}",
                hint="run it in a container or a virtual machine with Linux and bubblewrap",
            )
        found = self._bwrap or shutil.which("bwrap")
        if found is None:
            raise ExtraMissingError(
                "other people's code is run only in a sandbox, and bubblewrap is not installed",
                hint=_INSTALL,
            )
        return found


@functools.cache
def _checked(bwrap: str, python: str) -> None:
    """Raise unless a sandbox can be made here."""
    fixed = [*_command(bwrap, SandboxConfig()), "--remount-ro", "/", "--"]
    try:
        done = subprocess.run(
            [*fixed, python, "-I", "-S", "-c", "print(1)"],
            capture_output=True,
            timeout=60,
            env={},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UnsupportedError(f"{bwrap} could not be run: {error}", hint=_INSTALL) from error
    if done.returncode or done.stdout != b"1\n":
        said = done.stderr.decode(errors="replace").strip()[-300:]
        raise UnsupportedError(f"no sandbox can be made here: {said}", hint=_ALLOW)


def _command(bwrap: str, config: SandboxConfig) -> list[str]:
    home = sys.base_prefix
    mounts = [path for path in _SYSTEM if os.path.exists(path)]
    if not home.startswith("/usr"):
        mounts.append(home)
    return [
        *(bwrap, "--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *(word for path in mounts for word in ("--ro-bind", path, path)),
        *("--dir", "/dev"),
        *(word for path in _DEVICES for word in ("--dev-bind", path, path)),
        *("--size", str(config.disk_mib * _MIB), "--tmpfs", "/tmp"),
        *("--ro-bind", str(_INSIDE), "/box/inside"),
    ]


@functools.cache
def _python() -> str:
    """The interpreter that environments are made from, which needs nothing of theirs."""
    version = sys.version_info
    for name in (f"python{version.major}.{version.minor}", "python3", "python"):
        path = Path(sys.base_prefix) / "bin" / name
        if path.is_file():
            return str(path)
    raise UnsupportedError(
        f"{sys.base_prefix}/bin holds no interpreter to run in the sandbox",
        hint="use an installation of Python with its own bin folder",
    )


def _filter() -> bytes:
    found = seccomp_filter()
    if found is None:
        raise UnsupportedError(
            f"the sandbox has no filter of system calls for {os.uname().machine}",
            hint="run it on a 64-bit machine of x86 or ARM",
        )
    return found


@contextmanager
def _in_memory(data: bytes) -> Iterator[str]:
    """A file descriptor, as text, from which ``data`` is read."""
    with _file(data) as file:
        yield str(file.fileno())


def _file(data: bytes) -> IO[bytes]:
    file = os.fdopen(os.memfd_create("lmstack"), "w+b")
    file.write(data)
    file.seek(0)
    return file


def _killed(process: subprocess.Popen[bytes]) -> None:
    """End the process; its namespace ends with it (``--die-with-parent``)."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _followed(process: subprocess.Popen[bytes], limit: int, deadline: float) -> Ran:
    """What the process writes, until it ends, has written more than ``limit`` bytes to either
    stream, or ``deadline`` has come."""
    assert process.stdout is not None
    assert process.stderr is not None
    texts = {process.stdout: bytearray(), process.stderr: bytearray()}
    end: End = "exit"
    with selectors.DefaultSelector() as selector:
        for stream in texts:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map() and end == "exit":
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                end = "time"
            for key, _ in ready:
                stream = key.fileobj  # type: ignore[assignment]
                piece = os.read(key.fd, _PIECE)
                texts[stream] += piece
                if not piece:
                    selector.unregister(stream)
                elif len(texts[stream]) > limit:
                    end = "output"
    status = _status(process, deadline) if end == "exit" else None
    kept = [bytes(text[:limit]) for text in texts.values()]
    if status is None:
        return Ran("time" if end == "exit" else end, signal.SIGKILL, *kept)
    # Bubblewrap ends with 128 and the number of the signal that ended the program.
    return Ran("signal", status - 128, *kept) if status > 128 else Ran("exit", status, *kept)


def _status(process: subprocess.Popen[bytes], deadline: float) -> int | None:
    """The exit status; None where it has closed its output and goes on over its time."""
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return None
