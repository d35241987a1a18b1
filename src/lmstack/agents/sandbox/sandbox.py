"""Programs of Python that nobody has read, run where they can do no harm.

A program is one process of one thread, without capabilities, under hard limits on processor time,
memory, files and output, and a filter of system calls. It has no network, no other process, no
home and no environment of ours, and it dies with this process. `bubblewrap` or `landlocked` keeps
files and processes from it.

Fails closed: where neither can be had nothing is run, and before the first program a harmless one
tries to get out, which must fail. Does not cover what was run (`code_tests`), nor faults of the
kernel itself.
"""

from __future__ import annotations

import functools
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, get_args

from lmstack.agents.sandbox.bubblewrap import Bubblewrap
from lmstack.agents.sandbox.config import SandboxConfig
from lmstack.agents.sandbox.inside.system_calls import ARCHITECTURES
from lmstack.agents.sandbox.isolation import Input, Isolation, Job, in_memory
from lmstack.agents.sandbox.landlocked import Landlock
from lmstack.agents.sandbox.processes import Ran, Running, followed
from lmstack.agents.sandbox.session import SandboxSession
from lmstack.core import ExtraMissingError, InputError, LmstackError, UnsupportedError, shown

__all__ = ["IsolationName", "Sandbox"]

IsolationName = Literal["auto", "bubblewrap", "landlock"]
_PROBE_S = 60.0
# Prints "held" where each attempt to get out is refused, and says otherwise which were not.
_PROBE = """
import os, socket
attempts = (
    os.fork, socket.socket, lambda: open("/etc/passwd"), lambda: os.kill(os.getppid(), 0),
    lambda: os.execv("/bin/sh", ["sh", "-c", "exit"]), lambda: os.listdir("/proc"),
    lambda: open("/lmstack-probe", "w"),
)
def is_refused(attempt):
    try:
        attempt()
    except OSError:
        return True
left = [n for n, attempt in enumerate(attempts) if not is_refused(attempt)]
if left:
    raise SystemExit(f"open {left}")
with open("probe", "w") as file:
    file.write("a folder to write to")
print("held")
"""


class Sandbox:
    """Makes sandboxes of one kind. ``isolation``: ``bubblewrap``, ``landlock``, or ``auto``, the
    first of them that can be had. ``bwrap``: bubblewrap's program; unless given, that of the
    path."""

    def __init__(
        self,
        config: SandboxConfig | None = None,
        *,
        isolation: IsolationName = "auto",
        bwrap: str | None = None,
    ) -> None:
        if isolation not in get_args(IsolationName):
            raise InputError(
                f"isolation is {shown(isolation)}",
                hint=f"it is {', '.join(get_args(IsolationName))}",
                param="isolation",
            )
        self.config = SandboxConfig() if config is None else config
        kinds: dict[str, Isolation] = {"bubblewrap": Bubblewrap(bwrap), "landlock": Landlock()}
        self._kinds = [*kinds.values()] if isolation == "auto" else [kinds[isolation]]

    def check(self) -> None:
        """`ExtraMissingError` or `UnsupportedError` where no sandbox can be made, with what to
        do."""
        self._isolation()

    @property
    def isolation(self) -> str:
        """The name of what is used here; the errors of `check`."""
        return self._isolation().name

    def run(self, program: str, arguments: Sequence[str] = (), *, stdin: bytes = b"") -> Ran:
        """Run the text ``program`` as a script of Python, to its end."""
        self.check()
        deadline = time.monotonic() + self.config.wall_s
        files = {"program.py": program.encode("utf-8", "surrogatepass")}
        with self.started("program", arguments, files, stdin=stdin) as process:
            return followed(process, self.config.output_bytes, deadline)

    def session(
        self,
        files: Mapping[str, bytes] | None = None,
        inputs: Mapping[str, Input] | None = None,
    ) -> SandboxSession:
        """A context in which one call of Python after the other sees what the earlier ones
        defined. ``files``: put into its working folder, by their paths there; ``inputs``: bytes, or
        files of this machine, that it can only read, in the folder ``inputs``."""
        return SandboxSession(self._isolation(), self.config, files or {}, inputs or {})

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
        """A process in the ``role`` of `inside.start`, with ``files`` by their names and the file
        descriptors ``fds``; ended with all that it started at the end. ``stdin`` None: it has no
        output either."""
        job = Job(role, arguments, files, {})
        with ExitStack() as stack:
            prepared = stack.enter_context(self._isolation().prepared(self.config, job))
            sink = subprocess.DEVNULL if stdin is None else subprocess.PIPE
            source = sink if stdin is None else stack.enter_context(in_memory(stdin))
            running = Running(prepared, fds, stdin=source, stdout=sink, stderr=sink)
            yield stack.enter_context(running)

    def _isolation(self) -> Isolation:
        refusals: list[LmstackError] = []
        for kind in self._kinds:
            try:
                return _checked(kind.found())
            except (ExtraMissingError, UnsupportedError) as error:
                refusals.append(error)
        if len(refusals) == 1:
            raise refusals[0]
        raise type(refusals[0])(
            "; and ".join(error.message for error in refusals),
            hint="; or ".join(error.hint for error in refusals if error.hint),
        )


@functools.cache
def _checked(kind: Isolation) -> Isolation:
    """Raise unless a program runs with this isolation and does not get out."""
    if platform.machine() not in ARCHITECTURES:
        raise UnsupportedError(
            f"the sandbox has no filter of system calls for {platform.machine()}",
            hint="run it on a 64-bit machine of x86 or ARM",
        )
    job = Job("program", (), {"program.py": _PROBE.encode()}, {})
    pipe = subprocess.PIPE
    try:
        with (
            kind.prepared(SandboxConfig(cpu_s=60), job) as prepared,
            Running(prepared, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe) as process,
        ):
            done = followed(process, 4096, time.monotonic() + _PROBE_S)
    except OSError as error:
        raise UnsupportedError(f"{kind.name} could not be run: {error}", hint=kind.hint) from error
    if done.end != "exit" or done.status or done.stdout != b"held\n":
        said = (done.stderr or done.stdout).decode(errors="replace").strip()[-300:]
        raise UnsupportedError(f"no sandbox can be made here: {said or done.end}", hint=kind.hint)
    return kind
