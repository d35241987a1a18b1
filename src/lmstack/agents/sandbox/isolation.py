"""What keeps a program in: the seam between a sandbox and the two ways to make one.

Both start the same supervisor (`inside.start`), whose workers confine themselves with the same
limits and filter of system calls. They differ in what bounds files and processes from outside.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from lmstack.agents.sandbox.config import SandboxConfig, interpreter

__all__ = ["INSIDE", "Input", "IsolatedCommand", "Isolation", "Job", "in_memory", "supervisor"]

INSIDE = Path(__file__).parent / "inside"
Input = bytes | Path


@dataclass(frozen=True)
class Job:
    """What is started: a ``role`` of `inside.start` with its ``arguments``. ``files``: by their
    names, what it runs; ``inputs``: by their paths, what it is given to read."""

    role: str
    arguments: Sequence[str]
    files: Mapping[str, bytes]
    inputs: Mapping[str, Input]


@dataclass(frozen=True)
class IsolatedCommand:
    """A command to start, with the file descriptors that it inherits. ``life``: to be closed in
    order to end it; None: killing its process group is enough."""

    command: Sequence[str]
    fds: Sequence[int]
    life: IO[bytes] | None = None


class Isolation(Protocol):
    """``hint``: what to do where the kernel refuses it."""

    def __hash__(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def hint(self) -> str: ...

    def found(self) -> Isolation:
        """The same with what there is of it here; `ExtraMissingError` or `UnsupportedError` where
        there is nothing, with what to do."""
        ...

    def prepared(self, config: SandboxConfig, job: Job) -> AbstractContextManager[IsolatedCommand]:
        """What a process needs while it runs; removed afterwards."""
        ...


def supervisor(home: str, setup: Mapping[str, Any], job: Job) -> list[str]:
    """The command of the supervisor, whose code is in the folder ``inside`` of ``home``."""
    boot = f"import sys; sys.path.insert(0, {home!r}); from inside.start import main; main()"
    named = json.dumps({"name": f"lmstack-sandbox-{secrets.token_hex(8)}", **setup})
    python = [interpreter(), "-I", "-S", "-B", "-X", "utf8", "-c", boot]
    return [*python, named, job.role, *job.arguments]


def in_memory(data: bytes) -> IO[bytes]:
    """A file of ``data`` without a name, to be read from its beginning."""
    file: IO[bytes] = os.fdopen(os.memfd_create("lmstack"), "w+b")
    file.write(data)
    file.seek(0)
    return file
