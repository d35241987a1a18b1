"""lmstack as a stranger meets it: real processes, a store of their own, hostile surroundings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Ran = subprocess.CompletedProcess[str]
Process = Callable[..., Ran]


@pytest.fixture
def surroundings(tmp_path: Path) -> dict[str, str]:
    """Environment of a process whose store is an empty folder."""
    kept = ("PATH", "HOME", "LANG", "SYSTEMROOT", "TMPDIR")
    plain = {name: os.environ[name] for name in kept if name in os.environ}
    return {**plain, "LMSTACK_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def lmstack(surroundings: dict[str, str], tmp_path: Path) -> Process:
    """``lmstack("model", "list", "--json")`` as a process; ``shell`` redirects its streams."""

    def call(
        *arguments: str, shell: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "lmstack", *arguments]
        if shell:
            line = ["/bin/sh", "-c", f'"$@" {shell}', "sh", *line]
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            env=surroundings | variables,
            cwd=tmp_path,
            timeout=60,
        )

    return call
