"""Isolation by Linux's namespaces, made by bubblewrap.

What runs sees the system's libraries and the interpreter, read-only, a small folder of its own in
memory, and nothing else: no network, no /proc, no home, no other process. All of its namespace is
killed when its time is over or when the thread that started it ends.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lmstack.agents.sandbox.config import MIB, SandboxConfig, visible_paths
from lmstack.agents.sandbox.isolation import INSIDE, IsolatedCommand, Job, in_memory, supervisor
from lmstack.core import ExtraMissingError, InputError, UnsupportedError, shown

__all__ = ["ALLOW", "INSTALL", "Bubblewrap"]

_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")
_NOBODY = "65534"
_BOX, _FOLDER, _INPUTS = "/box", "/tmp", "/inputs"
INSTALL = "sudo apt-get install bubblewrap, or your system's package of that name"
ALLOW = (
    "allow unprivileged user namespaces, with an AppArmor profile for bwrap or with sudo sysctl"
    " kernel.apparmor_restrict_unprivileged_userns=0 (on Debian kernel.unprivileged_userns_clone=1)"
)


@dataclass(frozen=True)
class Bubblewrap:
    """``program``: bwrap; unless given, that of the path."""

    program: str | None = None
    name = "bubblewrap"
    hint = ALLOW

    def found(self) -> Bubblewrap:
        return Bubblewrap(self._program())

    @contextmanager
    def prepared(self, config: SandboxConfig, job: Job) -> Iterator[IsolatedCommand]:
        with ExitStack() as stack:
            data = {f"{_BOX}/{name}": content for name, content in job.files.items()}
            binds = []
            for name, given in job.inputs.items():
                if isinstance(given, bytes):
                    data[f"{_INPUTS}/{name}"] = given
                else:
                    binds += ["--ro-bind", str(given), f"{_INPUTS}/{name}"]
            fds = []
            for path, content in data.items():
                fd = stack.enter_context(in_memory(content)).fileno()
                fds.append(fd)
                binds += ["--ro-bind-data", str(fd), path]
            places = {"box": _BOX, "folder": _FOLDER, "inputs": _INPUTS if job.inputs else ""}
            command = [
                *_command(self._program(), config),
                *(*binds, "--remount-ro", "/", "--chdir", _FOLDER, "--"),
                *supervisor(_BOX, config.setup(job.role, **places), job),
            ]
            yield IsolatedCommand(command, fds)

    def _program(self) -> str:
        if not sys.platform.startswith("linux"):
            raise UnsupportedError(
                f"the sandbox needs Linux, and this is {sys.platform}",
                hint="run it in a container or a virtual machine with Linux and bubblewrap",
            )
        found = self.program or shutil.which("bwrap")
        if found is None:
            raise ExtraMissingError(
                "other people's code is run only in a sandbox, and bubblewrap is not installed",
                hint=INSTALL,
            )
        return found


def _command(program: str, config: SandboxConfig) -> list[str]:
    hidden = next((path for path in config.packages if f"{path}/".startswith(f"{_FOLDER}/")), None)
    if hidden is not None:
        raise InputError(
            f"packages has {shown(hidden)}, and {_FOLDER} is the sandbox's own folder",
            hint="use an environment in another place",
            param="packages",
        )
    return [
        *(program, "--unshare-all", "--unshare-user", "--uid", _NOBODY, "--gid", _NOBODY),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"),
        *(word for path in visible_paths() for word in ("--ro-bind", path, path)),
        *(word for path in config.packages for word in ("--ro-bind", path, path)),
        *("--dir", "/dev"),
        *(word for path in _DEVICES for word in ("--dev-bind", path, path)),
        *("--size", str(config.disk_mib * MIB), "--tmpfs", _FOLDER),
        *("--ro-bind", str(INSIDE), f"{_BOX}/inside"),
    ]
