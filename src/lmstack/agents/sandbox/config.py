"""What a sandbox is held to, and what of this machine is visible in it."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lmstack.core import Config, InputError, UnsupportedError, allowed, shown

__all__ = ["MIB", "SandboxConfig", "interpreter", "visible_paths"]

MIB = 1 << 20
_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/nix/store", "/etc/ld.so.cache")


@dataclass(frozen=True)
class SandboxConfig(Config):
    """``cpu_s``: seconds of processor time; ``wall_s``: of the clock, which also stops a program
    that waits; both of a program, or of one call of a session. ``session_cpu_s``,
    ``session_wall_s``: of all its calls together. ``memory_mib``: of address space; ``disk_mib``:
    of the folder that is written to; ``file_mib``: of one file, unless given ``disk_mib``;
    ``files``: files, folders and links in it. ``output_bytes``: of output and errors, each.
    ``packages``: folders of Python packages (``site-packages``) that can be imported from, read
    only; without them there is the standard library. It is always one process of one thread."""

    cpu_s: int = allowed(3, int, 1, 3600)
    wall_s: float = allowed(10.0, float, 0, 86_400, above=True)
    session_cpu_s: int = allowed(60, int, 1, 86_400)
    session_wall_s: float = allowed(600.0, float, 0, 864_000, above=True)
    memory_mib: int = allowed(512, int, 32, 1 << 20)
    disk_mib: int = allowed(16, int, 1, 1 << 20)
    file_mib: int | None = allowed(None, int, 1, 1 << 20)
    files: int = allowed(1000, int, 1, 1_000_000)
    output_bytes: int = allowed(64 * 1024, int, 1, 1 << 30)
    packages: tuple[str, ...] = allowed((), str, 0, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        for path in self.packages:
            if not (os.path.isabs(path) and os.path.isdir(path)):
                raise InputError(
                    f"packages has {shown(path)}, which is no folder",
                    hint="name folders by their whole paths",
                    param="packages",
                )

    def limits(self, cpu_s: float) -> dict[str, int]:
        """Of a process with so much processor time, by the names of `resource`."""
        return {
            "RLIMIT_CPU": math.ceil(cpu_s),
            "RLIMIT_AS": self.memory_mib * MIB,
            "RLIMIT_FSIZE": (self.file_mib or self.disk_mib) * MIB,
            "RLIMIT_NOFILE": 64,
            "RLIMIT_CORE": 0,
        }

    def setup(self, role: str, **places: Any) -> Mapping[str, Any]:
        """For `inside.confinement.Setup`, with the places that an isolation adds."""
        # A session's supervisor ends a call over its time; this is for where it does not.
        cpu_s = self.session_cpu_s + 1 if role == "session" else self.cpu_s
        return {
            "limits": self.limits(cpu_s),
            "files": self.files,
            "packages": self.packages,
            **places,
        }


@cache
def interpreter() -> str:
    """The one that environments are made from, which needs nothing of theirs."""
    version = sys.version_info
    for name in (f"python{version.major}.{version.minor}", "python3", "python"):
        path = Path(sys.base_prefix) / "bin" / name
        if path.is_file():
            return str(path)
    raise UnsupportedError(
        f"{sys.base_prefix}/bin holds no interpreter to run in the sandbox",
        hint="use an installation of Python with its own bin folder",
    )


@cache
def visible_paths() -> tuple[str, ...]:
    """The system's libraries and the interpreter."""
    found = [path for path in _SYSTEM if os.path.exists(path)]
    return (*found, *(() if sys.base_prefix.startswith("/usr") else (sys.base_prefix,)))
