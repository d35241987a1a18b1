"""A PostgreSQL of the tests' own: made in a folder, reached by a socket in it or, where a port is
asked for, at 127.0.0.1; ended after use.

As root it runs as the user `postgres`, since the server refuses root. The newest version that
Debian's packages put under /usr/lib/postgresql is taken.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["postgres_server"]

_HINT = "apt-get install postgresql-17 postgresql-17-pgvector"


@contextmanager
def postgres_server(port: int | None = None) -> Iterator[str]:
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
    data = folder / "data"

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

    network = {"listen_addresses": "127.0.0.1", "port": port} if port else {"listen_addresses": ""}
    settings = {**network, "fsync": "off", "shared_buffers": "64MB"}
    given = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [programs / "postgres", "-D", data, "-k", folder, *given]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    try:
        kept_as = ["--encoding", "UTF8", "--no-locale"]  # whatever this machine's locale is
        call("initdb", "-D", str(data), "-U", "postgres", "-A", "trust", *kept_as, "--no-sync")
        with subprocess.Popen(command, user=user, cwd=folder, **quiet) as server:
            try:
                _wait_for(server, data / "postmaster.pid")
                yield f"postgresql://postgres@/postgres?host={folder}&port={port or 5432}"
            finally:
                server.send_signal(signal.SIGQUIT)  # at once, without writing anything back
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(server: subprocess.Popen[bytes], state: Path) -> None:
    """The server writes into this file how far it is."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "PostgreSQL ended"
        if state.exists() and state.read_text().rstrip().endswith("ready"):
            return
        time.sleep(0.02)
    raise AssertionError("PostgreSQL does not get ready")
