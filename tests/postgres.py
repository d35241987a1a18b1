"""A PostgreSQL of the tests' own: made in a folder, reached by a socket in it, ended after use.

As root it runs as the user `postgres`, since the server refuses root. The newest version that
Debian's packages put under /usr/lib/postgresql is taken.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["postgres_server"]

_HINT = "apt-get install postgresql-17 postgresql-17-pgvector"


@contextmanager
def postgres_server() -> Iterator[str]:
    """The address of an empty database, without durability across power cuts: it is fast."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    if not found:
        pytest.skip(f"PostgreSQL is not installed: {_HINT}")
    programs = found[-1].parent
    user = "postgres" if os.geteuid() == 0 else None
    # Not in pytest's folders: those are closed to other users, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="lmstack-pg-"))
    if user is not None:
        shutil.chown(folder, user)
    data, log = folder / "data", folder / "log"

    def call(*command: str) -> None:
        subprocess.run(
            [programs / command[0], *command[1:]],
            check=True,
            user=user,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
        )

    options = f"-c listen_addresses= -k {folder} -c fsync=off -c shared_buffers=64MB"
    try:
        call("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        call("pg_ctl", "-D", str(data), "-l", str(log), "-w", "-o", options, "start")
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            call("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
