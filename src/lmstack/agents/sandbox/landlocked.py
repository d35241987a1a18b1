"""Isolation by Landlock, for where namespaces cannot be had: in most containers, for example.

The supervisor and its workers give up all rights on files but to read the system's libraries, the
interpreter and what they are given, and to write to a folder of their own. Everything else that
namespaces keep out, the filter of system calls does: the network, other processes, other programs.
Bytes and files in the folder are counted (`inside.quotas`). Whoever asked is watched through a
pipe: when it is closed, the worker is ended and the folder emptied.

What it cannot hide: that a path exists, its size and its times. A program that guesses a path can
tell them, though not read, list or change anything there. Setting modes and times of files does
nothing, and a file cannot be mapped to be written to.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lmstack.agents.sandbox.config import MIB, SandboxConfig, visible_paths
from lmstack.agents.sandbox.inside.folder import emptied
from lmstack.agents.sandbox.inside.landlock import version
from lmstack.agents.sandbox.isolation import INSIDE, IsolatedCommand, Job, supervisor
from lmstack.core import UnsupportedError

__all__ = ["Landlock"]

_HINT = (
    "use a kernel from Linux 5.13 on whose list of security modules (lsm=) has landlock, and a"
    " container whose seccomp profile lets its system calls pass"
)


@dataclass(frozen=True)
class Landlock:
    """``version``: of Landlock's rights that are used; unless given, all that the kernel has."""

    version: int | None = None
    name = "landlock"
    hint = _HINT

    def found(self) -> Landlock:
        return Landlock(self._version())

    @contextmanager
    def prepared(self, config: SandboxConfig, job: Job) -> Iterator[IsolatedCommand]:
        root = Path(tempfile.mkdtemp(prefix="lmstack-sandbox-"))
        watched, life = (
            os.fdopen(fd, mode) for fd, mode in zip(os.pipe(), ("rb", "wb"), strict=True)
        )
        try:
            for name in ("box", "inputs", "folder"):
                (root / name).mkdir(0o700)
            for name, content in job.files.items():
                (root / "box" / name).write_bytes(content)
            for name, given in job.inputs.items():
                path = root / "inputs" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if isinstance(given, bytes):
                    path.write_bytes(given)
                else:
                    shutil.copyfile(given, path)
            setup = config.setup(
                job.role,
                box=str(root / "box"),
                folder=str(root / "folder"),
                inputs=str(root / "inputs") if job.inputs else "",
                disk_bytes=config.disk_mib * MIB,
                landlock=self._version(),
                readable=[*visible_paths(), str(INSIDE)],
                life=watched.fileno(),
            )
            command = supervisor(str(INSIDE.parent), setup, job)
            yield IsolatedCommand(command, [watched.fileno()], life)
        finally:
            watched.close()
            life.close()
            emptied(str(root))
            root.rmdir()

    def _version(self) -> int:
        found = version() if sys.platform.startswith("linux") else 0
        if not found:
            raise UnsupportedError("this kernel gives programs no Landlock", hint=_HINT)
        return found if self.version is None else min(found, self.version)
